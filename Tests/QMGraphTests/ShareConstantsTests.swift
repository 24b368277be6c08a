import QMGraph
import QMOperations
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

@Suite struct ShareConstantsTests {
  /// Two products, each followed by a negation that goes into its copy of the weights.
  @Test func weightsWithTheSameFactorAreOne() throws {
    var generator = SeededGenerator(seed: 41)
    func random(_ shape: [Int]) throws -> Tensor {
      try Tensor(
        shape,
        (0..<shape.reduce(1, *)).map { _ in Float.random(in: -1...1, using: &generator) })
    }
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, [.free("n"), 16]))
    let weights = graph.addConstant(name: "w", try random([16, 16]))
    var value = x
    for index in 0..<3 {
      value = try graph.append(
        .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: "product\(index)",
        [value, weights])[0]
      value = try graph.append(.unary(Unary(.negate)), name: "negate\(index)", [value])[0]
      value = try graph.append(.unary(Unary(.tanh)), name: "tanh\(index)", [value])[0]
    }
    let other = graph.addConstant(name: "other", try random([16, 16]))
    value = try graph.append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: "last", [value, other])[0]
    try graph.addOutput(name: "y", value)

    let passed = try DefaultPasses.run(on: graph)
    let products = passed.nodes.filter {
      if case .matrixMultiply = $0.operation { true } else { false }
    }
    #expect(products.count == 4)
    let read = products.map { $0.input(ProductOperand.weights) }
    #expect(Set(read.prefix(3)).count == 1)
    #expect(read[3] != read[0])
    #expect(
      passed.nodes.allSatisfy {
        if case .unary(let unary) = $0.operation { unary.function != .negate } else { true }
      })

    let inputs = ["x": try random([5, 16])]
    let expected = try Model(graph.flattened().program).run(inputs)["y"]?.elements(as: Float.self)
    let found = try Model(passed.flattened().program).run(inputs)["y"]?.elements(as: Float.self)
    for (right, found) in zip(try #require(expected), try #require(found)) {
      #expect(abs(right - found) < 1e-5)
    }
  }

  /// Equal biases are a coincidence, and may be trained or corrected apart.
  @Test func biasesStayApart() throws {
    var graph = Graph()
    var value = try graph.addInput(name: "x", ValueType(.float32, [.free("n"), 64]))
    for index in 0..<2 {
      let weights = graph.addConstant(
        name: "w\(index)",
        try Tensor([64, 64], (0..<4096).map { Float($0 * (index + 3) % 17) / 64 }))
      let bias = graph.addConstant(
        name: "b\(index)", try Tensor([64], [Float](repeating: 0, count: 64)))
      value = try graph.append(
        .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: "product\(index)",
        [value, weights, bias])[0]
    }
    try graph.addOutput(name: "y", value)
    let shared = try ShareConstants().run(on: graph)
    #expect(Set(shared.nodes.map { $0.input(ProductOperand.weights) }).count == 2)
    #expect(Set(shared.nodes.map { $0.input(ProductOperand.bias) }).count == 2)
  }
}
