import Foundation
import QMGraph
import QMNumPy
import QMONNX
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

@Suite struct ONNXReaderTests {
  /// Each network of fixtures/onnx, run in float, against ONNX Runtime.
  @Test(arguments: Fixtures.cases(in: Fixtures.folder))
  func readsAndRunsLikeONNXRuntime(name: String) throws {
    try expectResults(of: Fixtures.folder.appending(path: name))
  }

  /// Each row of schema/onnx.md. A network without results must be refused.
  @Test(arguments: Fixtures.cases(in: Fixtures.differences))
  func readsAsTheTableOfDifferencesSays(name: String) throws {
    let table = try String(
      contentsOf: Fixtures.root.appending(path: "schema/onnx.md"), encoding: .utf8)
    #expect(table.contains("| \(name) |"))
    let folder = Fixtures.differences.appending(path: name)
    guard !FileManager.default.fileExists(atPath: folder.appending(path: "io.npz").path) else {
      return try expectResults(of: folder)
    }
    #expect(throws: QMError.self) {
      _ = try ONNXReader.read(path: folder.appending(path: "model.onnx").path)
    }
  }

  /// The codes become the output as int8 numbers, which adds a value after the last node.
  @Test func codesWithoutDeclaredTypeAreAnOutput() throws {
    var network = ONNXNetwork(opset: 14)
    network.inputs = [("x", ValueType(.float32, [2]))]
    network.constants = [("scale", try Tensor([], [Float(0.5)]))]
    network.nodes = [.init("QuantizeLinear", ["x", "scale"], ["y"])]
    network.outputs = ["y"]
    let model = try Model(ONNXReader.read(bytes: network.encoded()).flattened().program)
    let result = try #require(model.run(["x": Tensor([2], [Float(1), 300])])["y"])
    #expect(result.elementType == .uint8)
    #expect(result.elements(as: UInt8.self) == [2, 255])
  }

  @Test func everyRowOfTheTableOfDifferencesHasANetwork() throws {
    let table = try String(
      contentsOf: Fixtures.root.appending(path: "schema/onnx.md"), encoding: .utf8)
    let rows = table.split(separator: "\n").filter { $0.hasPrefix("| ") }.dropFirst(2)
    #expect(rows.count == Fixtures.cases(in: Fixtures.differences).count)
  }

  /// ONNX Runtime rounds what is left unrounded here.
  @Test(arguments: Fixtures.cases(in: Fixtures.folder.appending(path: "near")))
  func readsNearlyLikeONNXRuntime(name: String) throws {
    let folder = Fixtures.folder.appending(path: "near/\(name)")
    let graph = try ONNXReader.read(path: folder.appending(path: "model.onnx").path)
    let arrays = try NPZArchive(path: folder.appending(path: "io.npz").path)
    var inputs: [String: Tensor] = [:]
    for input in graph.inputs.map({ graph[$0].name }) {
      inputs[input] = try arrays.tensor(named: "in:\(input)")
    }
    for (output, value) in try Model(graph.flattened().program).run(inputs) {
      let expected = try arrays.tensor(named: "out:\(output)")
      #expect(value.shape == expected.shape)
      let pairs = try zip(numbers(value), numbers(expected))
      let (error, signal) = pairs.reduce((0.0, 0.0)) { sums, pair in
        (sums.0 + (pair.0 - pair.1) * (pair.0 - pair.1), sums.1 + pair.1 * pair.1)
      }
      #expect(error <= signal / 1000, "\(output)")
    }
  }

  /// Runs the network in a folder in float, and compares the results with those in `io.npz`.
  private func expectResults(of folder: URL) throws {
    let graph = try ONNXReader.read(path: folder.appending(path: "model.onnx").path)
    let arrays = try NPZArchive(path: folder.appending(path: "io.npz").path)
    var inputs: [String: Tensor] = [:]
    var expected: [String: Tensor] = [:]
    for entry in arrays.names {
      let tensor = try arrays.tensor(named: entry)
      if entry.hasPrefix("in:") { inputs[String(entry.dropFirst(3))] = tensor }
      if entry.hasPrefix("out:") { expected[String(entry.dropFirst(4))] = tensor }
    }
    #expect(Set(graph.inputs.map { graph[$0].name }) == Set(inputs.keys))
    let outputs = try Model(graph.flattened().program).run(inputs)
    #expect(Set(outputs.keys) == Set(expected.keys))
    for (name, expected) in expected {
      let output = try #require(outputs[name])
      #expect(output.elementType == expected.elementType)
      #expect(output.shape == expected.shape)
      // ONNX Runtime rounds every float16 result, this package only where it leaves the graph.
      let tolerance = expected.elementType == .float16 ? 4e-3 : 1e-5
      for (index, (value, reference)) in try zip(numbers(output), numbers(expected)).enumerated() {
        let isSame = value == reference || value.isNaN && reference.isNaN
        #expect(
          isSame || abs(value - reference) <= tolerance * max(1, abs(reference)),
          "\(name)[\(index)]: \(value), expected \(reference)")
      }
    }
  }

  @Test(arguments: Fixtures.cases(in: Fixtures.folder.appending(path: "reject")))
  func refuses(name: String) throws {
    let path = Fixtures.folder.appending(path: "reject/\(name)/model.onnx").path
    do {
      _ = try ONNXReader.read(path: path)
      Issue.record("\(name) was read")
    } catch {
      let codes: [QMError.Code] = [.malformed, .unsupported, .invalidInput, .cannotOpen]
      #expect(codes.contains(error.code), "\(error)")
      #expect(error.description.hasPrefix(path))
      #expect(!error.description.contains("\n"))
    }
  }

  @Test func namesNodeAndOperatorAndOpset() throws {
    let path = Fixtures.folder.appending(path: "reject/unknown_operator/model.onnx").path
    do {
      _ = try ONNXReader.read(path: path)
      Issue.record("it was read")
    } catch {
      #expect(error == .unsupported(""))
      #expect(
        error.description.contains(
          "node 'imagedecoder_y' (ImageDecoder, opset 20): unsupported operator"))
    }
  }

  @Test func keepsNamesAndFreeAxes() throws {
    let graph = try ONNXReader.read(
      path: Fixtures.folder.appending(path: "free_axes_and_shape_arithmetic/model.onnx").path)
    #expect(graph.inputs.map { graph[$0].name } == ["x"])
    #expect(graph[graph.inputs[0]].type == ValueType(.float32, [.free("batch"), 3, 4]))
    #expect(graph.outputs.map(\.name) == ["y"])
    #expect(graph.nodes.map(\.name).last == "reshape_y")
  }

  private func nodes(_ name: String, changes: ONNXChanges = ONNXChanges()) throws -> [String] {
    try ONNXReader.read(
      path: Fixtures.folder.appending(path: "\(name)/model.onnx").path, changes: changes
    ).nodes.map(\.operation.name)
  }

  @Test func aConditionThatIsKnownLeavesOneBranch() throws {
    #expect(try nodes("if_input_chooses_8").filter { $0 == "If" }.count == 1)
    // The other branch's weights go with it.
    let setting = ONNXChanges(settings: ["rate": .text("8")])
    #expect(
      try nodes("if_input_chooses_8", changes: setting) == ["Reshape", "MatrixMultiply", "Unary"])
    // A squeeze as PyTorch writes it is one.
    #expect(try nodes("if_extent_is_one").filter { $0 == "If" }.isEmpty)
    #expect(try nodes("if_data_chooses_positive").filter { $0 == "If" }.count == 1)
  }

  @Test func weightsOfEachGroupAreChannels() throws {
    for name in ["groups", "groups_of_one_row", "groups_of_three_rows"] {
      #expect(try nodes("einsum_\(name)").contains("Convolution"), "\(name)")
    }
    for name in ["weights_of_two_and_two", "weights_left"] {
      let graph = try ONNXReader.read(
        path: Fixtures.folder.appending(path: "einsum_\(name)/model.onnx").path)
      let product = try #require(graph.nodes.first { $0.operation.name == "MatrixMultiply" })
      #expect(graph[product.inputs[1]!].constant?.shape.count == 2, "\(name)")
    }
  }

  @Test func aWeightOfTwoProductsIsOneConstant() throws {
    let graph = try ONNXReader.read(
      path: Fixtures.folder.appending(path: "shared_weight/model.onnx").path)
    #expect(graph.values.filter { $0.constant != nil }.map(\.name) == ["W", "V"])
  }

  @Test func aWeightKeepsItsNameHoweverItIsStored() throws {
    for (name, weight) in [("gemm", "W"), ("half_weights", "H"), ("gemm_without_bias", "W")] {
      let graph = try ONNXReader.read(
        path: Fixtures.folder.appending(path: "\(name)/model.onnx").path)
      #expect(graph.values.contains { $0.name == weight && $0.constant != nil }, "\(name)")
    }
  }

  /// Types of few bits may be written one element, or one byte of codes, per integer.
  @Test func typedDataOfSmallTypesIsRead() throws {
    for (type, elements, numbers) in [
      (10, [0x3c00, 0xc100, 0, 0x7bff], [1, -2.5, 0, 65504]),
      (16, [0x3f80, 0xc020, 0, 0x4049], [1, -2.5, 0, 3.140625]),
    ] as [(Int, [Int], [Float])] {
      var network = ONNXNetwork(opset: 21)
      network.inputs = [("x", ValueType(.float32, [4]))]
      network.typedConstants = [("w", type, [4], elements)]
      network.nodes = [
        .init("Cast", ["w"], ["f"], [("to", .integer(1))]), .init("Add", ["x", "f"], ["y"]),
      ]
      network.outputs = ["y"]
      let graph = try ONNXReader.read(bytes: network.encoded())
      let zeros = try Tensor(zeros: .float32, [4])
      let outputs = try Model(graph.flattened().program).run(["x": zeros])
      #expect(outputs["y"]?.elements(as: Float.self) == numbers, "type \(type)")
    }
    var network = ONNXNetwork(opset: 21)
    network.inputs = [("x", ValueType(.float32, [4]))]
    network.constants = [("s", try Tensor([], [Float(0.5)]))]
    // −8, 7, −1, 2
    network.typedConstants = [("w", 22, [4], [0x78, 0x2f])]
    network.nodes = [
      .init("DequantizeLinear", ["w", "s"], ["f"]), .init("Add", ["x", "f"], ["y"]),
    ]
    network.outputs = ["y"]
    let program = try ONNXReader.read(bytes: network.encoded()).flattened().program
    let outputs = try Model(program).run(["x": Tensor(zeros: .float32, [4])])
    #expect(outputs["y"]?.elements(as: Float.self) == [-4, 3.5, -0.5, 1])
  }

  @Test func aMaximumOfOneValueIsThatValue() throws {
    var network = ONNXNetwork(opset: 17)
    network.inputs = [("x", ValueType(.float32, [3]))]
    network.nodes = [.init("Max", ["x"], ["y"])]
    network.outputs = ["y"]
    let graph = try ONNXReader.read(bytes: network.encoded())
    let x = try Tensor([3], [1, -2, 0.5] as [Float])
    let outputs = try Model(graph.flattened().program).run(["x": x])
    #expect(outputs["y"]?.elements(as: Float.self) == [1, -2, 0.5])
  }

  /// As ONNX's checker: what is ignored might change the result.
  @Test func attributesThatTheOperatorDoesNotHaveAreRefused() throws {
    func refusal(
      _ operation: String, opset: Int, _ name: String, _ value: ONNXNetwork.Attribute
    ) throws -> QMError? {
      var network = ONNXNetwork(opset: opset)
      network.inputs = [("x", ValueType(.float32, [2, 3]))]
      network.nodes = [.init(operation, ["x"], ["y"], [(name, value)])]
      network.outputs = ["y"]
      do { _ = try ONNXReader.read(bytes: network.encoded()) } catch { return error }
      return nil
    }
    let unknown = try refusal("Softmax", opset: 17, "temperature", .number(2))
    #expect(unknown?.description.contains("'temperature' is unknown; expected axis") == true)
    let later = try refusal("ReduceMean", opset: 18, "axes", .integers([1]))
    #expect(later?.description.contains("version_converter") == true)
    #expect(try refusal("ReduceMean", opset: 17, "axes", .integers([1])) == nil)
    #expect(try refusal("Softmax", opset: 17, "", .integer(1))?.message.contains("no name") == true)
    // A tool's own, which the checker lets pass.
    #expect(try refusal("Softmax", opset: 17, "__note", .integer(1)) == nil)
  }

  /// Without axes a dynamic axis is kept; that it is 1 in the run is an error there.
  @Test func squeezeKeepsADynamicAxis() throws {
    var network = ONNXNetwork(opset: 17)
    network.nodes = [.init("Relu", ["x"], ["a"]), .init("Squeeze", ["a"], ["y"])]
    network.outputs = ["y"]
    for one in [[], [1]] {
      let axes: [Shape.Axis] = [.free("n")] + one.map { .fixed($0) } + [3]
      network.inputs = [("x", ValueType(.float32, Shape(axes)))]
      let graph = try DefaultPasses.run(on: ONNXReader.read(bytes: network.encoded()))
      let model = try Model(graph.flattened().program)
      let two = try model.run(["x": Tensor([2] + one + [3], [1, 2, 3, 4, 5, 6] as [Float])])
      #expect(two["y"]?.shape == [2, 3])
      #expect(throws: QMError.invalidInput("")) {
        try model.run(["x": Tensor(zeros: .float32, [1] + one + [3])])
      }
    }
  }

  @Test func everySpellingOfAWeightIsTheSameConstant() throws {
    func weights(_ name: String) throws -> Tensor {
      let graph = try ONNXReader.read(
        path: Fixtures.folder.appending(path: "\(name)/model.onnx").path)
      let product = try #require(graph.nodes.first { $0.operation.name == "MatrixMultiply" })
      let weights = try #require(product.inputs[1])
      return try #require(graph[weights].constant)
    }
    let plain = try weights("gemm")
    for name in [
      "typed_float_data", "double_weights", "double_data", "constant_nodes",
      "constant_behind_reshape", "initializers_are_inputs", "external_data", "nameless_nodes",
      "graph_in_two_pieces", "unordered_nodes",
    ] {
      #expect(try weights(name).isIdentical(to: plain), "\(name)")
    }
  }

  @Test func cutsToTheOutputsAskedFor() throws {
    let path = Fixtures.folder.appending(path: "global_pools/model.onnx").path
    let graph = try ONNXReader.read(path: path, changes: ONNXChanges(outputs: ["b"]))
    #expect(graph.nodes.count == 1)
    #expect(graph.outputs.map(\.name) == ["b"])
    #expect(throws: QMError.usage("")) {
      try ONNXReader.read(path: path, changes: ONNXChanges(outputs: ["nothing"]))
    }
  }

  @Test func keepsWithinItsLimitsForComputedConstants() throws {
    let path = Fixtures.folder.appending(path: "constant_of_shape/model.onnx").path
    var limits = ONNXLimits()
    #expect(try ONNXReader.read(path: path, limits: limits).nodes.count == 1)
    limits.foldedBytes = -100
    #expect(try ONNXReader.read(path: path, limits: limits).nodes.count == 2)
    limits.ports = 0
    #expect(throws: QMError.unsupported("")) { try ONNXReader.read(path: path, limits: limits) }
  }

  /// Nodes without Constant, Identity and what depends on constants only; weights of products with
  /// their rows per output channel.
  @Test(arguments: [("digits_mlp", 5, 3), ("digits_cnn", 17, 5), ("ppocr_cls", 238, 54)])
  func readsRealNetworks(name: String, nodeCount: Int, productCount: Int) throws {
    let path = Fixtures.root.appending(path: "fixtures/models/\(name)/model.onnx").path
    let graph = try ONNXReader.read(path: path)
    #expect(graph.nodes.count == nodeCount)
    let products = graph.nodes.filter {
      ["Convolution", "MatrixMultiply"].contains($0.operation.name)
    }
    #expect(products.count == productCount)
    for product in products {
      let weights = try #require(product.inputs[1])
      let tensor = try #require(graph[weights].constant, "\(product.name)")
      let output = graph[product.outputs[0]].type.shape
      let channelAxis = product.operation.name == "Convolution" ? 1 : output.rank - 1
      #expect(output[channelAxis] == .fixed(tensor.shape[0]), "\(product.name)")
    }
  }

  @Test func saysWhichInputsHaveDefaults() throws {
    let information = try ONNXReader.readWithInformation(
      path: Fixtures.folder.appending(path: "initializers_are_inputs/model.onnx").path
    ).information
    #expect(information.defaultedInputs == ["W", "b"])
    #expect(information.opset == 17)
    #expect(information.producer == "onnx_cases.py")
  }

  private func numbers(_ tensor: Tensor) throws -> [Double] {
    switch tensor.elementType {
    case .float32: tensor.elements(as: Float.self).map(Double.init)
    case .float64: tensor.elements(as: Double.self)
    case .int64: tensor.elements(as: Int64.self).map(Double.init)
    case .uint8: tensor.elements(as: UInt8.self).map(Double.init)
    default: try numbers(tensor.converted(to: .float64))
    }
  }
}
