import QMGraph
import QMOperations
import QMQuantization
import QMTensor
import QMTestSupport

/// A network under construction, channels last.
struct TestNetwork {
  var graph = Graph()
  var generator = SeededGenerator(seed: 21)
  let x: Graph.ValueID

  init(_ shape: Shape) throws { x = try graph.addInput(name: "x", ValueType(.float32, shape)) }

  mutating func product(
    _ value: Graph.ValueID, _ outputs: Int, _ name: String, _ epilogue: Epilogue = Epilogue(),
    weights: [Float]? = nil
  ) throws -> Graph.ValueID {
    let depth = graph[value].type.shape.axes.last!.extent!
    let numbers =
      weights ?? (0..<outputs * depth).map { _ in Float.random(in: -1...1, using: &generator) }
    return try graph.append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst, epilogue: epilogue)),
      name: name,
      [value, graph.addConstant(name: "\(name).w", Tensor([outputs, depth], numbers))],
      outputNames: [name])[0]
  }

  mutating func unary(
    _ function: UnaryFunction, _ value: Graph.ValueID, _ name: String
  ) throws -> Graph.ValueID {
    try graph.append(.unary(Unary(function)), name: name, [value], outputNames: [name])[0]
  }

  /// The conversion with samples of the given numbers.
  func converted(
    _ y: Graph.ValueID, samples: [[Float]], _ activations: Recipe.Activations? = .int8
  ) throws -> Conversion {
    var graph = graph
    try graph.addOutput(name: "y", y)
    let extents = graph[x].type.shape.axes.map { $0.extent! }
    return try Converter(recipe: Recipe(weights: .codes(8), activations: activations))
      .convert(graph, samples: TensorSamples(samples.map { ["x": try Tensor(extents, $0)] }))
  }
}

/// Random numbers within a range.
func numbers(_ count: Int, seed: UInt64, _ range: ClosedRange<Float>) -> [Float] {
  var generator = SeededGenerator(seed: seed)
  return (0..<count).map { _ in Float.random(in: range, using: &generator) }
}
