import QMGraph
import QMOperations
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// Passes that fold numbers into products, and put rearrangements where they cost least.
@Suite struct MovePassTests {
  private var generator = SeededGenerator(seed: 5)

  private mutating func random(_ extents: [Int]) throws -> Tensor {
    let count = extents.reduce(1, *)
    return try Tensor(
      extents, (0..<count).map { _ in Float.random(in: -2...2, using: &generator) })
  }

  /// The outputs `y` of both graphs on the same input.
  private func outputs(_ graphs: [Graph], _ x: Tensor) throws -> [[Float]] {
    try graphs.map { try Model($0.flattened().program).run(["x": x])["y"]!.elements() }
  }

  private func convolution(padded: Int) -> Operation {
    .convolution(
      Convolution(
        order: .channelsFirst, strides: [1, 1], dilations: [1, 1],
        padding: .explicit(before: [padded, padded], after: [padded, padded]), groups: 1))
  }

  @Test mutating func scalarsInARowAreOne() throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, [.free("n"), 3]))
    var value = x
    for (function, number) in [
      (BinaryFunction.multiply, Float(3)), (.add, 1), (.divide, 2), (.subtract, 4),
    ] {
      let constant = graph.addConstant(name: "c", try Tensor([1], [number]))
      value = try graph.append(.binary(Binary(function)), name: "\(function)", [value, constant])[0]
    }
    let five = graph.addConstant(name: "five", try Tensor([], [Float(5)]))
    value = try graph.append(.binary(Binary(.subtract)), name: "from5", [five, value])[0]
    try graph.addOutput(name: "y", value)
    let folded = try FoldScalars().run(on: graph)
    #expect(folded.nodes.map(\.operation) == [.unary(Unary(.affine(scale: -1.5, offset: 8.5)))])
    let results = try outputs([graph, folded], random([4, 3]))
    #expect(zip(results[0], results[1]).allSatisfy { abs($0 - $1) < 1e-5 })
  }

  @Test(arguments: [0, 1])
  mutating func scalarsGoIntoTheNextConvolution(padding: Int) throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, [1, 2, 5, 5]))
    let swish = try graph.append(.unary(Unary(.hardSwish)), name: "swish", [x])[0]
    let two = graph.addConstant(name: "two", try Tensor([], [Float(2)]))
    let scaled = try graph.append(.binary(Binary(.multiply)), name: "mul", [swish, two])[0]
    let shifted = try graph.append(.binary(Binary(.add)), name: "add", [scaled, two])[0]
    let weights = graph.addConstant(name: "w", try random([3, 2, 3, 3]))
    let y = try graph.append(convolution(padded: padding), name: "conv", [shifted, weights])[0]
    try graph.addOutput(name: "y", y)
    let folded = try FoldScalars().run(on: graph)
    // An offset would have to hold in the padding too.
    let expected = padding == 0 ? ["Unary", "Convolution"] : ["Unary", "Unary", "Convolution"]
    #expect(folded.nodes.map(\.operation.name) == expected)
    let results = try outputs([graph, folded], random([1, 2, 5, 5]))
    #expect(zip(results[0], results[1]).allSatisfy { abs($0 - $1) < 1e-4 })
  }

  @Test mutating func scaleOfAnAttentionGoesBehindTheProduct() throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, [2, 4, 4]))
    let c = graph.addConstant(name: "c", try Tensor([], [Float(0.5)]))
    let scaled = try graph.append(.binary(Binary(.multiply)), name: "mul", [x, c])[0]
    let y = try graph.append(
      .matrixMultiply(MatrixMultiply(rightLayout: .depthFirst)), name: "qk", [scaled, x])[0]
    try graph.addOutput(name: "y", y)
    let folded = try FuseEpilogues().run(on: FoldScalars().run(on: graph))
    #expect(folded.nodes.map(\.operation.name) == ["MatrixMultiply"])
    let results = try outputs([graph, folded], random([2, 4, 4]))
    #expect(results[0] == results[1])
  }

  @Test mutating func biasAndFunctionGoBeforeRearrangements() throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, [.free("n"), 2, 6, 3]))
    let weights = graph.addConstant(name: "w", try random([4, 2, 1, 3]))
    let product = try graph.append(
      .convolution(
        Convolution(
          order: .channelsFirst, strides: [1, 1], dilations: [1, 1],
          padding: .explicit(before: [0, 0], after: [0, 0]), groups: 1)),
      name: "conv", [x, weights])[0]
    let flat = try graph.append(.squeeze(Squeeze(axes: [3])), name: "squeeze", [product])[0]
    let turned = try graph.append(
      .transpose(Transpose(permutation: [0, 2, 1])), name: "turn", [flat])[0]
    let bias = graph.addConstant(name: "b", try random([4]))
    let sum = try graph.append(.binary(Binary(.add)), name: "add", [bias, turned])[0]
    let y = try graph.append(.unary(Unary(.relu)), name: "relu", [sum])[0]
    try graph.addOutput(name: "y", y)
    let hoisted = try HoistElementwise().run(on: graph)
    #expect(
      hoisted.nodes.map(\.operation.name)
        == ["Convolution", "Binary", "Unary", "Squeeze", "Transpose"])
    let fused = try FuseEpilogues().run(on: FoldAffine().run(on: hoisted))
    #expect(fused.nodes.map(\.operation.name) == ["Convolution", "Squeeze", "Transpose"])
    let results = try outputs([graph, hoisted, fused], random([2, 2, 6, 3]))
    #expect(results[0] == results[1])
    #expect(zip(results[0], results[2]).allSatisfy { abs($0 - $1) < 1e-5 })
  }

  @Test mutating func transposesAreOneOrNone() throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, [.free("n"), 2, 3, 1]))
    func turn(_ value: Graph.ValueID, _ permutation: [Int]) throws -> Graph.ValueID {
      try graph.append(
        .transpose(Transpose(permutation: permutation)), name: "turn", [value])[0]
    }
    let once = try turn(x, [0, 2, 1, 3])
    let flat = try graph.append(.squeeze(Squeeze(axes: [3])), name: "squeeze", [once])[0]
    let back = try turn(flat, [0, 2, 1])
    let wide = try graph.append(.unsqueeze(Unsqueeze(axes: [1])), name: "wide", [back])[0]
    let y = try turn(wide, [0, 2, 1, 3])
    try graph.addOutput(name: "y", y)
    let merged = try MergeMoves().run(on: graph)
    #expect(!merged.nodes.contains { $0.operation.name == "Transpose" })
    let results = try outputs([graph, merged], random([3, 2, 3, 1]))
    #expect(results[0] == results[1])
  }

  @Test func oneHotRowsAreGathered() throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.int32, [.free("n"), 4, 1]))
    let numbers = graph.addConstant(name: "i", try Tensor([1, 1, 3], [Int32(0), 1, 2]))
    let equal = try graph.append(.comparison(Compare(.equal)), name: "equal", [x, numbers])[0]
    let rows = try graph.append(.cast(Cast(to: .float32)), name: "cast", [equal])[0]
    let weights = graph.addConstant(name: "w", try Tensor([2, 3], [Float(1), 2, 3, 4, 5, 6]))
    let y = try graph.append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: "embed",
      [rows, weights])[0]
    try graph.addOutput(name: "y", y)
    let found = try RecognizeEmbedding().run(on: graph)
    #expect(found.nodes.contains { $0.operation == .gather(Gather(axis: 0)) })
    #expect(!found.nodes.contains { $0.operation.name == "MatrixMultiply" })
    let results = try outputs(
      [graph, found], Tensor([2, 4, 1], [Int32(0), 1, 2, 3, -1, -7, 99, 1]))
    #expect(results[0] == results[1])
    #expect(results[1] == [1, 4, 2, 5, 3, 6, 0, 0, 0, 0, 0, 0, 0, 0, 2, 5])
  }

  @Test(arguments: [Float(0), 1])
  mutating func paddingGoesIntoTheConvolution(number: Float) throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, [.free("n"), 2, 4, 5]))
    let amounts = graph.addConstant(
      name: "amounts", try Tensor([8], [Int64(0), 0, 1, 2, 0, 0, 0, 3]))
    let filling = graph.addConstant(name: "number", try Tensor([], [number]))
    let padded = try graph.append(.pad(Pad(.constant)), name: "pad", [x, amounts, filling])[0]
    let weights = graph.addConstant(name: "w", try random([3, 2, 3, 3]))
    let y = try graph.append(convolution(padded: 1), name: "conv", [padded, weights])[0]
    try graph.addOutput(name: "y", y)
    let folded = try FoldPadding().run(on: graph)
    #expect(folded.nodes.count == (number == 0 ? 1 : 2))
    let results = try outputs([graph, folded], random([2, 2, 4, 5]))
    #expect(results[0] == results[1])
  }

  /// Pad, Slice and Split within a chain of convolutions keep its layout.
  @Test mutating func movesKeepTheLayoutOfAChain() throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, [.free("n"), 2, 6, 7]))
    func constant(_ numbers: [Int64]) throws -> Graph.ValueID {
      graph.addConstant(name: "i", try Tensor([numbers.count], numbers))
    }
    let weights = graph.addConstant(name: "w", try random([4, 2, 3, 3]))
    let first = try graph.append(convolution(padded: 1), name: "conv1", [x, weights])[0]
    let relu = try graph.append(.unary(Unary(.relu)), name: "relu", [first])[0]
    let padded = try graph.append(
      .pad(Pad(.reflect)), name: "pad", [relu, constant([0, 0, 1, 2, 0, 0, 3, 0]), nil])[0]
    let cut = try graph.append(
      .slice(Slice()), name: "slice",
      [padded, constant([1, 2]), constant([3, 9]), constant([1, -1]), constant([1, 2])])[0]
    let wide = try graph.append(
      .slice(Slice()), name: "slice2",
      [padded, constant([1, 2]), constant([3, 9]), constant([1, 3]), constant([1, 2])])[0]
    let parts = try graph.append(
      .split(Split(axis: 1, sizes: .explicit([1, 1]))), name: "split", [wide])
    let joined = try graph.append(
      .concatenate(Concatenate(axis: 1)), name: "join", [parts[1], parts[0]])[0]
    let sum = try graph.append(.binary(Binary(.add)), name: "sum", [joined, cut])[0]
    let y = try graph.append(
      convolution(padded: 0), name: "conv2",
      [sum, graph.addConstant(name: "w2", random([3, 2, 3, 3]))])[0]
    try graph.addOutput(name: "y", y)
    let assigned = try AssignLayouts().run(on: graph)
    let results = try outputs([graph, assigned], random([2, 2, 6, 7]))
    #expect(results[0] == results[1])
    // Around the network, and around the slice whose axis is counted from the end.
    #expect(assigned.nodes.filter { $0.operation.name == "Transpose" }.count <= 4)
  }

  @Test func zeroStatesAreNone() throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, [3, .free("n"), 2]))
    let shape = try graph.append(.shape(ShapeOperation(start: 1, end: 2)), name: "shape", [x])[0]
    let one = graph.addConstant(name: "one", try Tensor([1], [Int64(1)]))
    let three = graph.addConstant(name: "three", try Tensor([1], [Int64(3)]))
    let extents = try graph.append(
      .concatenate(Concatenate(axis: 0)), name: "extents", [one, shape, three])[0]
    let zero = graph.addConstant(name: "zero", try Tensor([], [Float(0)]))
    let state = try graph.append(.fill(Fill()), name: "state", [extents, zero])[0]
    let weights = graph.addConstant(
      name: "w", try Tensor([3, 2], [Float](repeating: 0.5, count: 6)))
    let again = graph.addConstant(
      name: "r", try Tensor([3, 3], [Float](repeating: 0.25, count: 9)))
    let outputs = try graph.append(
      .recurrent(Recurrent(.simple, direction: .forward, functions: [.tanh])),
      name: "rnn", [x, weights, again, nil, nil, state])
    try graph.addOutput(name: "y", outputs[0])
    let folded = try FoldPadding().run(on: graph)
    #expect(folded.nodes.map(\.operation.name) == ["Recurrent"])
    let input = try Tensor([3, 2, 2], (0..<12).map { Float($0) / 6 - 1 })
    #expect(
      try self.outputs([graph, folded], input)[0] == self.outputs([graph, folded], input)[1])
  }

  /// What exporters write for an extent: one element of a Shape, without its axis.
  @Test func theOnlyAxisOfAVectorIsSqueezed() throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, [1]))
    let y = try graph.append(.squeeze(Squeeze(axes: [0])), name: "squeeze", [x])[0]
    try graph.addOutput(name: "y", y)
    let assigned = try AssignLayouts().run(on: graph)
    #expect(try outputs([graph, assigned], Tensor([1], [Float(7)])) == [[7], [7]])
  }
}
