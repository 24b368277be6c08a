import Foundation
import QMNumPy
import QMTensor
import QMTestSupport
import Testing

@Suite("qexport") struct ExportTests {
  let folder: Folder
  init() throws { folder = try Folder() }

  /// A converted network.
  private func converted(_ options: String...) throws -> String {
    let file = folder.path("out.qm")
    let made = try Tool.qconvert.run([Fixture.model, file, "--quiet"] + options)
    try #require(made.status == 0, "\(made.errors)")
    return file
  }

  private func written(_ network: ONNXNetwork) throws -> String {
    let path = folder.path("in.onnx")
    let bytes = try network.encoded()
    try withExtendedLifetime(bytes) { try Data(bytes.bytes).write(to: URL(filePath: path)) }
    return path
  }

  @Test func aNetworkComesBackAsONNX() throws {
    let file = try converted("--bits", "8", "--samples", Fixture.calibration)
    let network = folder.path("out.onnx")
    let exported = try Tool.qexport(file, network, "--json")
    let schema = try JSONSchema(
      Data(contentsOf: Fixture.root.appendingPathComponent("schema/report.schema.json")))
    #expect(try schema.problems(of: exported.output, as: "export") == [])
    let report = try exported.json
    #expect(report["format"] as? String == "onnx")
    #expect(report["coded_weights"] as? Int == 3)
    #expect((report["float_nodes"] as? [Any])?.isEmpty == true)
    // The .qm file agrees with the export as its own float network.
    let verified = try Tool.qverify(
      file, Fixture.evaluation, "--reference", network, "--tolerance", "45")
    #expect(verified.status == 0, "\(verified.errors)")
    let listed = try Tool.qinspect(network)
    #expect(listed.output.contains("QuantizeLinear"))
    #expect(listed.output.contains("DequantizeLinear"))
  }

  @Test func weightsOfFourBitsAreInt4() throws {
    let file = try converted(
      "--bits", "4", "--grid", "fixed", "--samples", Fixture.calibration)
    let (narrow, wide) = (folder.path("out.onnx"), folder.path("float.onnx"))
    let text = try Tool.qexport(file, narrow)
    #expect(text.status == 0 && text.output.contains("3 weight tensors as codes"))
    #expect(try Tool.qexport(file, wide, "--float").status == 0)
    func size(_ path: String) throws -> Int { try Data(contentsOf: URL(filePath: path)).count }
    // Half a byte for a weight, beside four.
    #expect(try size(narrow) * 5 < size(wide))
    #expect(
      try Tool.qverify(file, Fixture.evaluation, "--reference", narrow, "--tolerance", "45").status
        == 0)
  }

  @Test func whatONNXCannotSayIsNamed() throws {
    let file = try converted("--bits", "8", "--activations", "dynamic")
    let text = try Tool.qexport(file, folder.path("out.onnx"))
    #expect(text.status == 0)
    #expect(text.output.contains("its input gets a scale and zero point in each run"))
    let nodes =
      try Tool.qexport(file, folder.path("out.onnx"), "--json").json["float_nodes"]
      as? [[String: String]]
    #expect(nodes?.first?["operation"] == "MatrixMultiply")
    // Float over the dequantized weights is named where it is not what was asked for.
    let float = try Tool.qexport(file, folder.path("out.onnx"), "--float", "--json").json
    #expect((float["float_nodes"] as? [Any])?.isEmpty == true)
  }

  /// The channels of all groups of a transposed convolution share an axis in ONNX, their scales do not.
  @Test func groupsOfATransposedConvolutionAreNamed() throws {
    var network = ONNXNetwork(opset: 17)
    network.inputs = [("x", ValueType(.float32, [1, 4, 6]))]
    network.constants = [
      ("w", try Tensor([4, 2, 3], (0..<24).map { Float($0 * 7 % 11) - 5 }))
    ]
    network.nodes = [
      .init(
        "ConvTranspose", ["x", "w"], ["y"], [("group", .integer(2)), ("strides", .integers([2]))])
    ]
    network.outputs = ["y"]
    let (file, output) = (folder.path("t.qm"), folder.path("out.onnx"))
    let source = try written(network)
    #expect(try Tool.qconvert(source, file, "--quiet").status == 0)
    let report = try Tool.qexport(file, output, "--json").json
    #expect(report["coded_weights"] as? Int == 0)
    let reasons = (report["float_nodes"] as? [[String: String]])?.compactMap { $0["reason"] }
    #expect(reasons?.contains { $0.contains("groups") } == true, "\(report)")
    let verified = try Tool.qverify(file, "--reference", output, "--tolerance", "40")
    #expect(verified.status == 0, "\(verified.errors)")
  }

  /// Weights with scales per group go back into the network, also where a normalization was folded into
  /// them.
  @Test(arguments: [false, true]) func scalesPerGroupGoBackIntoTheNetwork(
    isNormalized: Bool
  ) throws {
    var network = ONNXNetwork(opset: 17)
    network.inputs = [("x", ValueType(.float32, [4, 64, 3, 3]))]
    network.constants = [
      ("w", try Tensor([8, 64, 1, 1], (0..<512).map { Float($0 * 7919 % 1009) / 504 - 1 })),
      ("b", try Tensor([8], (0..<8).map { Float($0) / 8 })),
    ]
    network.nodes = [.init("Conv", ["x", "w", "b"], [isNormalized ? "p" : "y"])]
    if isNormalized {
      for (name, start) in [("scale", 0.5), ("shift", -1), ("mean", 0.25), ("variance", 1)] {
        network.constants.append(
          (name, try Tensor([8], (0..<8).map { Float(start) + Float($0) / 16 })))
      }
      network.nodes.append(
        .init("BatchNormalization", ["p", "scale", "shift", "mean", "variance"], ["y"]))
    }
    network.outputs = ["y"]
    let (source, file) = (try written(network), folder.path("g.qm"))
    #expect(try Tool.qconvert(source, file, "--group-size", "16", "--quiet").status == 0)
    let (weights, float) = (folder.path("w.npz"), folder.path("float.onnx"))
    let exported = try Tool.qexport(file, weights, "--reference", source, "--json")
    try #require(exported.status == 0, "\(exported.errors)")
    #expect((try exported.json["missing"] as? [Any])?.isEmpty == true)
    let again = folder.path("again.qm")
    #expect(
      try Tool.qconvert(source, again, "--weights", weights, "--bits", "32", "--quiet").status == 0)
    #expect(try Tool.qexport(file, float, "--float").status == 0)
    // The float export has the dequantized codes of the file: other weights would be far from them.
    let same = try Tool.qverify(again, "--reference", float, "--tolerance", "100")
    #expect(same.status == 0, "\(same.errors)")
  }

  @Test(arguments: ["npz", "safetensors"]) func weightsAreWritten(format: String) throws {
    let file = try converted("--bits", "8")
    let archive = folder.path("weights.\(format)")
    let report = try Tool.qexport(file, archive, "--json").json
    #expect(report["format"] as? String == format)
    #expect((report["arrays"] as? [String])?.count == 6)
    let bytes = try Data(contentsOf: URL(filePath: archive))
    if format == "safetensors" {
      let size = bytes.prefix(8).enumerated().reduce(0) { $0 + Int($1.element) << (8 * $1.offset) }
      let header = try JSONSerialization.jsonObject(with: bytes.dropFirst(8).prefix(size))
      let entries = try #require(header as? [String: [String: Any]])
      #expect(entries.count == 6)
      let ends = entries.values.compactMap { ($0["data_offsets"] as? [Int])?.last }
      #expect(ends.max() == bytes.count - 8 - size)
      #expect(size % 8 == 0)
    } else {
      #expect(try NPZArchive(path: archive).names.count == 6)
    }
  }

  /// The weights of a file, put into the network again, give the same outputs as the file's own float
  /// export, and names and shapes are the network's.
  @Test(arguments: ["digits_mlp", "digits_cnn", "ppocr_cls"])
  func weightsGoBackIntoTheNetwork(name: String) throws {
    let model = Fixture.root.appendingPathComponent("fixtures/models/\(name)").path
    let (file, weights) = (folder.path("out.qm"), folder.path("weights.npz"))
    let made = try Tool.qconvert(
      "\(model)/model.onnx", file, "--bits", "4", "--samples", "\(model)/calib", "--quiet")
    try #require(made.status == 0, "\(made.errors)")
    let exported = try Tool.qexport(
      file, weights, "--reference", "\(model)/model.onnx", "--json")
    try #require(exported.status == 0, "\(exported.errors)")
    #expect((try exported.json["missing"] as? [Any])?.isEmpty == true)
    let (again, float) = (folder.path("again.qm"), folder.path("float.onnx"))
    let replaced = try Tool.qconvert(
      "\(model)/model.onnx", again, "--weights", weights, "--bits", "32", "--quiet")
    try #require(replaced.status == 0, "\(replaced.errors)")
    #expect(try Tool.qexport(file, float, "--float").status == 0)
    let same = try Tool.qverify(
      again, "\(model)/eval", "--reference", float, "--tolerance", "60")
    #expect(same.status == 0, "\(same.errors)")
  }

  @Test func errorsAreOneLine() throws {
    let file = try converted("--bits", "8")
    let before = try folder.names
    for (arguments, status, text) in [
      ([file, folder.path("out.txt")], Int32(64), ".onnx, .npz or .safetensors"),
      ([file, folder.path("out.npz"), "--float"], 64, "--float is for .onnx"),
      ([file, folder.path("out.onnx"), "--reference", Fixture.model], 64, "--reference"),
      ([Fixture.model, folder.path("out.onnx")], 64, "expected a .qm file"),
      ([folder.path("none.qm"), folder.path("out.onnx")], 66, "none.qm"),
      ([file, folder.path("none/out.onnx")], 73, "none/out.onnx"),
    ] {
      let refused = try Tool.qexport.run(arguments)
      #expect(refused.status == status, "\(arguments): \(refused.errors)")
      #expect(refused.errors.hasPrefix("qexport: ") && refused.errors.contains(text))
      #expect(refused.errors.split(separator: "\n").count == 1)
    }
    #expect(try folder.names == before)
  }

  @Test func arraysWithoutANetworkComeBack() throws {
    let (archive, file) = (folder.path("w.npz"), folder.path("w.qm"))
    try NPZArchive.write([("a", Tensor([2, 3], [Float](repeating: 0.5, count: 6)))], to: archive)
    #expect(try Tool.qconvert(archive, file, "--bits", "8").status == 0)
    #expect(try Tool.qexport(file, folder.path("w.onnx")).status == 64)
    #expect(try Tool.qexport(file, folder.path("back.npz")).status == 0)
    #expect(try Tool.qrun(file, "--output", folder.path("own.npz")).status == 0)
    let own = try NPZArchive(path: folder.path("own.npz")).tensor(named: "a")
    let back = try NPZArchive(path: folder.path("back.npz")).tensor(named: "a")
    #expect(firstDifference(back, own) == nil)
  }
}
