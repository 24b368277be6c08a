import QMGraph
import QMOperations
import QMTensor
import QMTestSupport
import QMTraining
import Testing

/// Backpropagation through time that is cut every N steps.
@Suite struct TruncationTests {
  private static let (steps, batch, inputs, hidden) = (7, 2, 3, 4)

  private static func layer(_ cell: Recurrent.Cell, _ direction: Recurrent.Direction) -> Operation {
    let functions: [UnaryFunction] =
      cell == .simple ? [.tanh] : Array([.sigmoid, .tanh, .tanh].prefix(cell.functionCount))
    return .recurrent(Recurrent(cell, direction: direction, functions: functions))
  }

  /// The operands but for the input and the states.
  private static func parameters(
    _ cell: Recurrent.Cell, _ generator: inout SeededGenerator
  ) throws -> [Int: Tensor] {
    let rows = cell.gateCount * hidden
    var result = [
      RecurrentOperand.weights: try generator.tensor([rows, inputs]),
      RecurrentOperand.recurrence: try generator.tensor([rows, hidden]),
      RecurrentOperand.bias: try generator.tensor([1, 2 * rows]),
    ]
    if cell.hasCellState {
      result[RecurrentOperand.peepholes] = try generator.tensor([1, 3 * hidden])
    }
    return result
  }

  /// A layer whose states are inputs, not parameters, unless they are among the parameters.
  private static func run(
    _ operation: Operation, _ parameters: [Int: Tensor], input: Tensor, states: [Tensor],
    lengths: Tensor? = nil, throughTime: Int = 0
  ) throws -> GradientRun {
    var test = GradientCase()
    var operands = [Graph.ValueID?](repeating: nil, count: 8)
    operands[RecurrentOperand.input] = try test.parameter(input)
    for (position, tensor) in parameters.sorted(by: { $0.key < $1.key }) {
      operands[position] = try test.parameter(tensor)
    }
    if let lengths { operands[RecurrentOperand.lengths] = test.constant(lengths) }
    for (position, state) in zip([RecurrentOperand.hidden, RecurrentOperand.cell], states)
    where operands[position] == nil {
      operands[position] = try test.input(state)
    }
    for output in try test.append(operation, operands) { try test.output(output) }
    return try GradientRun(test, options: .init(throughTime: throughTime))
  }

  private static func states(
    _ cell: Recurrent.Cell, _ generator: inout SeededGenerator, batch: Int = batch
  ) throws -> [Tensor] {
    try (0..<(cell.hasCellState ? 2 : 1)).map { _ in try generator.tensor([1, batch, hidden]) }
  }

  /// The gradients of a layer's parameters, by operand.
  private static func byOperand(
    _ run: GradientRun, _ parameters: [Int: Tensor]
  ) -> [Int: [Float]] {
    let positions = [RecurrentOperand.input] + parameters.keys.sorted()
    return Dictionary(uniqueKeysWithValues: zip(positions, run.parameterGradients))
  }

  /// Segments that run one after the other: each gets the states of the one before as numbers.
  @Test(arguments: Recurrent.Cell.allCases, [Recurrent.Direction.forward, .reverse])
  func segmentsAreLayersOfTheirOwn(
    cell: Recurrent.Cell, direction: Recurrent.Direction
  ) throws {
    var generator = SeededGenerator(seed: 61)
    let operation = Self.layer(cell, direction)
    let parameters = try Self.parameters(cell, &generator)
    let input = try generator.tensor([Self.steps, Self.batch, Self.inputs])
    let first = try Self.states(cell, &generator)
    for segment in [1, 2, 3, 5] {
      let whole = try Self.run(
        operation, parameters, input: input, states: first, throughTime: segment)
      let gradients = try whole.outputGradients(&generator)
      try whole.addGradients(gradients)
      var expected = Self.byOperand(whole, parameters).mapValues {
        [Double](repeating: 0, count: $0.count)
      }
      var states = first
      for start in stride(from: 0, to: Self.steps, by: segment) {
        let end = min(start + segment, Self.steps)
        let times =
          direction == .forward ? start..<end : Self.steps - end..<Self.steps - start
        let width = Self.batch * Self.inputs
        let part = try Self.run(
          operation, parameters,
          input: Tensor(
            [times.count, Self.batch, Self.inputs],
            Array(
              input.elements(as: Float.self)[
                times.lowerBound * width..<times.upperBound * width])),
          states: states)
        let outputs = Self.batch * Self.hidden
        var own = [Array(gradients[0][times.lowerBound * outputs..<times.upperBound * outputs])]
        // The states that are handed over have no gradient; the last have that of the outputs.
        for state in gradients.dropFirst() {
          own.append(end == Self.steps ? state : [Float](repeating: 0, count: state.count))
        }
        try part.addGradients(own)
        for (position, gradient) in Self.byOperand(part, parameters) {
          let offset = position == RecurrentOperand.input ? times.lowerBound * width : 0
          for (index, number) in gradient.enumerated() {
            expected[position]?[offset + index] += Double(number)
          }
        }
        states = try part.lossValues.dropFirst().map {
          try Tensor([1, Self.batch, Self.hidden], Array(part.pass.elements(of: $0)))
        }
      }
      for (position, gradient) in Self.byOperand(whole, parameters) {
        let other = try #require(expected[position])
        #expect(
          largestError([gradient], [other]) < 1e-5,
          "\(cell), \(direction), \(segment) steps, operand \(position)")
      }
    }
  }

  @Test(arguments: Recurrent.Cell.allCases)
  func segmentsAsLongAsTheSequenceCutNothing(cell: Recurrent.Cell) throws {
    var generator = SeededGenerator(seed: 62)
    let operation = Self.layer(cell, .forward)
    let parameters = try Self.parameters(cell, &generator)
    let input = try generator.tensor([Self.steps, Self.batch, Self.inputs])
    let states = try Self.states(cell, &generator)
    let whole = try Self.run(operation, parameters, input: input, states: states)
    let gradients = try whole.outputGradients(&generator)
    try whole.addGradients(gradients)
    for steps in [1, Self.steps - 1, Self.steps, Self.steps + 1, 1000] {
      let run = try Self.run(
        operation, parameters, input: input, states: states, throughTime: steps)
      try run.addGradients(gradients)
      #expect(
        (run.parameterGradients == whole.parameterGradients) == (steps >= Self.steps),
        "\(cell), \(steps) steps")
    }
  }

  /// A sequence is cut at its own steps, wherever others in the batch end; the first states have a
  /// gradient from the first segment alone.
  @Test(arguments: Recurrent.Cell.allCases, [Recurrent.Direction.forward, .reverse])
  func sequencesOfABatchAreCutAlone(
    cell: Recurrent.Cell, direction: Recurrent.Direction
  ) throws {
    var generator = SeededGenerator(seed: 63)
    let operation = Self.layer(cell, direction)
    let lengths: [Int32] = [7, 2, 4, 0, 1]
    let shared = try Self.parameters(cell, &generator)
    let input = try generator.tensor([Self.steps, lengths.count, Self.inputs])
    let states = try Self.states(cell, &generator, batch: lengths.count)
    let positions = [RecurrentOperand.hidden, RecurrentOperand.cell]
    var parameters = shared
    for (position, state) in zip(positions, states) { parameters[position] = state }
    let batched = try Self.run(
      operation, parameters, input: input, states: [],
      lengths: Tensor([lengths.count], lengths), throughTime: 2)
    let gradients = try batched.outputGradients(&generator)
    try batched.addGradients(gradients)
    var sums = shared.mapValues { [Double](repeating: 0, count: $0.elementCount) }
    func part(_ elements: [Float], _ item: Int, _ width: Int) -> [Float] {
      stride(from: item * width, to: elements.count, by: lengths.count * width).flatMap {
        elements[$0..<$0 + width]
      }
    }
    for item in lengths.indices {
      for (position, state) in zip(positions, states) {
        parameters[position] = try Tensor(
          [1, 1, Self.hidden], part(state.elements(as: Float.self), item, Self.hidden))
      }
      let single = try Self.run(
        operation, parameters,
        input: Tensor(
          [Self.steps, 1, Self.inputs], part(input.elements(as: Float.self), item, Self.inputs)),
        states: [], lengths: Tensor([1], [lengths[item]]), throughTime: 2)
      try single.addGradients(gradients.map { part($0, item, Self.hidden) })
      let found = Self.byOperand(single, parameters)
      for position in shared.keys {
        for (index, number) in found[position, default: []].enumerated() {
          sums[position]?[index] += Double(number)
        }
      }
      let all = Self.byOperand(batched, parameters)
      for (position, width) in [
        (RecurrentOperand.input, Self.inputs), (RecurrentOperand.hidden, Self.hidden),
        (RecurrentOperand.cell, Self.hidden),
      ] {
        guard let own = found[position], let batch = all[position] else { continue }
        #expect(
          largestError([part(batch, item, width)], [own.map(Double.init)]) < 1e-5,
          "\(cell), \(direction), item \(item), operand \(position)")
      }
    }
    for (position, gradient) in Self.byOperand(batched, parameters) {
      guard let sum = sums[position] else { continue }
      #expect(
        largestError([gradient], [sum]) < 1e-5, "\(cell), \(direction), operand \(position)")
    }
  }
}
