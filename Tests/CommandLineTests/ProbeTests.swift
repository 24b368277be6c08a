import Foundation
import QMFormat
import QMTensor
import QMTestSupport
import Testing

/// `--probes` of the tools that convert, and what the others make of it.
@Suite struct ProbeTests {
  private static func convert(
    _ output: String, _ options: String..., samples: Bool = true
  ) throws -> Tool.Result {
    try Tool.qconvert.run(
      [Fixture.model, output, "--bits", "4", "--effort", "fast"]
        + (samples ? ["--samples", Fixture.calibration] : []) + options)
  }

  private static func content(of file: String) throws -> (Program, Program.Probes) {
    let opened = try QMFile(path: file)
    return (try Program(opened), try #require(try opened.probes()))
  }

  @Test func aFileIsVerifiedByItsProbes() throws {
    let folder = try Folder()
    let file = folder.path("out.qm")
    let converted = try Self.convert(file, "--probes", "4")
    #expect(converted.status == 0 && converted.output.contains("4 probes in the file"))
    let result = try Tool.qverify(file)
    #expect(result.status == 0, "\(result.errors)")
    let lines = result.output.split(separator: "\n").filter { $0.hasPrefix("4 of 4 probes ") }
    #expect(lines.count == 1, "\(result.output)")
    #expect(result.output.contains("the same bits on 3 probes"))
    #expect(result.output.contains("compared with the probes in the file"))
    let page = folder.path("report.html")
    let verified = try Tool.qverify(file, "--json", "--report", page)
    let schema = try JSONSchema(
      Data(contentsOf: Fixture.root.appendingPathComponent("schema/report.schema.json")))
    #expect(try schema.problems(of: verified.output, as: "verification") == [])
    let report = try verified.json
    let probes = try #require(report["probes"] as? [String: Any])
    #expect(probes["count"] as? Int == 4 && probes["agreeing"] as? Int == 4)
    #expect(probes["made_inputs"] as? Bool == false)
    #expect(report["truth"] as? String == "the probes in the file")
    #expect(report["passed"] as? Bool == true)
    #expect(
      try String(contentsOfFile: page, encoding: .utf8).contains("have the bits that the file"))
    // With samples, the digests are checked all the same.
    let samples = try Tool.qverify(
      file, Fixture.evaluation, "--reference", Fixture.model, "--json"
    ).json
    #expect(samples["truth"] as? String == "reference" && samples["probes"] != nil)
    let inspected = try Tool.qinspect(file, "--json").json
    #expect(inspected["probes"] as? Int == 4)
    let parts = try #require(inspected["parts"] as? [[String: Any]])
    let part = try #require(parts.first { $0["name"] as? String == "probes" })
    #expect(try #require(part["bytes"] as? Int) > 0)
    #expect(
      parts.reduce(0) { $0 + ($1["bytes"] as? Int ?? 0) } == inspected["bytes"] as? Int)
    #expect(try Tool.qverify(file, "--tolerance", "90").status == 1)
  }

  @Test func aFileThatComputesSomethingElseFails() throws {
    let folder = try Folder()
    let file = folder.path("out.qm")
    #expect(try Self.convert(file, "--probes", "2", samples: false).status == 0)
    let (bare, made) = try Self.content(of: file)
    #expect(made.areInputsMade)
    // The same outputs, and one digest of others.
    let second = made.probes[1]
    let changed = Program.Probes(
      [
        made.probes[0],
        .init(inputs: second.inputs, floatOutputs: second.floatOutputs, outputs: second.inputs),
      ], areInputsMade: true)
    try Data(bare.encoded(probes: changed)).write(to: URL(fileURLWithPath: file))
    var result = try Tool.qverify(file)
    #expect(result.status == 1)
    #expect(
      result.errors.hasSuffix(
        "the outputs for 1 of 2 probes have other bits than the file states\n"),
      "\(result.errors)")
    // The probes that were, and one code of the last bias that was not.
    #expect(try Self.convert(file, "--probes", "2").status == 0)
    let (converted, probes) = try Self.content(of: file)
    var program = converted
    let place = try #require(program.constants.lastIndex { $0.tensor.elementType == .int32 })
    var codes = program.constants[place].tensor.elements(as: Int32.self)
    codes[0] += 1
    program.constants[place] = try .init(Tensor([codes.count], codes))
    try Data(program.encoded(probes: probes)).write(to: URL(fileURLWithPath: file))
    result = try Tool.qverify(file, "--json")
    #expect(result.status == 1)
    #expect(try result.json["passed"] as? Bool == false)
  }

  @Test func probesThatCannotBeAreUsageErrors() throws {
    let folder = try Folder()
    let file = folder.path("out.qm")
    for count in ["-1", "65", "four"] {
      #expect(try Self.convert(file, "--probes", count).status == 64)
    }
    let arrays = Fixture.root.appendingPathComponent("fixtures/npz/deflated.npz").path
    let checkpoint = try Tool.qconvert(arrays, file, "--probes", "4")
    #expect(checkpoint.status == 64 && checkpoint.errors.contains("--probes are of a network"))
    #expect(checkpoint.errors.split(separator: "\n").count == 1)
    #expect(
      try Tool.qconvert(
        Fixture.model, "--observe-only", folder.path("a.qstats"), "--samples", Fixture.calibration,
        "--probes", "4"
      ).status == 64)
    #expect(try folder.names == [])
  }

  @Test func moreThanJudgeAreNotThere() throws {
    let folder = try Folder()
    let file = folder.path("out.qm")
    let result = try Self.convert(file, "--probes", "64")
    #expect(result.status == 0)
    #expect(result.output.contains("8 probes in the file, as no more inputs judge"))
    let json = try Self.convert(file, "--probes", "64", "--json")
    let schema = try JSONSchema(
      Data(contentsOf: Fixture.root.appendingPathComponent("schema/report.schema.json")))
    #expect(try schema.problems(of: json.output, as: "conversion") == [])
    #expect(try json.json["probes"] as? Int == 8)
  }

  @Test func aTrainedFileHasProbesOfWhatWasTrained() throws {
    let folder = try Folder()
    let file = folder.path("out.qm")
    let tuned = try Tool.qtune(
      Fixture.model, file, "--bits", "4", "--samples", Fixture.calibration, "--steps", "3",
      "--effort", "fast", "--probes", "3")
    #expect(tuned.status == 0 && tuned.output.contains("3 probes in the file"), "\(tuned.errors)")
    #expect(try Tool.qverify(file).output.contains("3 of 3 probes give the bits"))
    #expect(
      try Tool.qtune(
        Fixture.model, folder.path("w.npz"), "--float", "--samples", Fixture.calibration,
        "--labels", "y", "--probes", "3"
      ).status == 64)
  }

  /// The size that a budget finds counts the probes.
  @Test func aBudgetCountsThem() throws {
    let folder = try Folder()
    let file = folder.path("out.qm")
    let result = try Tool.qconvert(
      Fixture.model, file, "--samples", Fixture.calibration, "--effort", "fast", "--target-size",
      "6kB", "--probes", "2", "--json")
    #expect(result.status == 0, "\(result.errors)")
    #expect(try result.json["probes"] as? Int == 2)
    #expect(try Data(contentsOf: URL(fileURLWithPath: file)).count <= 6000)
    #expect(try #require(try QMFile(path: file).probes()).probes.count == 2)
  }
}
