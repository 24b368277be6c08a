import Foundation
import QMGraph
import QMONNX
import QMOperations
import QMRuntime
import QMTensor
import Testing

/// Cutting a network, and setting values in it.
@Suite struct ONNXChangesTests {
  private func read(_ name: String, _ changes: ONNXChanges) throws -> Graph {
    try ONNXReader.read(
      path: Fixtures.folder.appending(path: "\(name)/model.onnx").path, changes: changes)
  }

  @Test func argumentsOfInputs() throws {
    #expect(try ONNXChanges.Input(argument: "x") == .init(name: "x"))
    #expect(
      try ONNXChanges.Input(argument: "a=b=1,n,3")
        == .init(name: "a=b", shape: Shape([.fixed(1), .free("n"), .fixed(3)])))
    for wrong in ["x=", "x=1,,2", "x=-1"] {
      #expect(throws: QMError.usage("")) { try ONNXChanges.Input(argument: wrong) }
    }
  }

  @Test func cutsBehindAValue() throws {
    let whole = try read("quantized_uint8", ONNXChanges())
    let part = try read("quantized_uint8", ONNXChanges(inputs: [.init(name: "p")]))
    #expect(part.inputs.map { part[$0].name } == ["p"])
    #expect(part[part.inputs[0]].type == ValueType(.float32, [.free("n"), 8, 1, 1]))
    #expect(part.nodes.count < whole.nodes.count)
    #expect(part.outputs.map(\.name) == ["y"])
  }

  @Test func givesAnInputOtherExtents() throws {
    let changes = ONNXChanges(inputs: [try .init(argument: "x=1,3,9,w")])
    let graph = try read("quantized_uint8", changes)
    #expect(graph[graph.inputs[0]].type.shape == Shape([1, 3, 9, .free("w")]))
  }

  @Test func setsValuesForGood() throws {
    let graph = try read(
      "two_inputs_two_outputs",
      ONNXChanges(settings: [try firstInput("two_inputs_two_outputs"): .text("0.5")]))
    #expect(graph.inputs.count == 1)
    // A value that is computed otherwise.
    let cut = try read("quantized_uint8", ONNXChanges(settings: ["f": .text("1")]))
    #expect(cut.inputs.isEmpty)
    #expect(throws: QMError.usage("")) {
      try read("quantized_uint8", ONNXChanges(settings: ["nothing": .text("1")]))
    }
    #expect(throws: QMError.usage("")) {
      try read("quantized_uint8", ONNXChanges(settings: ["x": .text("one")]))
    }
  }

  // MARK: - Random numbers

  @Test(arguments: ["random_like", "random_of_shape"])
  func randomNumbersBecomeOneNumber(name: String) throws {
    let graph = try read("reject/\(name)", ONNXChanges(settings: ["z": .text("0.5")]))
    #expect(graph.inputs.map { graph[$0].name } == ["x"])
    #expect(graph[graph.inputs[0]].type.shape == Shape([.free("n"), 4]))
    let input = try Tensor([1, 4], [1, 2, 3, 4] as [Float])
    let result = try Model(graph.flattened().program).run(["x": input])["y"]
    #expect(result?.elements(as: Float.self) == [1.5, 2.5, 3.5, 4.5])
  }

  /// With the shape that they would have, unless another is stated.
  @Test func randomNumbersBecomeAnInput() throws {
    let graph = try read("reject/random_like", ONNXChanges(inputs: [.init(name: "z")]))
    #expect(graph.inputs.map { graph[$0].name }.sorted() == ["x", "z"])
    let noise = try #require(graph.inputs.first { graph[$0].name == "z" })
    #expect(graph[noise].type == ValueType(.float32, [.free("n"), 4]))
    let stated = try read(
      "reject/random_like", ONNXChanges(inputs: [.init(argument: "z=n,1")]))
    #expect(stated.inputs.count == 2)
  }

  @Test func randomNumbersAreRefusedWithBothRemedies() throws {
    do {
      _ = try read("reject/random_like", ONNXChanges())
      Issue.record("it was read")
    } catch let error as QMError {
      #expect(error == .unsupported(""))
      #expect(error.remedies == [.setInputs(which: "its result 'z'"), .cutAfter])
    }
  }

  private func firstInput(_ name: String) throws -> String {
    let graph = try read(name, ONNXChanges())
    return graph[graph.inputs[0]].name
  }

  // MARK: - Networks that come with codes

  @Test(arguments: ["quantized_uint8", "quantized_int8_per_tensor"])
  func codesOfTheFileStay(name: String) throws {
    let graph = try DefaultPasses.run(on: read(name, ONNXChanges()))
    var plan = Plan(for: graph)
    var products = 0
    for node in graph.nodes {
      switch node.operation {
      case .convolution, .matrixMultiply: break
      default: continue
      }
      products += 1
      let weights = try #require(node.input(ProductOperand.weights))
      let codes = try #require(graph[weights].codes)
      #expect(codes.granularity == .perTensor || codes.granularity == .perChannel(axis: 0))
      #expect(codes.codes.shape == graph[weights].constant?.shape)
      plan.weights[weights] = codes
    }
    #expect(products == 3)
    try plan.adoptStoredCodes(of: graph)
    let lowered = try graph.inserting(plan).lowered()
    for node in lowered.nodes {
      switch node.operation {
      case .convolution, .matrixMultiply, .reduction:
        #expect(lowered[node.inputs[0]!].type.elementType == .int8, "\(node.name)")
        #expect(lowered[node.outputs[0]].type.elementType == .int8, "\(node.name)")
      default: break
      }
    }
    // One Quantize at the input, one Dequantize at the output.
    #expect(lowered.nodes.filter { $0.operation.name == "Quantize" }.count == 1)
    #expect(lowered.nodes.filter { $0.operation.name == "Dequantize" }.count == 1)

    let x = try Tensor([1, 3, 6, 6], (0..<108).map { Float($0 % 17) / 8 - 1 })
    let float = try Model(graph.flattened().program).run(["x": x])["y"]!
    let integer = try Model(lowered.flattened().program).run(["x": x])["y"]!
    guard
      case .quantize(let last)? = graph.nodes.last(where: { $0.operation.name == "Quantize" })?
        .operation
    else { return }
    for (one, other) in zip(float.elements(as: Float.self), integer.elements(as: Float.self)) {
      #expect(abs(one - other) <= last.scale * 1.01)
    }
  }

  @Test func codesOfFourBits() throws {
    let graph = try read("quantized_int4_per_channel", ONNXChanges())
    let weights = try #require(graph.nodes[0].input(ProductOperand.weights))
    let width = try #require(BitWidth(4))
    #expect(
      graph[weights].codes?.quantization == .weights(bits: width, granularity: .perChannel(axis: 0))
    )
  }
}
