import QMGraph
import QMOperations
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

@Suite struct PassTests {
  private static let passes = DefaultPasses.exact + DefaultPasses.fusions

  // MARK: - Every pass leaves the outputs as they were

  /// Convolution, normalization, decomposed hard-swish, residual, pooling and a product, as an
  /// exporter writes them.
  private func exportedNetwork(seed: UInt64) throws -> Graph {
    var generator = SeededGenerator(seed: seed)
    func random(_ shape: [Int], _ range: ClosedRange<Float> = -1...1) throws -> Tensor {
      let count = shape.reduce(1, *)
      return try Tensor(shape, (0..<count).map { _ in Float.random(in: range, using: &generator) })
    }
    var graph = Graph()
    let x = try graph.addInput(
      name: "x", ValueType(.float32, [.free("n"), 3, .free("h"), .free("w")]))
    func constant(_ name: String, _ tensor: Tensor) -> Graph.ValueID {
      graph.addConstant(name: name, tensor)
    }
    func scalar(_ value: Float) throws -> Graph.ValueID {
      constant("c", try Tensor([], [value]))
    }
    func convolve(
      _ input: Graph.ValueID, _ inputs: Int, _ outputs: Int, name: String, groups: Int = 1
    ) throws -> Graph.ValueID {
      let convolution = Convolution(
        order: .channelsFirst, strides: [1, 1], dilations: [1, 1],
        padding: .explicit(before: [1, 1], after: [1, 1]), groups: groups)
      return try graph.append(
        .convolution(convolution), name: name,
        [input, constant("\(name).w", random([outputs, inputs / groups, 3, 3]))])[0]
    }
    func normalize(_ input: Graph.ValueID, _ channels: Int, name: String) throws -> Graph.ValueID {
      try graph.append(
        .batchNormalization(BatchNormalization(order: .channelsFirst, epsilon: 1e-5)), name: name,
        [
          input, constant("s", random([channels])), constant("b", random([channels])),
          constant("m", random([channels])), constant("v", random([channels], 0.5...2)),
        ])[0]
    }
    let first = try normalize(convolve(x, 3, 8, name: "conv1"), 8, name: "bn1")
    let shifted = try graph.append(.binary(Binary(.add)), name: "add3", [first, scalar(3)])[0]
    let clipped = try graph.append(
      .unary(Unary(.clip(minimum: 0, maximum: 6))), name: "clip", [shifted])[0]
    let product = try graph.append(.binary(Binary(.multiply)), name: "mul", [first, clipped])[0]
    let swish = try graph.append(
      .binary(Binary(.divide)), name: "hardswish", [product, scalar(6)])[0]
    let second = try normalize(
      convolve(swish, 8, 8, name: "conv2", groups: 8), 8, name: "bn2")
    let residual = try graph.append(.binary(Binary(.add)), name: "residual", [second, swish])[0]
    let relu = try graph.append(.unary(Unary(.relu)), name: "relu", [residual])[0]
    let pooled = try graph.append(
      .pooling(
        Pooling(
          kind: .maximum, order: .channelsFirst, window: [2, 2], strides: [2, 2],
          dilations: [1, 1], padding: .explicit(before: [0, 0], after: [0, 0]), roundsUp: false)),
      name: "pool", [relu])[0]
    let mean = try graph.append(
      .reduction(Reduction(.mean, axes: [2, 3], keepsAxes: true)), name: "mean", [pooled])[0]
    let same = try graph.append(.identity(Identity()), name: "identity", [mean])[0]
    let flat = try graph.append(.flatten(Flatten(axis: 1)), name: "flatten", [same])[0]
    let y = try graph.append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: "gemm",
      [flat, constant("gemm.w", random([5, 8])), constant("gemm.b", random([5]))])[0]
    try graph.addOutput(name: "y", y)
    try graph.addOutput(name: "features", relu)
    return graph
  }

  private func run(_ graph: Graph, _ x: Tensor) throws -> [String: Tensor] {
    try Model(graph.flattened().program).run(["x": x])
  }

  @Test(arguments: PassTests.passes.indices, [UInt64(1), 2])
  func keepsOutputs(pass: Int, seed: UInt64) throws {
    var graph = try exportedNetwork(seed: seed)
    for earlier in PassTests.passes[..<pass] { graph = try earlier.run(on: graph) }
    let rewritten = try PassTests.passes[pass].run(on: graph)
    var generator = SeededGenerator(seed: seed)
    for extents in [[1, 3, 8, 8], [2, 3, 6, 10]] {
      let x = try Tensor(
        extents, (0..<extents.reduce(1, *)).map { _ in Float.random(in: -1...1, using: &generator) }
      )
      let before = try run(graph, x)
      let after = try run(rewritten, x)
      for (name, tensor) in before {
        let other = try #require(after[name])
        #expect(other.shape == tensor.shape)
        let pairs = zip(tensor.elements(as: Float.self), other.elements(as: Float.self))
        let largest = pairs.map { abs($0 - $1) }.max() ?? 0
        let isExact = !["fold-affine", "fold-scalars", "recognize-activations"].contains(
          type(of: PassTests.passes[pass]).name)
        #expect(largest <= (isExact ? 0 : 2e-5), "\(name) of \(extents)")
      }
    }
  }

  @Test func leavesWhatAChipLikes() throws {
    let graph = try DefaultPasses.run(on: exportedNetwork(seed: 3))
    let names = graph.nodes.map(\.operation.name)
    #expect(names.filter { $0 == "Convolution" }.count == 2)
    #expect(!names.contains("BatchNormalization"))
    #expect(!names.contains("Binary"))
    #expect(!names.contains("Unary"))
    // In front of the first convolution, and for the output that leaves with channels first.
    #expect(names.filter { $0 == "Transpose" }.count == 2)
    let functions = graph.nodes.compactMap { node -> UnaryFunction? in
      if case .convolution(let convolution) = node.operation {
        convolution.epilogue.function
      } else {
        nil
      }
    }
    #expect(functions == [.hardSwish, .relu])
  }

  @Test func anOutputMayBeAnInputOrAConstant() throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, [2]))
    let same = try graph.append(.identity(Identity()), name: "same", [x])[0]
    try graph.addOutput(name: "y", same)
    try graph.addOutput(name: "c", graph.addConstant(name: "c", Tensor([2], [Float(1), 2])))
    let outputs = try run(DefaultPasses.run(on: graph), Tensor([2], [Float(3), 4]))
    #expect(outputs["y"]?.elements(as: Float.self) == [3, 4])
    #expect(outputs["c"]?.elements(as: Float.self) == [1, 2])
  }

  @Test func aBiggerConstantStaysANode() throws {
    var graph = Graph()
    _ = try graph.addInput(name: "x", ValueType(.float32, [1]))
    let extents = graph.addConstant(name: "e", try Tensor([2], [Int64(1) << 16, 1 << 10]))
    let one = graph.addConstant(name: "one", try Tensor([1], [Float(1)]))
    let big = try graph.append(.expand(Expand()), name: "expand", [one, extents])[0]
    try graph.addOutput(name: "y", big)
    #expect(try FoldConstants().run(on: graph).nodes.count == 1)
  }

  @Test func aChoiceWithAConstantConditionIsItsSide() throws {
    for isTrue in [true, false] {
      var graph = Graph()
      let x = try graph.addInput(name: "x", ValueType(.float32, [.free("n")]))
      let condition = graph.addConstant(name: "c", try Tensor([], [isTrue]))
      let negated = try graph.append(.unary(Unary(.negate)), name: "negated", [x])[0]
      let doubled = try graph.append(.binary(Binary(.add)), name: "doubled", [x, x])[0]
      let y = try graph.append(.if(If()), name: "y", [condition, negated, doubled])[0]
      try graph.addOutput(name: "y", y)
      let result = try DefaultPasses.run(on: graph)
      #expect(result.nodes.map(\.name) == [isTrue ? "negated" : "doubled"])
      let outputs = try run(result, Tensor([2], [Float(3), 4]))
      #expect(outputs["y"]?.elements(as: Float.self) == (isTrue ? [-3, -4] : [6, 8]))
    }
  }
}
