import Foundation
import Testing

@Suite("Samples in other forms")
struct SampleTests {
  let folder: Folder
  init() throws { folder = try Folder() }

  /// A folder of samples for digits_mlp, `[1, 64]` each.
  private func samples(count: Int, _ change: (Int, inout [Float]) -> Void = { _, _ in }) throws
    -> String
  {
    let path = folder.path("samples")
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    for index in 0..<count {
      var elements = (0..<64).map { Float(($0 * 7 + index * 5) % 17) / 16 }
      change(index, &elements)
      try npy([1, 64], elements)
        .write(to: URL(fileURLWithPath: path + "/n\(index).npy"))
    }
    return path
  }

  /// Three parts of the samples, seen apart, give the file of the whole.
  @Test func partsThatWereObservedApartGiveTheSameFile() throws {
    let path = try samples(count: 40)
    var parts: [String] = []
    for part in 0..<3 {
      let own = folder.path("part\(part)")
      try FileManager.default.createDirectory(atPath: own, withIntermediateDirectories: true)
      for index in stride(from: part, to: 40, by: 3) {
        try FileManager.default.copyItem(
          atPath: path + "/n\(index).npy", toPath: own + "/other\(index).npy")
      }
      parts.append(folder.path("part\(part).qstats"))
      let seen = try Tool.qconvert(
        Fixture.model, "--observe-only", parts[part], "--samples", own, "--threads",
        "\(part + 1)", "--memory-budget", part == 1 ? "1" : "1000")
      #expect(seen.status == 0, "\(seen.errors)")
    }
    let whole = try Tool.qconvert(
      Fixture.model, folder.path("whole.qm"), "--bits", "4", "--samples", path)
    #expect(whole.status == 0, "\(whole.errors)")
    let merged = try Tool.qconvert(
      Fixture.model, folder.path("merged.qm"), "--bits", "4", "--statistics", parts[2], parts[0],
      parts[1])
    #expect(merged.status == 0, "\(merged.errors)")
    let files = try ["whole.qm", "merged.qm"].map {
      try Data(contentsOf: URL(fileURLWithPath: folder.path($0)))
    }
    #expect(files[0] == files[1])
  }

  @Test func observingIsNoConversion() throws {
    let path = try samples(count: 2)
    let statistics = folder.path("s.qstats")
    for arguments in [
      [Fixture.model], [Fixture.model, "--observe-only", statistics],
      [Fixture.model, folder.path("o.qm"), "--observe-only", statistics, "--samples", path],
      [Fixture.model, folder.path("o.qm"), "--statistics", statistics, "--samples", path],
      [Fixture.model, folder.path("o.qm"), "--memory-budget", "0"],
    ] {
      let result = try Tool.qconvert.run(arguments)
      #expect(result.status == 64, "\(arguments): \(result.errors)")
    }
    let none = try Tool.qconvert(Fixture.model, folder.path("o.qm"), "--statistics", statistics)
    #expect(none.status == 66)
    #expect(none.errors.contains("s.qstats"))
    let other = try Tool.qconvert(
      Fixture.model, folder.path("o.qm"), "--statistics", path + "/n0.npy")
    #expect(other.status == 65)
    #expect(other.errors.split(separator: "\n").count == 1)
    #expect(try folder.names == ["samples"])
  }

  @Test func oneBadSampleIsNamedAndNothingIsWritten() throws {
    let path = try samples(count: 10) { index, elements in
      if index == 4 { elements[9] = .nan }
    }
    let result = try Tool.qconvert(Fixture.model, folder.path("o.qm"), "--samples", path)
    #expect(result.status == 65)
    #expect(result.errors.split(separator: "\n").count == 1)
    #expect(result.errors.contains("n4.npy"))
    #expect(try folder.names == ["samples"])
  }

  @Test func severalBadSamplesTakeOneLine() throws {
    let path = try samples(count: 10) { index, elements in
      if index % 3 == 1 { elements[0] = .infinity }
    }
    let result = try Tool.qconvert(Fixture.model, folder.path("o.qm"), "--samples", path)
    #expect(result.status == 65)
    #expect(result.errors.split(separator: "\n").count == 1)
    for name in ["n1.npy", "'n4'", "'n7'"] { #expect(result.errors.contains(name)) }
  }

  @Test func whatIsOddIsRemarkedOnceEach() throws {
    let path = try samples(count: 7) { index, elements in
      if index == 2 { elements = elements.map { _ in 0.5 } }
    }
    let result = try Tool.qconvert(
      Fixture.model, folder.path("o.qm"), "--samples", path, "--min-sqnr", "0")
    #expect(result.status == 0, "\(result.errors)")
    let lines = result.errors.split(separator: "\n")
    #expect(lines.count == 2)
    #expect(lines.contains { $0.contains("7 samples") })
    #expect(lines.contains { $0.contains("'n2'") && $0.contains("'x'") })
    let quiet = try Tool.qconvert(
      Fixture.model, folder.path("o.qm"), "--samples", path, "--min-sqnr", "0", "--quiet")
    #expect(quiet.errors.isEmpty)
  }

  /// One array of all samples, single items for a fixed batch, and other names give the same.
  @Test func samplesMayComeInOtherForms() throws {
    let path = try samples(count: 6)
    let results = folder.path("results")
    #expect(try Tool.qrun(Fixture.model, path, "--output", results).status == 0)
    let expected = try (0..<6).map { index in
      try Data(contentsOf: URL(fileURLWithPath: results + "/n\(index).y.npy"))
    }
    var all: [Float] = []
    for index in 0..<6 {
      for place in 0..<64 { all.append(Float((place * 7 + index * 5) % 17) / 16) }
    }
    let array = folder.path("all.npy")
    try npy([6, 64], all).write(to: URL(fileURLWithPath: array))
    for options in [[], ["--input", "x=4,64"]] {
      let other = folder.path("other\(options.count)")
      let ran = try Tool.qrun.run([Fixture.model, array, "--output", other] + options)
      #expect(ran.status == 0, "\(ran.errors)")
      for index in 0..<6 {
        let found = try Data(contentsOf: URL(fileURLWithPath: other + "/000\(index).y.npy"))
        #expect(found == expected[index], "\(options) \(index)")
      }
    }
    let named = folder.path("named")
    try FileManager.default.createDirectory(atPath: named, withIntermediateDirectories: true)
    try npy([64], Array(all.prefix(64)))
      .write(to: URL(fileURLWithPath: named + "/a.pixels.npy"))
    let mapped = try Tool.qrun(
      Fixture.model, named, "--map", "pixels=x", "--output", folder.path("mapped"))
    #expect(mapped.status == 0, "\(mapped.errors)")
    #expect(
      try Data(contentsOf: URL(fileURLWithPath: folder.path("mapped/a.y.npy"))) == expected[0])
    for maps in [["pixels=z"], ["pixels"], ["a=x", "b=x"]] {
      let result = try Tool.qrun.run(
        [Fixture.model, named, "--digest"] + maps.flatMap { ["--map", $0] })
      #expect(result.status == 64, "\(maps): \(result.errors)")
    }
  }

  @Test func protobufSamplesAreRead() throws {
    // TensorProto: extents, float32, raw elements.
    let elements = (0..<64).map { Float($0 % 17) / 16 }
    var tensor = Data([0x08, 0x01, 0x08, 0x40, 0x10, 0x01, 0x4A, 0x80, 0x02])
    for element in elements { withUnsafeBytes(of: element) { tensor.append(contentsOf: $0) } }
    let set = folder.path("sets/test_data_set_0")
    try FileManager.default.createDirectory(atPath: set, withIntermediateDirectories: true)
    try tensor.write(to: URL(fileURLWithPath: set + "/input_0.pb"))

    let plain = folder.path("plain")
    try FileManager.default.createDirectory(atPath: plain, withIntermediateDirectories: true)
    try npy([1, 64], elements).write(to: URL(fileURLWithPath: plain + "/a.npy"))
    let expected = try Tool.qrun(Fixture.model, plain, "--digest")
    for path in [set, folder.path("sets")] {
      let found = try Tool.qrun(Fixture.model, path, "--digest")
      #expect(found.status == 0, "\(found.errors)")
      #expect(found.output == expected.output)
    }
    try Data([1, 2, 3]).write(to: URL(fileURLWithPath: set + "/input_0.pb"))
    let bad = try Tool.qrun(Fixture.model, set, "--digest")
    #expect(bad.status == 65)
    #expect(bad.errors.contains("input_0.pb"))
  }

  /// Fewer than 8 samples both fit and choose, and so flatter fixed ranges: types stay within 1 dB of
  /// float activations, or reach 40 dB.
  @Test func fewSamplesThatFitAndChooseLeaveLess() throws {
    let models = Fixture.root.appendingPathComponent("fixtures/models/digits_cnn").path
    let converted = try Tool.qconvert(
      models + "/model.onnx", folder.path("few.qm"), "--samples", models + "/calib",
      "--limit-samples", "4", "--json", "--quiet")
    #expect(converted.status == 0, "\(converted.errors)")
    let alternatives = try #require(try converted.json["alternatives"] as? [[String: Any]])
    func decibels(_ isWanted: ([String: Any]) -> Bool) throws -> Double {
      try #require(alternatives.first(where: isWanted)?["sqnr_db"] as? Double)
    }
    let chosen = try decibels { $0["chosen"] as? Bool == true }
    let float = try decibels { $0["name"] as? String == "float" }
    #expect(chosen >= min(float - 1, 40))
  }
}
