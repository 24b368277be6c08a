import QMGraph
import QMOperations
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

@Suite struct EqualizeColumnsTests {
  private let sizes: [Float] = [1, 300, 0.02, 5e-7, 4, 0]

  /// A product of six columns of these sizes, then another product.
  private func graph(_ sizes: [Float], isShared: Bool = false) throws -> Graph {
    var generator = SeededGenerator(seed: 31)
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, Shape([.free("n"), .fixed(6)])))
    func weights(_ name: String, _ outputs: Int) throws -> Graph.ValueID {
      let numbers = (0..<outputs * 6).map { index in
        Float.random(in: 0.5...1, using: &generator) * sizes[index % 6]
          * (index % 5 == 0 ? -1 : 1)
      }
      return graph.addConstant(name: name, try Tensor([outputs, 6], numbers))
    }
    func product(_ value: Graph.ValueID, _ weights: Graph.ValueID, _ name: String) throws
      -> Graph.ValueID
    {
      try graph.append(
        .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: name, [value, weights],
        outputNames: [name])[0]
    }
    let shared = try weights("w1", 6)
    let first = try product(x, shared, "first")
    let hidden = try graph.append(.unary(Unary(.tanh)), name: "tanh", [first])[0]
    let second = try product(hidden, isShared ? shared : try weights("w2", 6), "second")
    try graph.addOutput(name: "y", second)
    return graph
  }

  private func weights(of name: String, in graph: Graph) throws -> [Float] {
    let node = try #require(graph.nodes.first { $0.name == name })
    let value = try #require(node.input(ProductOperand.weights))
    return try #require(graph[value].constant).elements(as: Float.self)
  }

  @Test func theColumnsOfAFirstProductAreOfOneSize() throws {
    let graph = try graph(sizes)
    let equalized = try EqualizeColumns().run(on: graph)
    let weights = try weights(of: "first", in: equalized)
    let largest = (0..<6).map { column in
      stride(from: column, to: 36, by: 6).map { abs(weights[$0]) }.max() ?? 0
    }
    #expect(largest[5] == 0)
    let high = try #require(largest.max())
    #expect(largest.dropLast().allSatisfy { abs($0 / high - 1) < 1e-6 }, "\(largest)")
    // What reads no input of the network is left as it is.
    #expect(try self.weights(of: "second", in: equalized) == self.weights(of: "second", in: graph))

    var generator = SeededGenerator(seed: 32)
    let x = try Tensor(
      [4, 6],
      (0..<24).map { index in
        Float.random(in: -1...1, using: &generator) / (sizes[index % 6] + 1e-9)
      })
    let before = try #require(try Model(graph.flattened().program).run(["x": x])["y"])
    let after = try #require(try Model(equalized.flattened().program).run(["x": x])["y"])
    for (left, right) in zip(before.elements(as: Float.self), after.elements(as: Float.self)) {
      #expect(abs(left - right) <= 1e-4 * max(1, abs(left)))
    }
  }

  @Test func columnsOfAboutOneSizeAndSharedWeightsStay() throws {
    for graph in [
      try graph([1, 7, 2, 3, 1, 0]), try graph(sizes, isShared: true),
    ] {
      let equalized = try EqualizeColumns().run(on: graph)
      #expect(equalized.nodes.map(\.name) == graph.nodes.map(\.name))
    }
  }

  /// A window that falls to 0 is no set of unlike units, columns of six sizes are.
  @Test func unlikeColumnsAreThoseOfMoreThanAQuarter() throws {
    func products(_ sizes: [Float]) throws -> Int {
      try EqualizeColumns().run(on: graph(sizes)).productsOfUnlikeColumns.count
    }
    #expect(try products(sizes) == 1)
    #expect(try products([1, 0.5, 0.9, 0.2, 0.001, 0.7]) == 0)
    #expect(try products([1, 1, 1, 1, 1, 1]) == 0)
    // The scales of a normalization inside the network say nothing of its inputs.
    var network = Graph()
    let x = try network.addInput(name: "x", ValueType(.float32, [2, 6]))
    let hidden = try network.append(.unary(Unary(.tanh)), name: "tanh", [x])[0]
    let scaled = try network.append(
      .binary(Binary(.multiply)), name: "scaled",
      [
        hidden,
        network.addConstant(name: "gamma", Tensor([6], [1, 1e-3, 1e-4, 1e-5, 1, 0] as [Float])),
      ])
    let y = try network.append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: "y",
      [scaled[0], network.addConstant(name: "w", Tensor([1, 6], [Float](repeating: 1, count: 6)))])
    try network.addOutput(name: "y", y[0])
    #expect(network.productsOfUnlikeColumns.isEmpty)
  }

  /// Small numbers joined with large ones, whose weights are small.
  @Test func joinedValuesAreOfOneSize() throws {
    var generator = SeededGenerator(seed: 33)
    func numbers(_ shape: [Int], _ size: (Int) -> Float) throws -> Tensor {
      try Tensor(
        shape,
        (0..<shape.reduce(1, *)).map { Float.random(in: -1...1, using: &generator) * size($0) })
    }
    var graph = Graph()
    let small = try graph.addInput(name: "a", ValueType(.float32, Shape([.free("n"), .fixed(3)])))
    let input = try graph.addInput(name: "b", ValueType(.float32, Shape([.free("n"), .fixed(5)])))
    let large = try graph.append(.unary(Unary(.tanh)), name: "tanh", [input])[0]
    let joined = try graph.append(
      .concatenate(Concatenate(axis: 1)), name: "joined", [small, large])[0]
    let weights = try graph.addConstant(
      name: "w", numbers([4, 8]) { $0 % 8 < 3 ? 1 : 1 / 330 })
    let y = try graph.append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: "product",
      [joined, weights], outputNames: ["y"])[0]
    try graph.addOutput(name: "y", y)
    try graph.addOutput(name: "joined", joined)

    let equalized = try EqualizeColumns().run(on: graph)
    let scaled = try self.weights(of: "product", in: equalized)
    func largest(_ columns: Range<Int>) -> Float {
      (0..<4).flatMap { row in columns.map { abs(scaled[8 * row + $0]) } }.max() ?? 0
    }
    #expect(largest(3..<8) / largest(0..<3) > 0.6 && largest(3..<8) / largest(0..<3) < 1.6)
    let inputs = [
      "a": try numbers([6, 3]) { _ in 5 }, "b": try numbers([6, 5]) { _ in 1 },
    ]
    let expected = try Model(graph.flattened().program).run(inputs)
    let found = try Model(equalized.flattened().program).run(inputs)
    // Powers of two change no sum.
    for name in ["joined", "y"] {
      #expect(
        try #require(found[name]).elements(as: Float.self)
          == #require(expected[name]).elements(as: Float.self))
    }
  }
}
