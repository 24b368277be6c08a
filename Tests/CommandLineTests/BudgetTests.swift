import Foundation
import QMNumPy
import QMTensor
import QMTestSupport
import Testing

@Suite("Budgets of the tools") struct BudgetTests {
  let folder: Folder
  init() throws { folder = try Folder() }

  private func bytes(_ name: String) throws -> Data {
    try Data(contentsOf: URL(fileURLWithPath: folder.path(name)))
  }

  private func convert(_ name: String, _ options: String...) throws -> Tool.Result {
    try Tool.qconvert.run(
      [Fixture.model, folder.path(name), "--samples", Fixture.calibration] + options)
  }

  /// The file is the one that the same number of bits gives, on any number of threads.
  @Test func aTargetSizeIsKept() throws {
    for threads in ["1", "3"] {
      let converted = try convert(
        "\(threads).qm", "--target-size", "9kB", "--json", "--quiet", "--threads", threads)
      #expect(converted.status == 0, "\(converted.errors)")
      let report = try converted.json
      let bits = try #require(report["bits"] as? Double)
      #expect(bits > 1.5 && bits < 8)
      let size = try bytes("\(threads).qm").count
      #expect(size <= 9000 && size > 8700)
      let budget = try #require(report["budget"] as? [String: Any])
      #expect(budget["target_bytes"] as? Int == 9000)
      #expect(budget["bits"] as? Double == bits)
      let trials = try #require(budget["trials"] as? [[String: Any]])
      #expect(trials.contains { $0["bits"] as? Double == bits && $0["bytes"] as? Int == size })
      #expect(trials.allSatisfy { $0["predicted_bytes"] as? Int != nil })
      let asked = try convert("bits.qm", "--bits", "\(bits)")
      #expect(asked.status == 0, "\(asked.errors)")
      #expect(try bytes("bits.qm") == bytes("\(threads).qm"))
    }
    #expect(try bytes("1.qm") == bytes("3.qm"))
  }

  @Test func aLargeTargetTakesEightBits() throws {
    let converted = try convert("out.qm", "--target-size", "1MiB", "--json")
    #expect(converted.status == 0, "\(converted.errors)")
    #expect(try converted.json["bits"] as? Double == 8)
  }

  @Test func anImpossibleTargetNamesTheSmallestSize() throws {
    let refused = try convert("out.qm", "--target-size", "1kB")
    #expect(refused.status == 64)
    #expect(refused.errors.contains("no file of at most 1000 bytes: the smallest has"))
    #expect(try folder.names.isEmpty)
  }

  @Test func withoutSamplesATargetSizeIsKeptToo() throws {
    let converted = try Tool.qconvert(
      Fixture.model, folder.path("out.qm"), "--target-size", "10kB", "--json")
    #expect(converted.status == 0, "\(converted.errors)")
    #expect(try bytes("out.qm").count <= 10_000)
  }

  // MARK: Dry runs

  @Test func aDryRunPrintsTheTableAndWritesNothing() throws {
    let dry = try Tool.qconvert(
      Fixture.model, "--dry-run", "--samples", Fixture.calibration, "--json")
    #expect(dry.status == 0, "\(dry.errors)")
    let budget = try #require(try dry.json["budget"] as? [String: Any])
    let trials = try #require(budget["trials"] as? [[String: Any]])
    let bits = trials.compactMap { $0["bits"] as? Double }
    #expect(bits.sorted(by: >) == [8, 6, 5, 4, 3, 2.5, 2, 1.5])
    for (index, trial) in trials.enumerated() {
      let size = try #require(trial["bytes"] as? Double)
      let predicted = try #require(trial["predicted_bytes"] as? Double)
      #expect(abs(predicted - size) < (index == 0 ? 0.3 : 0.1) * size, "\(trial)")
      #expect(trial["sqnr_db"] as? Double != nil)
      #expect((trial["predicted_sqnr_db"] as? Double != nil) == (index > 0))
    }
    // What it measures is what a conversion gives.
    let converted = try convert("out.qm", "--bits", "3", "--json")
    let report = try converted.json
    let outputs = try #require(report["outputs"] as? [[String: Any]])
    let three = try #require(trials.first { $0["bits"] as? Double == 3 })
    #expect(three["bytes"] as? Int == (try bytes("out.qm").count))
    #expect(three["sqnr_db"] as? Double == outputs[0]["sqnr_db"] as? Double)

    let nodes = try #require(try dry.json["nodes"] as? [[String: Any]])
    #expect(nodes.count == 3)
    let shares = nodes.compactMap { $0["error_share"] as? Double }
    #expect(abs(shares.reduce(0, +) - 1) < 1e-9)
    let costs = nodes.compactMap { $0["db_per_kb"] as? Double }
    #expect(costs == costs.sorted(by: >) && costs.last! > 0)

    let text = try Tool.qconvert(
      Fixture.model, folder.path("no.qm"), "--dry-run", "--samples", Fixture.calibration)
    #expect(text.status == 0, "\(text.errors)")
    #expect(text.output.contains("dB per kB"))
    #expect(text.output.contains("with 4 bits"))
    #expect(try folder.names == ["out.qm"])
  }

  @Test func aDryRunOfABudgetPrintsWhatItTries() throws {
    let dry = try convert("out.qm", "--dry-run", "--target-size", "9kB", "--json")
    #expect(dry.status == 0, "\(dry.errors)")
    let budget = try #require(try dry.json["budget"] as? [String: Any])
    #expect(budget["target_bytes"] as? Int == 9000)
    #expect((budget["trials"] as? [Any])?.count ?? 9 <= 5)
    #expect(try folder.names.isEmpty)
  }

  // MARK: Losses

  /// A metric that prints these lines, one in each call.
  private func metric(_ lines: String...) throws -> String {
    let script = folder.path("metric.sh")
    let text = """
      test -d "$1" || exit 9
      ls "$1" > "$0.names"
      n=$(cat "$0.count" 2>/dev/null || echo 0)
      echo $((n + 1)) > "$0.count"
      shift $#
      set -- \(lines.map { "'\($0)'" }.joined(separator: " "))
      shift $n
      echo "$1"
      """
    try text.write(toFile: script, atomically: true, encoding: .utf8)
    try? FileManager.default.removeItem(atPath: script + ".count")
    return "sh '\(script)'"
  }

  @Test func theMetricGetsTheOutputsOfItsSamples() throws {
    let (calibration, evaluation) = (Fixture.calibration, Fixture.evaluation)
    func names(_ samples: String) throws -> Set<String> {
      let names = try FileManager.default.contentsOfDirectory(atPath: samples)
      return Set(names.map { $0.replacingOccurrences(of: ".npy", with: ".y.npy") })
    }
    func given() throws -> Set<String> {
      let text = try String(contentsOfFile: folder.path("metric.sh.names"), encoding: .utf8)
      return Set(text.split(separator: "\n").map(String.init))
    }
    let command = try metric("1", "1")
    let judged = try convert("a.qm", "--max-drop", "1000", "--metric", command, "--grid", "fixed")
    #expect(judged.status == 65, "a third call prints nothing")
    #expect(judged.errors.contains("printed ''"))
    let some = try given()
    #expect(some.count == 8)
    #expect(some.isSubset(of: try names(calibration)))
    let other = try convert(
      "a.qm", "--max-drop", "1%", "--metric", try metric("1", "1", "1", "1", "1", "1", "1"),
      "--metric-samples", evaluation, "--limit-samples", "16")
    #expect(other.status == 0, "\(other.errors)")
    #expect(try given() == names(evaluation))
  }

  /// The first call judges the float network. 3.5 bits are tried first, then fewer.
  @Test(arguments: [
    (["100", "99", "90", "90", "90", "90", "90"], "2", 3.5),
    (["100", "99", "90", "90", "90", "90", "90"], "2%", 3.5),
    (["100", "99", "98", "90", "90", "90", "90"], "2%", 3),
    (["50", "49.5", "40", "40", "40", "40", "40"], "1", 3.5),
    (["50", "49.5", "40", "40", "40", "40", "40"], "1%", 3.5),
    ([#"{"primary": 2}"#, "2", "1", "1", "1", "1"], "0", 3.5),
    (
      [
        #"{"primary": "e", "e": 1, "better": "lower"}"#, #"{"primary": 0, "better": "lower"}"#,
        #"{"primary": "e", "e": NaN, "better": "lower"}"#, "3", "3", "3", "3",
      ], "0", 3.5
    ),
  ])
  func theFewestBitsWithinALossAreFound(lines: [String], allowed: String, most: Double) throws {
    let script = try metric(lines[0])
    var text = try String(contentsOfFile: folder.path("metric.sh"), encoding: .utf8)
    text = text.replacingOccurrences(
      of: "'\(lines[0])'", with: lines.map { "'\($0)'" }.joined(separator: " "))
    try text.write(toFile: folder.path("metric.sh"), atomically: true, encoding: .utf8)
    let converted = try convert("out.qm", "--max-drop", allowed, "--metric", script, "--json")
    #expect(converted.status == 0, "\(converted.errors)")
    let report = try converted.json
    let bits = try #require(report["bits"] as? Double)
    let budget = try #require(report["budget"] as? [String: Any])
    let trials = try #require(budget["trials"] as? [[String: Any]])
    let drop = try #require(budget["drop"] as? [String: Any])
    let limit = try #require(drop["allowed"] as? Double)
    #expect(trials[0]["bits"] as? Double == 3.5)
    let good = trials.filter { ($0["drop"] as? Double).map { $0 <= limit } ?? false }
    #expect(bits == good.compactMap { $0["bits"] as? Double }.min())
    #expect(bits <= most)
    #expect(trials.count <= 5)
  }

  @Test func withoutAMetricRowsAreCounted() throws {
    let converted = try convert("out.qm", "--max-drop", "5%", "--json")
    #expect(converted.status == 0, "\(converted.errors)")
    let budget = try #require(try converted.json["budget"] as? [String: Any])
    let drop = try #require(budget["drop"] as? [String: Any])
    #expect(drop["measure"] as? String == "top-1 agreement")
    let trials = try #require(budget["trials"] as? [[String: Any]])
    let chosen = try #require(trials.first { $0["bits"] as? Double == budget["bits"] as? Double })
    #expect(try #require(chosen["drop"] as? Double) <= 0.05)
    // Few rows cannot show a small loss.
    let few = try convert("few.qm", "--max-drop", "0.01%")
    #expect(few.status == 0)
    #expect(few.errors.contains("32 rows without a change may hide a loss of 9.4 %"))
    let enough = try convert(
      "enough.qm", "--max-drop", "5%", "--metric-samples", Fixture.evaluation)
    #expect(enough.status == 0)
    #expect(!enough.errors.contains("may hide"))
  }

  /// The fewest bits that keep the loss alone are far worse.
  @Test func theRequiredQualityIsKeptToo() throws {
    let converted = try convert("out.qm", "--max-drop", "50%", "--min-sqnr", "25", "--json")
    #expect(converted.status == 0, "\(converted.errors)")
    let report = try converted.json
    let outputs = try #require(report["outputs"] as? [[String: Any]])
    #expect(try #require(outputs[0]["sqnr_db"] as? Double) >= 25)
    #expect(try #require(report["bits"] as? Double) < 8)
    let refused = try convert("no.qm", "--max-drop", "50%", "--min-sqnr", "90")
    #expect(refused.status == 2)
    #expect(refused.errors.contains("no number of bits that keeps --max-drop reaches --min-sqnr"))
  }

  @Test func decibelsAreCountedFromEightBits() throws {
    let eight = try convert("eight.qm", "--bits", "8", "--json")
    let outputs = try #require(try eight.json["outputs"] as? [[String: Any]])
    let finest = try #require(outputs[0]["sqnr_db"] as? Double)
    let converted = try convert("out.qm", "--max-drop", "6dB", "--json")
    #expect(converted.status == 0, "\(converted.errors)")
    let report = try converted.json
    let found = try #require(
      (report["outputs"] as? [[String: Any]])?[0]["sqnr_db"] as? Double)
    #expect(found >= finest - 6.001)
    #expect(try #require(report["bits"] as? Double) < 8)
  }

  /// Of outputs that are no scores, a percentage is of power, and a bare number is in dB.
  @Test(arguments: [("1%", "error power over signal power", 20.0), ("20", "SQNR in dB", 15)])
  func otherOutputsLoseSignal(allowed: String, measure: String, least: Double) throws {
    let other = Fixture.root.appendingPathComponent("fixtures/models/digits_cnn").path
    let cut = [
      "\(other)/model.onnx", "--samples", "\(other)/calib", "--output",
      "/f/f.13/GlobalAveragePool_output_0", "--max-drop", allowed,
    ]
    let converted = try Tool.qconvert.run(cut + [folder.path("out.qm"), "--json"])
    #expect(converted.status == 0, "\(converted.errors)")
    let report = try converted.json
    let budget = try #require(report["budget"] as? [String: Any])
    let drop = try #require(budget["drop"] as? [String: Any])
    #expect(drop["measure"] as? String == measure)
    let outputs = try #require(report["outputs"] as? [[String: Any]])
    #expect(try #require(outputs[0]["sqnr_db"] as? Double) >= least)
    #expect(try #require(report["bits"] as? Double) < 8)
    let samples = try Tool.qconvert.run(
      cut + [folder.path("o.qm"), "--metric-samples", "\(other)/eval"])
    #expect(samples.status == 64)
  }

  @Test func aLossThatNoFileKeepsIsRefused() throws {
    let refused = try convert(
      "out.qm", "--max-drop", "1", "--metric",
      try metric("9", "1", "2", "3", "4", "5", "6", "7", "7", "7", "7"))
    #expect(refused.status == 2)
    #expect(refused.errors.contains("nothing was written"))
    #expect(try !folder.names.contains("out.qm"))
  }

  @Test(arguments: [
    ("exit 3", "ended with status 3"), ("echo oops >&2; exit 1", "status 1: oops"),
    ("kill -9 $$", "status 137"), ("echo good", "printed 'good'"), ("true", "printed ''"),
    ("echo '{}'", "without a number"), (#"echo '{"primary": "a"}'"#, "no number 'a'"),
    (#"echo '{"primary": true}'"#, "without a number"),
    (#"echo '{"primary": 1, "better": "up"}'"#, "another \"better\""), ("echo nan", "no finite"),
    ("exec no-such-command", "127"),
  ])
  func aMetricThatFailsIsOneLine(command: String, words: String) throws {
    try Data("old".utf8).write(to: URL(fileURLWithPath: folder.path("out.qm")))
    let refused = try convert("out.qm", "--max-drop", "1%", "--metric", "\(command); :")
    #expect(refused.status == 65)
    #expect(refused.errors.contains(words), "\(refused.errors)")
    #expect(refused.errors.split(separator: "\n").count == 1)
    #expect(try bytes("out.qm") == Data("old".utf8))
    #expect(try folder.names == ["out.qm"])
  }

  /// Nothing stays behind, also if the process is ended while the metric runs.
  @Test(arguments: [
    ("echo 1; :", Int32(0)), ("exit 1; :", 65), ("kill -TERM $PPID; sleep 20; :", 143),
  ])
  func outputsForTheMetricAreRemoved(command: String, status: Int32) throws {
    let ended = try Tool.qconvert.run(
      [
        Fixture.model, folder.path("out.qm"), "--samples", Fixture.calibration, "--max-drop", "1%",
        "--metric", command,
      ], environment: ["TMPDIR": folder.url.path])
    #expect(ended.status == status, "\(ended.errors)")
    #expect(try folder.names == (status == 0 ? ["out.qm"] : []))
  }

  @Test(arguments: [["--target-size", "9kB", "--max-drop", "1%"], ["--dry-run"]])
  func arraysHaveNoBudgetOfQuality(options: [String]) throws {
    let array = Fixture.root.appendingPathComponent("fixtures/npy/double_quotes.npy").path
    let refused = try Tool.qconvert.run([array, folder.path("o.qm")] + options)
    #expect(refused.status == 64, "\(refused.output)")
  }

  /// 4,096 and 1,024 numbers of a bell curve and 10 of a bias.
  private func writeArrays(_ path: String) throws {
    var generator = SeededGenerator(seed: 3)
    func array(_ shape: [Int]) throws -> Tensor {
      try Tensor(
        shape,
        (0..<shape.reduce(1, *)).map { _ in
          (0..<12).reduce(Float(-6)) { sum, _ in sum + Float.random(in: 0...1, using: &generator) }
        })
    }
    try NPZArchive.write(
      [("a", array([64, 64])), ("b", array([16, 64])), ("c", array([10]))], to: path)
  }

  @Test func arraysKeepATargetSize() throws {
    let (arrays, out) = (folder.path("arrays.npz"), folder.path("out.qm"))
    try writeArrays(arrays)
    for (options, limit) in [([], 2000), (["--grid", "fixed"], 3000)] {
      let converted = try Tool.qconvert.run(
        [arrays, out, "--target-size", "\(limit)", "--json"] + options)
      #expect(converted.status == 0, "\(converted.errors)")
      let report = try converted.json
      let bits = try #require(report["bits"] as? Double)
      let size = try bytes("out.qm").count
      #expect(size <= limit && size > limit * (options.isEmpty ? 98 : 60) / 100, "\(size)")
      let budget = try #require(report["budget"] as? [String: Any])
      #expect(budget["target_bytes"] as? Int == limit)
      let asked = try Tool.qconvert.run(
        [arrays, folder.path("asked.qm"), "--bits", "\(bits)"] + options)
      #expect(asked.status == 0, "\(asked.errors)")
      #expect(try bytes("asked.qm") == bytes("out.qm"))
    }
    let refused = try Tool.qconvert.run([arrays, out, "--target-size", "500"])
    #expect(refused.status == 64)
    #expect(refused.errors.contains("the smallest has"), "\(refused.errors)")
  }

  @Test func aFinishedFileIsJudgedByAMetric() throws {
    #expect(try convert("out.qm", "--bits", "4").status == 0)
    func verify(_ allowed: String, _ lines: (String, String)) throws -> Tool.Result {
      try Tool.qverify(
        folder.path("out.qm"), Fixture.evaluation, "--reference", Fixture.model, "--metric",
        try metric(lines.0, lines.1), "--max-drop", allowed, "--json")
    }
    let good = try verify("5%", ("96", "100"))
    #expect(good.status == 0, "\(good.errors)")
    let found = try #require(try good.json["metric"] as? [String: Any])
    #expect(found["value"] as? Double == 96)
    #expect(found["reference"] as? Double == 100)
    #expect(found["drop"] as? Double == 4)
    let bad = try verify("3%", ("96", "100"))
    #expect(bad.status == 1)
    #expect(bad.errors.contains("goes from 100 to 96"))
    #expect(try bad.json["passed"] as? Bool == false)
    let alone = try Tool.qverify(
      folder.path("out.qm"), Fixture.evaluation, "--metric", try metric("0.5"))
    #expect(alone.status == 0, "\(alone.errors)")
    #expect(alone.output.contains("metric 0.5"))
    let needless = try Tool.qverify(folder.path("out.qm"), "--metric", "true")
    #expect(needless.status == 64)
  }

  @Test(arguments: [
    ["--max-drop", "1%", "--bits", "4"], ["--max-drop", "-1%"], ["--max-drop", "x"],
    ["--max-drop", "1%"], ["--max-drop", "1%", "--target-size", "9kB"], ["--metric", "true"],
    ["--max-drop", "1dB", "--metric", "true"], ["--metric-samples", "x"],
    ["--max-drop", "1%", "--metric", " "], ["--metric-better", "lower", "--dry-run"],
    ["--target-size", "9kB", "--bits", "4"], ["--target-size", "0"], ["--target-size", "9 kB"],
    ["--target-size", "9GB"], ["--target-size", "-1"], ["--target-size"],
    ["--dry-run", "--bits", "32"], ["--dry-run", "--print-recipe"],
  ])
  func wrongUsage(arguments: [String]) throws {
    let result = try Tool.qconvert.run([Fixture.model, folder.path("o.qm")] + arguments)
    #expect(result.status == 64, "\(result.errors)")
    #expect(result.output.isEmpty)
    #expect(try folder.names.isEmpty)
  }
}
