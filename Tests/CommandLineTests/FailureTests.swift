import Foundation
import QMTensor
import QMTestSupport
import Testing

@Suite("What the tools do when they cannot")
struct FailureTests {
  let folder: Folder
  init() throws { folder = try Folder() }

  /// One line on standard error that begins with the tool's name and holds `text`.
  private func expectRefusal(
    _ result: Tool.Result, by tool: Tool, status: Int32, naming text: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(result.status == status, "\(result.errors)", sourceLocation: sourceLocation)
    let lines = result.errors.split(separator: "\n", omittingEmptySubsequences: false)
    #expect(
      lines.count == 2 && lines.last == "", "\(result.errors)", sourceLocation: sourceLocation)
    #expect(result.errors.hasPrefix("\(tool.rawValue): "), sourceLocation: sourceLocation)
    #expect(result.errors.contains(text), "\(result.errors)", sourceLocation: sourceLocation)
  }

  private func converted() throws -> String {
    let file = folder.path("good.qm")
    let result = try Tool.qconvert(
      Fixture.model, file, "--bits", "8", "--samples", Fixture.calibration)
    try #require(result.status == 0, "\(result.errors)")
    return file
  }

  @Test func missingFilesAreNamed() throws {
    let (missing, file) = (folder.path("nope.onnx"), try converted())
    expectRefusal(
      try Tool.qconvert(missing, folder.path("o.qm")), by: .qconvert, status: 66,
      naming: "nope.onnx")
    expectRefusal(try Tool.qverify(missing), by: .qverify, status: 66, naming: "nope.onnx")
    expectRefusal(try Tool.qinspect(missing), by: .qinspect, status: 66, naming: "nope.onnx")
    expectRefusal(
      try Tool.qrun(missing, Fixture.evaluation, "--digest"), by: .qrun, status: 66,
      naming: "nope.onnx")
    expectRefusal(
      try Tool.qrun(file, folder.path("nodir"), "--digest"), by: .qrun, status: 66, naming: "nodir")
    expectRefusal(
      try Tool.qverify(file, Fixture.evaluation, "--reference", missing), by: .qverify, status: 66,
      naming: "nope.onnx")
    #expect(try folder.names == ["good.qm"])
  }

  @Test func contradictoryGridsAreRefused() throws {
    for (options, text) in [
      (["--grid", "free", "--group-size", "32"], "leave out --group-size"),
      (["--grid", "fixed", "--bits", "3.5"], "3.5 bits in a fixed grid"),
      (["--bits", "3", "--bits-for", ".*=8"], "more bits than allowed"),
    ] {
      let result = try Tool.qconvert.run([Fixture.model, folder.path("o.qm")] + options)
      expectRefusal(result, by: .qconvert, status: 64, naming: text)
    }
    #expect(try folder.names.isEmpty)
  }

  /// Below 8 bits, a figure under the requirement stops a conversion with and without samples.
  @Test func aFigureOfMadeInputsStopsFewBits() throws {
    let file = folder.path("o.qm")
    expectRefusal(
      try Tool.qconvert(Fixture.model, file, "--bits", "7", "--min-sqnr", "200"), by: .qconvert,
      status: 2, naming: "give --samples")
    #expect(try folder.names.isEmpty)
  }

  @Test func garbageIsRefused() throws {
    let garbage = folder.path("bad\u{1B}[31m.onnx")
    try Data((0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ 11) })
      .write(to: URL(fileURLWithPath: garbage))
    for (tool, arguments) in [
      (Tool.qconvert, [garbage, folder.path("o.qm")]), (.qverify, [garbage]),
      (.qinspect, [garbage]),
      (.qrun, [garbage, Fixture.evaluation, "--digest"]),
    ] {
      let result = try tool.run(arguments)
      expectRefusal(result, by: tool, status: 65, naming: "bad")
      #expect(!result.errors.contains("\u{1B}"), "a control character of the name is echoed")
    }
    #expect(try folder.names.count == 1)
  }

  @Test func everyFlippedByteOfAFileIsFound() throws {
    let good = [UInt8](try Data(contentsOf: URL(fileURLWithPath: try converted())))
    let bad = folder.path("bad.qm")
    for index in [0, 1, 4, 8, 16, 40, good.count / 4, good.count / 2, good.count - 1] {
      var bytes = good
      bytes[index] ^= 1
      try Data(bytes).write(to: URL(fileURLWithPath: bad))
      expectRefusal(try Tool.qverify(bad), by: .qverify, status: 65, naming: "bad.qm")
    }
    for count in [1, 7, 8, 63, good.count / 2, good.count - 1] {
      try Data(good.prefix(count)).write(to: URL(fileURLWithPath: bad))
      expectRefusal(try Tool.qverify(bad), by: .qverify, status: 65, naming: "bad.qm")
    }
  }

  @Test(arguments: [
    ["in.onnx"], ["in.onnx", "o.qm", "--bits", "9"], ["in.onnx", "o.qm", "--bits", "1"],
    ["in.onnx", "o.qm", "--bits", "4x"], ["in.onnx", "o.qm", "--bits"],
    ["in.onnx", "o.qm", "--nope"],
    ["in.onnx", "o.qm", "--ranges", "percentile:101"], ["in.onnx", "o.qm", "--threads", "0"],
    ["in.onnx", "o.qm", "--activations", "int8"],
    ["in.onnx", "o.qm", "--limit-samples", "4"],
    ["in.onnx", "o.qm", "--bits", "32", "--per-tensor"],
    ["in.onnx", "o.qm", "--per-tensor", "--group-size", "8"],
    ["in.onnx", "o.qm", "--group-size", "0"],
    ["in.onnx", "o.qm", "--bits", "32", "--bits-for", "fc=8"],
    ["in.onnx", "o.qm", "--bits", "32", "--activations", "dynamic"],
  ])
  func wrongUsage(arguments: [String]) throws {
    let result = try Tool.qconvert.run(arguments)
    #expect(result.status == 64)
    #expect(!result.errors.isEmpty)
    #expect(result.output.isEmpty)
  }

  @Test func aResultUnderTheFloorIsNotWritten() throws {
    let result = try Tool.qconvert(
      Fixture.model, folder.path("o.qm"), "--bits", "2", "--samples", Fixture.calibration,
      "--min-sqnr", "30")
    expectRefusal(result, by: .qconvert, status: 2, naming: "--min-sqnr")
    #expect(result.errors.contains("--bits 4"))
    #expect(try folder.names.isEmpty)
  }

  /// Made inputs measure too, where there are no samples.
  @Test func aResultUnderTheFloorOnMadeInputsIsNotWritten() throws {
    let result = try Tool.qconvert(
      Fixture.model, folder.path("o.qm"), "--bits", "2", "--min-sqnr", "30")
    expectRefusal(result, by: .qconvert, status: 2, naming: "--min-sqnr")
    #expect(try folder.names.isEmpty)
  }

  /// What the other options lack is the consequence of a misspelt one.
  @Test func anUnknownOptionIsNamedFirst() throws {
    for (tool, arguments) in [
      (Tool.qrun, ["model.qm", "samples", "--label", "x"]),
      (.qverify, ["model.qm", "--per-value", "--label", "x"]),
      (.qconvert, ["in.onnx", "--label", "x"]), (.qexport, ["out.qm", "out.txt", "--label"]),
      (.qinspect, ["in.qm", "--graph", "out.txt", "--label"]),
      (.qtune, ["in.onnx", "out.qm", "--samples", "x", "--start", "he", "--label"]),
    ] {
      expectRefusal(try tool.run(arguments), by: tool, status: 64, naming: "'--label'")
    }
  }

  /// Without samples, too little memory was taken for inputs that do not run: another file was written.
  @Test func littleMemoryGivesTheSameFileOrNone() throws {
    var network = ONNXNetwork(opset: 17)
    network.inputs = [("x", ValueType(.float32, [1, 1024]))]
    let weights = (0..<1024 * 2048).map { (i: Int) -> Float in Float(i * 7919 % 1009) / 504 - 1 }
    network.constants = [("w", try Tensor([1024, 2048], weights))]
    network.nodes = [.init("MatMul", ["x", "w"], ["y"])]
    network.outputs = ["y"]
    let (source, file) = (folder.path("in.onnx"), folder.path("out.qm"))
    let bytes = try network.encoded()
    try withExtendedLifetime(bytes) { try Data(bytes.bytes).write(to: URL(filePath: source)) }
    var files: [Data?] = []
    for megabytes in Array(stride(from: 70, to: 160, by: 10)) + [4096] {
      let process = try Tool.qconvert.start(
        [source, file, "--bits", "8", "--threads", "1", "--quiet"], addressLimit: megabytes << 10)
      process.waitUntilExit()
      files.append(FileManager.default.contents(atPath: file))
      #expect((files.last! == nil) == (process.terminationStatus != 0), "\(megabytes) MiB")
      if files.last! != nil { try FileManager.default.removeItem(atPath: file) }
    }
    #expect(files.contains(nil))
    #expect(Set(files.compactMap(\.self)).count == 1)
  }

  /// An option that could not do anything is a mistake of the caller's.
  @Test func optionsWithoutEffectAreRefused() throws {
    let unmeasured = try Tool.qconvert(
      Fixture.model, folder.path("o.qm"), "--bits", "32", "--min-sqnr", "30")
    expectRefusal(unmeasured, by: .qconvert, status: 64, naming: "--samples")
    let array = Fixture.root.appendingPathComponent("fixtures/npy/double_quotes.npy").path
    for option in [["--keep-float", "w"], ["--explain"]] {
      let result = try Tool.qconvert.run([array, folder.path("o.qm")] + option)
      expectRefusal(result, by: .qconvert, status: 64, naming: "--per-tensor")
    }
    let misspelt = try Tool.qconvert(array, folder.path("o.qm"), "--bits-for", "w=8")
    expectRefusal(misspelt, by: .qconvert, status: 64, naming: "'double_quotes'")
    #expect(try folder.names.isEmpty)
  }

  @Test func whatCannotBeWrittenIsSaidAtOnce() throws {
    for (output, text) in [
      (folder.url.path, folder.url.path), (folder.path("no/such/o.qm"), "no/such/o.qm"),
      ("", "empty"),
    ] {
      expectRefusal(
        try Tool.qconvert(Fixture.model, output), by: .qconvert, status: 73, naming: text)
    }
    let file = try converted()
    expectRefusal(
      try Tool.qrun(file, Fixture.evaluation, "--output", file), by: .qrun, status: 73,
      naming: "good.qm")
  }

  /// Files of other formats are named, with what to do.
  @Test func aKnownFormatInTheWrongPlaceIsNamed() throws {
    let formats: [(name: String, start: [UInt8], text: String)] = [
      ("a.png", [0x89] + Array("PNG\r\n".utf8) + [0x1a, 10], "PNG image"),
      ("a.jpg", [0xff, 0xd8, 0xff, 0xe0], "JPEG image"),
      ("a.safetensors", [66, 0, 0, 0, 0, 0, 0, 0] + Array("{\"w\":".utf8), "safetensors"),
      ("a.pkl", [0x80, 2, 0x7d, 0x71], "pickle"),
      ("a.tflite", [28, 0, 0, 0] + Array("TFL3".utf8), "TensorFlow Lite"),
      ("a.gguf", Array("GGUF".utf8) + [3, 0, 0, 0], "GGUF"),
      ("a.h5", [0x89] + Array("HDF\r\n".utf8), "HDF5"),
    ]
    for (name, start, text) in formats {
      let path = folder.path(name)
      let bytes = start + [UInt8](repeating: 0, count: 100)
      try Data(bytes).write(to: URL(fileURLWithPath: path))
      expectRefusal(
        try Tool.qconvert(path, folder.path("o.qm")), by: .qconvert, status: 65, naming: text)
      expectRefusal(try Tool.qverify(path), by: .qverify, status: 65, naming: text)
      // Pictures are samples, but not of this network.
      let isPicture = text.hasSuffix("image")
      expectRefusal(
        try Tool.qrun(Fixture.model, path, "--digest"), by: .qrun, status: 65,
        naming: isPicture ? "pictures need 3 axes" : text)
    }
    expectRefusal(
      try Tool.qverify(Fixture.model), by: .qverify, status: 65, naming: "an ONNX network")
    let file = try converted()
    expectRefusal(
      try Tool.qconvert(file, folder.path("o.qm")), by: .qconvert, status: 65, naming: "a .qm file")
    expectRefusal(
      try Tool.qrun(file, Fixture.model, "--digest"), by: .qrun, status: 65,
      naming: "an ONNX network")
    let unknown = folder.path("notes.txt")
    try Data("notes".utf8).write(to: URL(fileURLWithPath: unknown))
    expectRefusal(
      try Tool.qrun(file, unknown, "--digest"), by: .qrun, status: 66,
      naming: "not a folder; expected a folder of .npy or .npz files")
    let images = folder.path("images")
    try FileManager.default.createDirectory(atPath: images, withIntermediateDirectories: true)
    try FileManager.default.copyItem(atPath: folder.path("a.png"), toPath: images + "/cat.png")
    expectRefusal(
      try Tool.qrun(file, images, "--digest"), by: .qrun, status: 65, naming: "pictures need 3 axes"
    )
  }

  @Test func aNetworkIsNeverOverwrittenByAConversion() throws {
    let result = try Tool.qconvert(Fixture.model, folder.path("out.ONNX"))
    #expect(result.status == 64)
    #expect(result.errors.contains(".qm"))
    #expect(try folder.names.isEmpty)
  }

  @Test func theInputIsNeverTheOutput() throws {
    let (model, link) = (folder.path("m.onnx"), folder.path("link.onnx"))
    try FileManager.default.copyItem(atPath: Fixture.model, toPath: model)
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: "m.onnx")
    for output in [model, link, folder.url.path + "/./m.onnx"] {
      expectRefusal(
        try Tool.qconvert(model, output), by: .qconvert, status: 64, naming: "is an input")
      expectRefusal(
        try Tool.qconvert(model, "--observe-only", output, "--samples", Fixture.calibration),
        by: .qconvert, status: 64, naming: "is an input")
    }
    let recipe = folder.path("r.json")
    try Data("{}".utf8).write(to: URL(fileURLWithPath: recipe))
    expectRefusal(
      try Tool.qconvert(model, recipe, "--recipe", recipe), by: .qconvert, status: 64,
      naming: "is an input")
    #expect(FileManager.default.contentsEqual(atPath: model, andPath: Fixture.model))
  }

  @Test func aFailureKeepsTheOldFile() throws {
    let file = try converted()
    let before = try Data(contentsOf: URL(fileURLWithPath: file))
    let result = try Tool.qconvert(
      Fixture.model, file, "--bits", "2", "--samples", Fixture.calibration, "--min-sqnr", "40")
    #expect(result.status == 2)
    #expect(try Data(contentsOf: URL(fileURLWithPath: file)) == before)
    #expect(try folder.names == ["good.qm"])
  }

  @Test func aDifferenceBeyondToleranceIsOne() throws {
    let file = try converted()
    expectRefusal(
      try Tool.qverify(
        file, Fixture.evaluation, "--reference", Fixture.model, "--tolerance", "200"),
      by: .qverify, status: 1, naming: "--tolerance")
    // Scores of other samples as the truth: what was right before is not.
    let samples = folder.path("samples")
    try FileManager.default.copyItem(atPath: Fixture.evaluation, toPath: samples)
    #expect(try Tool.qrun(Fixture.model, samples, "--output", samples).status == 0)
    #expect(try Tool.qverify(file, samples).status == 0)
    let truths = try FileManager.default.contentsOfDirectory(atPath: samples)
      .filter { $0.hasSuffix(".y.npy") }.sorted()
    let scores = try truths.map { try Data(contentsOf: URL(fileURLWithPath: "\(samples)/\($0)")) }
    for (index, name) in truths.enumerated() {
      try scores[(index + 1) % scores.count].write(to: URL(fileURLWithPath: "\(samples)/\(name)"))
    }
    expectRefusal(
      try Tool.qverify(file, samples), by: .qverify, status: 1, naming: "that the file states")
  }

  @Test func aBadSampleIsNamed() throws {
    let samples = folder.path("samples")
    try FileManager.default.createDirectory(atPath: samples, withIntermediateDirectories: true)
    try FileManager.default.copyItem(
      atPath: Fixture.calibration + "/0000.npy", toPath: samples + "/a.npy")
    var bytes = try Data(contentsOf: URL(fileURLWithPath: samples + "/a.npy"))
    // The last element becomes NaN.
    bytes.replaceSubrange(bytes.count - 4..<bytes.count, with: [0, 0, 0xC0, 0x7F])
    try bytes.write(to: URL(fileURLWithPath: samples + "/n57.npy"))
    let result = try Tool.qconvert(Fixture.model, folder.path("o.qm"), "--samples", samples)
    expectRefusal(result, by: .qconvert, status: 65, naming: "n57.npy")
    #expect(result.errors.contains("NaN"))
    #expect(try folder.names == ["samples"])
  }

  @Test func aReaderThatGoesAwayIsNoFailure() throws {
    let result = try Tool.qinspect.run([try converted()], closingOutput: true)
    #expect(result.status == 0)
    #expect(result.errors.isEmpty)
  }

  @Test func helpAndVersionGoToStandardOutput() throws {
    for tool in [Tool.qconvert, .qverify, .qrun, .qinspect] {
      let help = try tool("--help")
      #expect(help.status == 0)
      #expect(help.output.contains("USAGE: \(tool.rawValue)"))
      #expect(help.errors.isEmpty)
      #expect(try tool("--version").status == 0)
    }
  }
}
