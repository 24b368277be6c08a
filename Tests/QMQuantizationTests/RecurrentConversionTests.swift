import QMFormat
import QMGraph
import QMOperations
import QMQuantization
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

@Suite struct RecurrentConversionTests {
  /// A recurrent layer and a product behind it, with free axes.
  private func network(_ cell: Recurrent.Cell) throws -> Graph {
    var generator = SeededGenerator(seed: 3)
    func floats(_ shape: [Int]) throws -> Tensor {
      let count = shape.reduce(1, *)
      return try Tensor(
        shape, (0..<count).map { _ in Float.random(in: -0.4...0.4, using: &generator) })
    }
    var graph = Graph()
    let rows = 2 * cell.gateCount * 10
    let input = try graph.addInput(
      name: "x", ValueType(.float32, [.free("steps"), .free("batch"), 12]))
    let functions: [UnaryFunction] = Array([.sigmoid, .tanh, .tanh].suffix(cell.functionCount))
    let states = try graph.append(
      .recurrent(Recurrent(cell, direction: .bidirectional, functions: functions + functions)),
      name: "states",
      [
        input, graph.addConstant(name: "W", try floats([rows, 12])),
        graph.addConstant(name: "R", try floats([rows, 10])),
        graph.addConstant(name: "B", try floats([2, rows])),
      ])
    let output = try graph.append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: "y",
      [states[0], graph.addConstant(name: "V", try floats([5, 10]))])[0]
    try graph.addOutput(name: "y", output)
    try graph.addOutput(name: "last", states[1])
    return graph
  }

  private func sample(_ steps: Int, _ batch: Int, seed: UInt64) throws -> [String: Tensor] {
    var generator = SeededGenerator(seed: seed)
    let numbers = (0..<steps * batch * 12).map { _ in Float.random(in: -1...1, using: &generator) }
    return ["x": try Tensor([steps, batch, 12], numbers)]
  }

  @Test(arguments: Recurrent.Cell.allCases, [Recipe.Activations.dynamic, .int8])
  func becomesIntegersThatStayCloseToFloat(
    cell: Recurrent.Cell, activations: Recipe.Activations
  ) throws {
    let graph = try network(cell)
    let samples = TensorSamples(try (0..<4).map { try sample(6, 2, seed: 10 + $0) })
    var recipe = Recipe(weights: .codes(8), activations: activations)
    // Otherwise some cells stay in float32, which brings them 2 dB closer.
    recipe.thresholds.sufficientDecibels = 25
    let conversion = try Converter(recipe: recipe).convert(graph, samples: samples)
    let node = try #require(conversion.program.nodes.first { $0.operation.name == "Recurrent" })
    #expect(conversion.program.note(of: node).mode == .integer)
    for position in [RecurrentOperand.weights, RecurrentOperand.recurrence] {
      let value = try #require(node.inputs[position])
      #expect(conversion.program.values[value].type.elementType == .int8)
    }
    for (name, comparison) in conversion.comparisons {
      #expect(comparison.signalToNoise > 25, "\(name)")
    }
    // The program does what the simulation says, at extents that neither has seen.
    let inputs = try sample(9, 3, seed: 99)
    let found = try Model(conversion.program).run(inputs)
    let expected = try Model(conversion.simulation.flattened().program).run(inputs)
    for (name, expected) in expected {
      var comparison = Comparison()
      try comparison.add(reference: expected, measured: try #require(found[name]))
      #expect(comparison.signalToNoise > 40, "\(name)")
    }
  }

  @Test func withFloatActivationsOnlyTheWeightsAreRounded() throws {
    let conversion = try Converter(recipe: Recipe(weights: .codes(8), activations: .float))
      .convert(network(.gru))
    let node = try #require(conversion.program.nodes.first { $0.operation.name == "Recurrent" })
    #expect(conversion.program.note(of: node).mode == .float)
    guard case .recurrent(let recurrent) = node.operation else { return }
    #expect(recurrent.inputs == .real)
  }

  @Test func aLayerWithComputedWeightsStaysFloat() throws {
    var graph = Graph()
    func input(_ name: String, _ shape: Shape) throws -> Graph.ValueID {
      try graph.addInput(name: name, ValueType(.float32, shape))
    }
    let outputs = try graph.append(
      .recurrent(Recurrent(.simple, direction: .forward, functions: [.tanh])), name: "rnn",
      [input("x", [3, 1, 2]), input("W", [4, 2]), input("R", [4, 4])])
    try graph.addOutput(name: "y", outputs[0])
    let conversion = try Converter(recipe: Recipe(weights: .codes(8), activations: .dynamic))
      .convert(graph)
    #expect(conversion.program.nodes.count == 1)
    #expect(conversion.program.note(of: conversion.program.nodes[0]).mode == .float)
  }
}
