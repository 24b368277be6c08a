import QMGraph
import QMONNX
import QMOperations
import QMQuantization
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// Networks that `make sweep` found to fail once.
@Suite struct SweptNetworksTests {
  /// The kernels alone hold the packed weights, so they also run a sequence without steps.
  @Test func aRecurrentLayerOverNoStepsReturnsItsInitialState() throws {
    var random = SeededGenerator(seed: 5)
    var network = ONNXNetwork(opset: 22)
    network.inputs = [
      ("x", ValueType(.float32, [.free("steps"), 1, 2])),
      ("state", ValueType(.float32, [1, 1, 3])),
    ]
    network.constants = [
      ("w", try random.tensor([1, 9, 2])), ("r", try random.tensor([1, 9, 3])),
    ]
    network.nodes = [
      .init(
        "GRU", ["x", "w", "r", "", "", "state"], ["y", "last"], [("hidden_size", .integer(3))])
    ]
    network.outputs = ["y", "last"]
    let state = try random.tensor([1, 1, 3])
    let model = try Model(ONNXReader.read(bytes: network.encoded()).flattened().program)
    let results = try model.run(["x": Tensor([0, 1, 2], [Float]()), "state": state])
    #expect(results["y"]?.shape == [0, 1, 1, 3])
    let last = try #require(results["last"])
    #expect(firstDifference(last, state) == nil)
  }

  @Test func scalarsAreFoldedIntoAProductWithoutChannels() throws {
    var network = ONNXNetwork(opset: 22)
    network.inputs = [("x", ValueType(.float32, [.free("rows"), 3]))]
    network.constants = [
      ("w", try Tensor([3, 0], [Float]())), ("two", try Tensor([], [Float(2)])),
    ]
    network.nodes = [
      .init("MatMul", ["x", "w"], ["product"]), .init("Add", ["product", "two"], ["y"]),
    ]
    network.outputs = ["y"]
    let graph = try DefaultPasses.run(on: ONNXReader.read(bytes: network.encoded()))
    let results = try Model(graph.flattened().program).run([
      "x": Tensor([2, 3], [Float](repeating: 1, count: 6))
    ])
    #expect(results["y"]?.shape == [2, 0])
  }

  @Test func aProductWithoutChannelsIsConvertedWithSamples() throws {
    var random = SeededGenerator(seed: 7)
    var network = ONNXNetwork(opset: 22)
    network.inputs = [("x", ValueType(.float32, [2, 1]))]
    network.constants = [
      ("w", try Tensor([1, 0], [Float]())), ("v", try Tensor([0, 3], [Float]())),
    ]
    network.nodes = [.init("MatMul", ["x", "w"], ["h"]), .init("MatMul", ["h", "v"], ["y"])]
    network.outputs = ["y"]
    let samples = try (0..<8).map { _ in ["x": try random.tensor([2, 1])] }
    let program = try Converter(recipe: Recipe(weights: .codes(8)))
      .convert(ONNXReader.read(bytes: network.encoded()), samples: TensorSamples(samples)).program
    let results = try Model(program).run(samples[0])
    #expect(results["y"]?.elements(as: Float.self) == [Float](repeating: 0, count: 6))
  }

  /// An integer convolution reads constant codes with their scales; activations have no such codes.
  /// Nothing is rounded for it then.
  @Test(arguments: ["Conv", "ConvTranspose"]) func aConvolutionWithComputedWeightsStaysFloat(
    name: String
  ) throws {
    var random = SeededGenerator(seed: 6)
    var network = ONNXNetwork(opset: 22)
    network.inputs = [
      ("x", ValueType(.float32, [1, 2, 5])), ("w", ValueType(.float32, [2, 2, 3])),
    ]
    network.nodes = [.init(name, ["x", "w"], ["y"]), .init("Softmax", ["y"], ["z"])]
    network.outputs = ["z"]
    let samples = try (0..<4).map { _ in
      ["x": try random.tensor([1, 2, 5]), "w": try random.tensor([2, 2, 3])]
    }
    var recipe = Recipe(weights: .codes(8))
    recipe.thresholds.sufficientDecibels = -1000
    recipe.thresholds.sufficientDecibelsOfLogOdds = -1000
    let program = try Converter(recipe: recipe)
      .convert(ONNXReader.read(bytes: network.encoded()), samples: TensorSamples(samples)).program
    let convolution = try #require(
      program.nodes.first { if case .convolution = $0.operation { true } else { false } })
    #expect(program.note(of: convolution).mode == .float)
    #expect(
      !program.nodes.contains { if case .quantize = $0.operation { true } else { false } })
  }

  // MARK: What the recorded networks found

  /// Runs a network of one node on float32 tensors: an input and constants, or inputs with dynamic
  /// axes. An input's extent of 0 would be read as unknown, so that such a tensor is a constant.
  private func result(
    _ operation: String, _ inputs: [Tensor],
    _ attributes: [(name: String, value: ONNXNetwork.Attribute)] = [], opset: Int = 24,
    isDynamic: Bool = false
  ) throws -> Tensor {
    var network = ONNXNetwork(opset: opset)
    var named: [String: Tensor] = [:]
    for (index, tensor) in inputs.enumerated() {
      let name = "x\(index)"
      if index == 0 && !tensor.shape.contains(0) || isDynamic {
        let axes = tensor.shape.indices.map { Shape.Axis.free("\(name).\($0)") }
        network.inputs.append(
          (name, ValueType(.float32, isDynamic ? Shape(axes) : Shape(tensor.shape))))
        named[name] = tensor
      } else {
        network.constants.append((name, tensor))
      }
    }
    network.nodes = [.init(operation, inputs.indices.map { "x\($0)" }, ["y"], attributes)]
    network.outputs = ["y"]
    let graph = try DefaultPasses.run(on: ONNXReader.read(bytes: network.encoded()))
    return try #require(Model(graph.flattened().program).run(named)["y"])
  }

  private func ones(_ shape: [Int]) throws -> Tensor {
    try Tensor(shape, [Float](repeating: 1, count: shape.reduce(1, *)))
  }

  @Test func aMaskOfOneKeyForbidsTheOthers() throws {
    let query = try ones([1, 1, 1, 1])
    let values = try Tensor([1, 1, 3, 1], [1, 2, 4] as [Float])
    let mask = try Tensor([1, 1], [0] as [Float])
    let found = try result("Attention", [query, ones([1, 1, 3, 1]), values, mask])
    #expect(found.elements(as: Float.self) == [1])
    // The number of keys is known only in the run.
    var network = ONNXNetwork(opset: 24)
    network.inputs = [
      ("q", ValueType(.float32, [1, 1, 1, 1])),
      ("k", ValueType(.float32, [1, 1, .free("keys"), 1])),
      ("v", ValueType(.float32, [1, 1, .free("keys"), 1])),
    ]
    network.constants = [("mask", mask)]
    network.nodes = [.init("Attention", ["q", "k", "v", "mask"], ["y"])]
    network.outputs = ["y"]
    let model = try Model(ONNXReader.read(bytes: network.encoded()).flattened().program)
    let results = try model.run(["q": query, "k": ones([1, 1, 3, 1]), "v": values])
    #expect(results["y"]?.elements(as: Float.self) == [1])
  }

  /// No file may hold such a value, so that reading the network says it.
  @Test func aValueOfSeventeenAxesIsRefused() throws {
    var network = ONNXNetwork(opset: 22)
    network.inputs = [("x", ValueType(.float32, [2]))]
    network.constants = [("axes", try Tensor([16], (0..<16).map { Int64($0) }))]
    network.nodes = [.init("Unsqueeze", ["x", "axes"], ["y"])]
    network.outputs = ["y"]
    let bytes = try network.encoded()
    #expect { try ONNXReader.read(bytes: bytes) } throws: {
      ($0 as? QMError)?.code == .unsupported
    }
  }

  @Test func aMaskOfFiveAxesIsRefused() throws {
    let heads = try ones([1, 1, 2, 1])
    #expect(throws: QMError.self) {
      try result("Attention", [heads, heads, heads, ones([1, 1, 1, 2, 2])])
    }
  }

  /// If lambd is negative, both rules of the operator hold in between.
  @Test func shrinkTakesTheFirstRule() throws {
    let x = try Tensor([3], [-2, 0, 2] as [Float])
    let found = try result("Shrink", [x], [("lambd", .number(-1)), ("bias", .number(0.5))])
    #expect(found.elements(as: Float.self) == [-1.5, 0.5, 1.5])
  }

  @Test func groupsOfChannelsWithoutPositionsAreNormalized() throws {
    let x = try Tensor([1, 4], [1, 3, 10, 30] as [Float])
    let parameters = [x, try ones([4]), try ones([4])]
    for isDynamic in [false, true] {
      let found = try result(
        "GroupNormalization", parameters, [("num_groups", .integer(2)), ("epsilon", .number(0))],
        isDynamic: isDynamic)
      #expect(found.shape == [1, 4])
      #expect(found.elements(as: Float.self) == [0, 2, 0, 2])
    }
  }

  @Test func anExtentOfZeroGivesAnEmptyResult() throws {
    for operation in ["Softmax", "LogSoftmax", "Hardmax"] {
      #expect(try result(operation, [ones([2, 3, 0])], opset: 9).shape == [2, 3, 0])
    }
    for shape in [[0, 2, 2, 2], [1, 2, 0, 1], [1, 0, 2, 2]] {
      #expect(try result("LRN", [ones(shape)], [("size", .integer(3))]).shape == shape)
    }
    var network = ONNXNetwork(opset: 24)
    network.inputs = [("x", ValueType(.float32, [.free("batch"), 2, 3, 3]))]
    network.nodes = [.init("LRN", ["x"], ["y"], [("size", .integer(3))])]
    network.outputs = ["y"]
    let model = try Model(ONNXReader.read(bytes: network.encoded()).flattened().program)
    #expect(try model.run(["x": ones([0, 2, 3, 3])])["y"]?.shape == [0, 2, 3, 3])
  }
}
