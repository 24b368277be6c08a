import QMGraph
import QMOperations
import QMRuntime
import QMTensor
import Testing

/// Training changes parameters: no exact pass relies on what they hold.
@Suite struct ParameterTests {
  /// `relu(x · scale) · one`, where `scale` is `two + two`.
  private func network() throws -> (graph: Graph, two: Graph.ValueID, one: Graph.ValueID) {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, [2]))
    let two = graph.addConstant(name: "two", try Tensor([1], [Float(2)]))
    let one = graph.addConstant(name: "one", try Tensor([1], [Float(1)]))
    let scale = try graph.append(.binary(Binary(.add)), name: "scale", [two, two])[0]
    let scaled = try graph.append(.binary(Binary(.multiply)), name: "scaled", [x, scale])[0]
    let relu = try graph.append(.unary(Unary(.relu)), name: "relu", [scaled])[0]
    let y = try graph.append(.binary(Binary(.multiply)), name: "y", [relu, one])[0]
    try graph.addOutput(name: "y", y)
    return (graph, two, one)
  }

  private func run(_ graph: Graph) throws -> [Float] {
    try Model(graph.flattened().program).run(["x": Tensor([2], [Float(3), -1])])["y"]!
      .elements(as: Float.self)
  }

  @Test func constantsAreFoldedAndParametersStay() throws {
    var (graph, two, one) = try network()
    #expect(try DefaultPasses.runExact(on: graph).nodes.map(\.name) == ["scaled", "relu"])
    try graph.makeParameter(two)
    try graph.makeParameter(one)
    let exact = try DefaultPasses.runExact(on: graph)
    #expect(exact.nodes.map(\.name) == ["scale", "scaled", "relu", "y"])
    #expect(exact.parameters.map { exact[$0].name } == ["two", "one"])
  }

  @Test func anotherParameterGivesAnotherResult() throws {
    var (graph, two, one) = try network()
    try graph.makeParameter(two)
    try graph.makeParameter(one)
    var exact = try DefaultPasses.runExact(on: graph)
    #expect(try run(exact) == [12, 0])
    try exact.setParameter(exact.parameters[0], to: Tensor([1], [Float(0.5)]))
    try exact.setParameter(exact.parameters[1], to: Tensor([1], [Float(-2)]))
    #expect(try run(exact) == [-6, 0])
    // The fusions take them for good.
    let fused = try DefaultPasses.fused(exact).graph
    #expect(try run(fused) == [-6, 0])
    #expect(fused.parameters.isEmpty)
    #expect(fused.nodes.count < exact.nodes.count)
  }

  @Test func onlyFloatConstantsAreParameters() throws {
    var (graph, two, _) = try network()
    let count = graph.addConstant(name: "count", try Tensor([1], [Int64(2)]))
    #expect(throws: QMError.usage("")) { try graph.makeParameter(count) }
    #expect(throws: QMError.usage("")) { try graph.makeParameter(graph.inputs[0]) }
    #expect(throws: QMError.usage("")) { try graph.setParameter(two, to: Tensor([1], [Float(1)])) }
    try graph.makeParameter(two)
    #expect(throws: QMError.usage("")) {
      try graph.setParameter(two, to: Tensor([2], [Float(1), 1]))
    }
  }
}
