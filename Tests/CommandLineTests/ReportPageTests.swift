import Foundation
import QMTestSupport
import Testing

@Suite("--report") struct ReportPageTests {
  let folder: Folder
  init() throws { folder = try Folder() }

  private func text(_ name: String) throws -> String {
    String(decoding: try Data(contentsOf: URL(fileURLWithPath: folder.path(name))), as: UTF8.self)
  }

  private func schema() throws -> JSONSchema {
    try JSONSchema(
      Data(contentsOf: Fixture.root.appendingPathComponent("schema/report.schema.json")))
  }

  private func convert(_ report: String, _ options: String...) throws -> Tool.Result {
    try Tool.qconvert.run(
      [
        Fixture.model, folder.path("out.qm"), "--bits", "3", "--samples", Fixture.calibration,
        "--report", folder.path(report), "--quiet",
      ] + options)
  }

  /// Every number with all its digits is one of the JSON that the same run prints.
  private func expectNumbers(of page: String, in json: String) throws {
    let numbers = page.matches(of: /(?:<data |data-)value="([^"]*)"/).map { String($0.output.1) }
    #expect(numbers.count > 30)
    let known = Set(json.matches(of: /[-0-9.e+]+|Infinity/).map { String($0.output) })
      .map { Double($0).map { "\($0)" } ?? $0 }
    for number in Set(numbers) {
      #expect(known.contains(Double(number).map { "\($0)" } ?? number), "\(number)")
    }
  }

  @Test func aConversionHasAPage() throws {
    let converted = try convert("report.html", "--json")
    #expect(converted.status == 0, "\(converted.errors)")
    let page = try text("report.html")
    #expect(page.hasPrefix("<!DOCTYPE html>\n<html lang=\"en\">"))
    for heading in [
      "Size and quality", "Error along the network", "Activations and their ranges",
      "Bits of each tensor", "Weights and their codes", "Outputs", "How the nodes run",
    ] {
      #expect(page.contains("<h2>\(heading)</h2>"), "\(heading)")
    }
    #expect(page.matches(of: #/class="area behind"/#).count == 3)
    try expectNumbers(of: page, in: converted.output)
    #expect(try schema().problems(of: converted.output, as: "conversion") == [])
    let weights = try #require(try converted.json["weights"] as? [[String: Any]])
    #expect(weights.count == 3)
    for tensor in weights {
      let codes = try #require(tensor["codes"] as? [String: Any])
      let counts = try #require(codes["counts"] as? [Int])
      let count = try #require(tensor["count"] as? Int)
      #expect(counts.reduce(0, +) == count)
      // The float weights lie where the codes do: few moved by more than a code.
      let floats = try #require(codes["floats"] as? [String: Any])
      let behind = try #require(floats["counts"] as? [Int])
      #expect(behind.reduce(0, +) == count)
      let bins = behind.count / counts.count
      let moved = counts.indices.reduce(0) { sum, code in
        sum + abs(behind[code * bins..<(code + 1) * bins].reduce(0, +) - counts[code])
      }
      #expect(moved < count / 2, "\(moved) of \(count)")
      let (bits, bytes) = (tensor["stored_bits"] as? Double, tensor["bytes"] as? Int)
      #expect(abs(try #require(bits) * Double(count) - 8 * Double(try #require(bytes))) < 1e-6)
    }
    // Without --report the JSON is as short as before.
    let short = try Tool.qconvert(
      Fixture.model, folder.path("other.qm"), "--bits", "3", "--samples", Fixture.calibration,
      "--json", "--quiet")
    #expect(try short.json["values"] == nil && short.json["nodes"] == nil)
    #expect(try schema().problems(of: short.output, as: "conversion") == [])
    // The report does not change the file.
    #expect(
      try Data(contentsOf: URL(fileURLWithPath: folder.path("out.qm")))
        == Data(contentsOf: URL(fileURLWithPath: folder.path("other.qm"))))
    #expect(try convert("again.html", "--threads", "3").status == 0)
    #expect(try text("again.html") == page)
  }

  @Test func theNamesEndDecidesTheForm() throws {
    let converted = try convert("report.json", "--json")
    #expect(try text("report.json") == converted.output)
    let refused = try convert("report.pdf")
    #expect(refused.status == 64)
    #expect(refused.errors.contains("expected a name that ends in .html or .json"))
  }

  @Test func aFailureLeavesTheReportAlone() throws {
    try Data("old".utf8).write(to: URL(fileURLWithPath: folder.path("report.html")))
    #expect(try convert("report.html", "--min-sqnr", "90").status == 2)
    #expect(try text("report.html") == "old")
    #expect(try folder.names == ["report.html"])
    #expect(try convert("none/report.html").status == 73)
    #expect(try folder.names == ["report.html"])
  }

  @Test func noFileOfTheCommandIsReplaced() throws {
    let model = folder.path("model.html")
    try FileManager.default.copyItem(atPath: Fixture.model, toPath: model)
    let refused = try Tool.qconvert(
      model, folder.path("out.qm"), "--report", model, "--samples", Fixture.calibration)
    #expect(refused.status == 64, "\(refused.errors)")
    let same = try Tool.qconvert(
      Fixture.model, folder.path("out.json"), "--report", folder.path("out.json"))
    #expect(same.status == 64)
    #expect(try folder.names == ["model.html"])
  }

  @Test func whatFailsHasAPageToo() throws {
    #expect(try convert("report.html").status == 0)
    let arguments = [
      folder.path("out.qm"), Fixture.evaluation, "--reference", Fixture.model, "--limit-samples",
      "8", "--json", "--quiet", "--report", folder.path("report.html"),
    ]
    let failed = try Tool.qverify.run(arguments + ["--tolerance", "80", "--profile"])
    #expect(failed.status == 1)
    let page = try text("report.html")
    #expect(page.contains("The file failed: "))
    #expect(page.contains("<h2>Slowest nodes</h2>"))
    try expectNumbers(of: page, in: failed.output)
    #expect(try schema().problems(of: failed.output, as: "verification") == [])
    let passed = try Tool.qverify.run(arguments + ["--tolerance", "1"])
    #expect(passed.status == 0, "\(passed.errors)")
    #expect(try text("report.html").contains("The file passed"))
    #expect(try !text("report.html").contains("Slowest nodes"))
  }

  @Test func aTrainingHasAPage() throws {
    let tuned = try Tool.qtune(
      Fixture.model, folder.path("out.qm"), "--samples", Fixture.calibration, "--bits", "2",
      "--steps", "30", "--json", "--quiet", "--report", folder.path("report.html"))
    #expect(tuned.status == 0, "\(tuned.errors)")
    let page = try text("report.html")
    #expect(page.contains("<h2>Training over time</h2>"))
    try expectNumbers(of: page, in: tuned.output)
    #expect(try schema().problems(of: tuned.output, as: "tuning") == [])
    #expect((try tuned.json["history"] as? [Any])?.count == 30)
  }

  @Test func dryRunsAndArraysHavePages() throws {
    let dry = try Tool.qconvert(
      Fixture.model, "--dry-run", "--samples", Fixture.calibration, "--json", "--quiet", "--report",
      folder.path("report.html"))
    #expect(dry.status == 0, "\(dry.errors)")
    #expect(try text("report.html").contains("All dots are measured"))
    try expectNumbers(of: text("report.html"), in: dry.output)
    #expect(try schema().problems(of: dry.output, as: "dry_run") == [])
    let arrays = Fixture.root.appendingPathComponent("fixtures/models/digits_mlp/weights.npz").path
    guard FileManager.default.fileExists(atPath: arrays) else { return }
    let converted = try Tool.qconvert(
      arrays, folder.path("w.qm"), "--bits", "4", "--json", "--quiet", "--report",
      folder.path("w.html"))
    #expect(converted.status == 0, "\(converted.errors)")
    #expect(try schema().problems(of: converted.output, as: "checkpoint") == [])
  }

  /// Where each run computes its own ranges, they are drawn with the numbers.
  @Test func rangesOfRunsAreDrawn() throws {
    let converted = try convert("report.html", "--activations", "dynamic", "--json")
    #expect(converted.status == 0, "\(converted.errors)")
    let page = try text("report.html")
    #expect(page.contains("ranges of runs: ") && page.contains("narrowest "))
    try expectNumbers(of: page, in: converted.output)
    #expect(try schema().problems(of: converted.output, as: "conversion") == [])
    let values = try #require(try converted.json["values"] as? [[String: Any]])
    let ranges = values.compactMap { $0["run_ranges"] as? [String: Any] }
    // The inputs of the three products, one row in each of the samples.
    #expect(ranges.count == 3)
    #expect(Set(ranges.compactMap { $0["count"] as? Int }).count == 1)
    for range in ranges {
      func end(_ range: String, _ end: String, of ranges: [String: Any]) -> Double {
        (ranges[range] as? [String: Double])?[end] ?? .nan
      }
      #expect(end("all", "low", of: range) <= end("narrowest", "low", of: range))
      #expect(end("all", "high", of: range) >= end("narrowest", "high", of: range))
      let histogram = try #require(range["histogram"] as? [String: Any])
      let counts = try #require(histogram["counts"] as? [Int])
      #expect(try counts.reduce(0, +) % #require(range["count"] as? Int) == 0)
      #expect(counts.reduce(0, +) > 0)
    }
  }

  // MARK: qinspect --graph

  @Test func networksAreDrawn() throws {
    #expect(try convert("report.html").status == 0)
    let (file, svg) = (folder.path("out.qm"), folder.path("graph.svg"))
    let drawn = try Tool.qinspect(file, "--graph", svg, "--json")
    #expect(drawn.status == 0, "\(drawn.errors)")
    let nodes = try #require(try drawn.json["nodes"] as? [Any])
    let picture = try text("graph.svg")
    #expect(picture.matches(of: #/class="box /#).count == nodes.count)
    #expect(picture.contains("of multiply-adds") && picture.contains(" bits"))
    let shares = picture.matches(of: /class="share bytes" data-value="([^"]*)"/)
      .compactMap { Double($0.output.1) }
    #expect(!shares.isEmpty && shares.reduce(0, +) <= 1.0001)
    #expect(try Tool.qinspect(file, "--graph", folder.path("graph.dot")).status == 0)
    #expect(try text("graph.dot").hasPrefix("digraph network {"))
    #expect(try Tool.qinspect(file, "--graph", folder.path("graph.png")).status == 64)
    let replacing = try Tool.qinspect(file, "--graph", file)
    #expect(replacing.status == 64)
  }

  /// A float network is drawn as the file has it: shapes, and shares of bytes and work.
  @Test func floatNetworksAreDrawn() throws {
    let svg = folder.path("float.svg")
    let drawn = try Tool.qinspect(Fixture.model, "--graph", svg)
    #expect(drawn.status == 0, "\(drawn.errors)")
    let picture = try text("float.svg")
    #expect(picture.contains("MatrixMultiply, float") && picture.contains(", 10]"), "\(picture)")
    #expect(picture.contains("Unary, relu, float"))
    for kind in ["bytes", "work"] {
      let shares = picture.matches(of: try Regex(#"class="share \#(kind)" data-value="([^"]*)""#))
        .compactMap { $0.output[1].substring.flatMap { Double($0) } }
      // Three products; what else there is has too few bytes for a bar.
      #expect(shares.count == 3 && abs(shares.reduce(0, +) - 1) < 0.05, "\(kind): \(shares)")
    }
    #expect(try Tool.qinspect(Fixture.model, "--graph", folder.path("float.dot")).status == 0)
    #expect(try text("float.dot").contains("MatrixMultiply, float\\n["))
  }
}
