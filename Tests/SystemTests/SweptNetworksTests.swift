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

  /// An integer convolution reads constant codes with their scales; activations have no such codes.
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
    var recipe = Recipe(weights: .codes(.eight))
    recipe.thresholds.toleratedDecibels = -1000
    recipe.thresholds.toleratedByProductsDecibels = -1000
    let program = try Converter(recipe: recipe)
      .convert(ONNXReader.read(bytes: network.encoded()), samples: TensorSamples(samples)).program
    let convolution = try #require(
      program.nodes.first { if case .convolution = $0.operation { true } else { false } })
    #expect(program.note(of: convolution).mode == .float)
  }
}
