import Foundation
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

  @Test(arguments: [
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
