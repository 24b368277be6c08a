import QMGraph
import QMOperations
import QMTensor
import QMTestSupport
import QMTraining
import Testing

@Suite struct RecurrentGradientTests {
  /// What of a layer's optional operands and attributes is there.
  private struct Options: CustomStringConvertible {
    var steps = 3
    var batch = 2
    var inputs = 3
    var hidden = 2
    var direction = Recurrent.Direction.forward
    var hasBias = true
    var lengths: [Int32]?
    var hasStates = false
    var hasPeepholes = false
    var clip: Float?
    var functions: [UnaryFunction] = [.sigmoid, .tanh, .tanh]
    var inputRounding = Recurrent.Inputs.real

    var description: String {
      "[\(steps), \(batch), \(inputs)] → \(hidden), \(direction), bias \(hasBias), "
        + "lengths \(lengths ?? []), states \(hasStates), peepholes \(hasPeepholes), "
        + "clip \(clip ?? 0), \(functions)"
    }
  }

  private func layer(_ cell: Recurrent.Cell, _ options: Options) -> Operation {
    let own = Array(
      cell == .simple
        ? options.functions.suffix(1) : options.functions.prefix(cell.functionCount))
    return .recurrent(
      Recurrent(
        cell, direction: options.direction,
        functions: Array(repeating: own, count: options.direction.count).flatMap { $0 },
        clip: options.clip, inputs: options.inputRounding))
  }

  private func operands(
    _ cell: Recurrent.Cell, _ options: Options, _ generator: inout SeededGenerator
  ) throws -> [Tensor?] {
    let (directions, hidden) = (options.direction.count, options.hidden)
    let rows = directions * cell.gateCount * hidden
    var operands = [Tensor?](repeating: nil, count: 8)
    operands[RecurrentOperand.input] = try generator.tensor(
      [options.steps, options.batch, options.inputs])
    operands[RecurrentOperand.weights] = try generator.tensor([rows, options.inputs])
    operands[RecurrentOperand.recurrence] = try generator.tensor([rows, hidden])
    if options.hasBias {
      operands[RecurrentOperand.bias] = try generator.tensor(
        [directions, 2 * cell.gateCount * hidden])
    }
    if let lengths = options.lengths {
      operands[RecurrentOperand.lengths] = try Tensor([options.batch], lengths)
    }
    if options.hasStates {
      let shape = [directions, options.batch, hidden]
      operands[RecurrentOperand.hidden] = try generator.tensor(shape)
      if cell.hasCellState { operands[RecurrentOperand.cell] = try generator.tensor(shape) }
    }
    if options.hasPeepholes, cell.hasCellState {
      operands[RecurrentOperand.peepholes] = try generator.tensor([directions, 3 * hidden])
    }
    return operands
  }

  @Test(arguments: Recurrent.Cell.allCases)
  func layers(cell: Recurrent.Cell) throws {
    var generator = SeededGenerator(seed: 51)
    let cases = [
      Options(), Options(hasBias: false), Options(steps: 1, batch: 1, inputs: 1, hidden: 1),
      Options(direction: .reverse, hasStates: true), Options(direction: .bidirectional),
      Options(steps: 4, batch: 3, lengths: [2, 4, 0], hasStates: true),
      Options(
        steps: 4, batch: 3, direction: .bidirectional, lengths: [4, 1, 3], hasStates: true,
        hasPeepholes: true),
      Options(direction: .reverse, lengths: [1, 3], hasPeepholes: true),
      Options(hasStates: true, hasPeepholes: true),
      Options(steps: 2, batch: 1, inputs: 5, hidden: 19),
      Options(functions: [.hardSigmoid(alpha: 0.05, beta: 0.5), .softsign, .erf]),
      Options(functions: [.geluTanh, .affine(scale: 0.5, offset: 0.25), .silu]),
    ]
    for options in cases {
      try expectGradients(
        of: layer(cell, options), try operands(cell, options, &generator), "\(options)")
    }
  }

  /// A small step: arguments must not cross the bound.
  @Test(arguments: Recurrent.Cell.allCases)
  func clippedArgumentsHaveNoGradient(cell: Recurrent.Cell) throws {
    var generator = SeededGenerator(seed: 58)
    let options = Options(hasStates: true, hasPeepholes: true, clip: 0.75)
    try expectGradients(
      of: layer(cell, options), try operands(cell, options, &generator), step: 0x1p-8,
      tolerance: 4e-3)
    // With a bound that all arguments are beyond, nothing is left.
    var tight = Options()
    tight.clip = 1e-6
    let run = try GradientRun(
      GradientCase(layer(cell, tight), try operands(cell, tight, &generator)))
    try run.addGradients(try run.outputGradients(&generator))
    #expect(run.parameterGradients[RecurrentOperand.recurrence].allSatisfy { $0 == 0 })
  }

  /// Each output alone.
  @Test(arguments: Recurrent.Cell.allCases)
  func singleOutputs(cell: Recurrent.Cell) throws {
    var generator = SeededGenerator(seed: 53)
    let options = Options(lengths: [3, 2], hasStates: true)
    for output in 0..<(cell.hasCellState ? 3 : 2) {
      var test = GradientCase()
      let inputs = try operands(cell, options, &generator).map {
        try $0.map {
          $0.elementType == .float32 ? try test.parameter($0) : test.constant($0)
        }
      }
      try test.output(try test.append(layer(cell, options), inputs)[output])
      try expectGradients(test, "output \(output)")
    }
  }

  /// Without steps, the last states are the first.
  @Test(arguments: Recurrent.Cell.allCases)
  func sequencesOfNoSteps(cell: Recurrent.Cell) throws {
    var generator = SeededGenerator(seed: 54)
    let options = Options(steps: 0, hasStates: true)
    let run = try GradientRun(
      GradientCase(layer(cell, options), try operands(cell, options, &generator)))
    let gradients = try run.outputGradients(&generator)
    try run.addGradients(gradients)
    #expect(run.parameterGradients[4] == gradients[1])
    #expect(run.parameterGradients[1].allSatisfy { $0 == 0 })
  }

  /// Rounded rows: the gradient is that of a chain of layers of one step each, whose inputs and
  /// states are rounded by nodes of their own.
  @Test(arguments: [Recurrent.Cell.simple, .lstm, .lstmCoupled])
  func roundedRowsAreReadAsTheyAre(cell: Recurrent.Cell) throws {
    var generator = SeededGenerator(seed: 55)
    var options = Options(inputs: 4, hidden: 3, hasStates: true)
    let operands = try operands(cell, options, &generator)
    options.inputRounding = .roundedPerRow
    let rounded = try GradientRun(GradientCase(layer(cell, options), operands))

    var chain = GradientCase()
    var values: [Graph.ValueID?] = try operands.map { try $0.map { try chain.parameter($0) } }
    func round(_ value: Graph.ValueID, axes: Int) throws -> Graph.ValueID {
      let codes = try chain.append(.dynamicQuantize(DynamicQuantize(axes: axes)), [value])
      return try chain.append(.dequantize(Dequantize()), codes)[0]
    }
    options.inputRounding = .real
    let steps = try chain.append(
      .split(Split(axis: 0, sizes: .equal(parts: options.steps))),
      [try round(try #require(values[RecurrentOperand.input]), axes: 2)])
    var outputs: [Graph.ValueID] = []
    for step in steps {
      values[RecurrentOperand.input] = step
      values[RecurrentOperand.hidden] = try round(
        try #require(values[RecurrentOperand.hidden]), axes: 2)
      let results = try chain.append(layer(cell, options), values)
      outputs.append(results[0])
      values[RecurrentOperand.hidden] = results[1]
      if cell.hasCellState { values[RecurrentOperand.cell] = results[2] }
    }
    try chain.output(try chain.append(.concatenate(Concatenate(axis: 0)), outputs)[0])
    try chain.output(try #require(values[RecurrentOperand.hidden]))
    if let last = values[RecurrentOperand.cell] { try chain.output(last) }
    let unrolled = try GradientRun(chain)

    let gradients = try rounded.outputGradients(&generator)
    #expect(try rounded.loss(gradients) == unrolled.loss(gradients))
    try rounded.addGradients(gradients)
    try unrolled.addGradients(gradients)
    // The parameters of the chain in the order in which its nodes read them.
    func byName(_ run: GradientRun) -> [String: [Float]] {
      var result: [String: [Float]] = [:]
      for (parameter, gradient) in zip(run.network.parameters, run.parameterGradients) {
        result[parameter.name] = gradient
      }
      return result
    }
    let (found, expected) = (byName(rounded), byName(unrolled))
    #expect(found.count == expected.count)
    for (name, gradient) in found {
      let other = try #require(expected[name])
      #expect(largestError([gradient], [other.map(Double.init)]) < 1e-5, "\(name)")
    }
  }

  /// The same of a GRU, for one step, whose states take part unrounded too.
  @Test(arguments: [Recurrent.Cell.gru, .gruResetAfter])
  func roundedRowsOfGRUs(cell: Recurrent.Cell) throws {
    var generator = SeededGenerator(seed: 56)
    var options = Options(steps: 1, inputs: 4, hidden: 3)
    let operands = try operands(cell, options, &generator)
    options.inputRounding = .roundedPerRow
    let rounded = try GradientRun(GradientCase(layer(cell, options), operands))
    options.inputRounding = .real
    let x = try #require(operands[0])
    let codes = try Operation.dynamicQuantize(DynamicQuantize(axes: 2)).evaluate([x])
    let grid = try Operation.dequantize(Dequantize()).evaluate(
      codes, quantizations: [.dynamic(axes: 2)])
    let plain = try GradientRun(
      GradientCase(layer(cell, options), [grid[0]] + operands.dropFirst()))
    let gradients = try rounded.outputGradients(&generator)
    try rounded.addGradients(gradients)
    try plain.addGradients(gradients)
    #expect(rounded.parameterGradients == plain.parameterGradients)
  }
}
