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
}
