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

  @Test(arguments: [
    ["--target-size", "9kB", "--bits", "4"], ["--target-size", "0"], ["--target-size", "9 kB"],
    ["--target-size", "9GB"], ["--target-size", "-1"], ["--target-size"],
  ])
  func wrongUsage(arguments: [String]) throws {
    let result = try Tool.qconvert.run([Fixture.model, folder.path("o.qm")] + arguments)
    #expect(result.status == 64, "\(result.errors)")
    #expect(result.output.isEmpty)
    #expect(try folder.names.isEmpty)
  }
}
