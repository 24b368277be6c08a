import QMOperations
import QMTensor
import QMTestSupport
import Testing

@Suite struct RecurrentTests {
  // MARK: By hand

  private static let identity = UnaryFunction.affine(scale: 1, offset: 0)

  /// A layer of one unit that adds up its inputs.
  private func sums(_ direction: Recurrent.Direction) -> Recurrent {
    Recurrent(
      .simple, direction: direction,
      functions: [UnaryFunction](repeating: Self.identity, count: direction.count))
  }

  private func ones(_ rows: Int) throws -> Given {
    try Given([rows, 1], [Float](repeating: 1, count: rows))
  }

  @Test func aSimpleCellAddsUpItsInputs() throws {
    let input = try Given([3, 2, 1], [1, 10, 2, 20, 3, 30] as [Float])
    let outputs = try sums(.bidirectional).run([input, ones(2), ones(2)])
    #expect(outputs[0].shape == [3, 2, 2, 1])
    #expect(
      outputs[0].elements(as: Float.self) == [1, 10, 6, 60, 3, 30, 5, 50, 6, 60, 3, 30])
    #expect(outputs[1].elements(as: Float.self) == [6, 60, 6, 60])
  }

  @Test func sequencesEndWhereTheirLengthsSay() throws {
    let input = try Given([3, 3, 1], [1, 10, 100, 2, 20, 200, 3, 30, 300] as [Float])
    let lengths = try Given([3], [2, 3, 0] as [Int32])
    let first = try Given([1, 3, 1], [0.5, 0.25, 7] as [Float])
    let forward = try sums(.forward).run([input, ones(1), ones(1), nil, lengths, first])
    #expect(
      forward[0].elements(as: Float.self) == [1.5, 10.25, 0, 3.5, 30.25, 0, 0, 60.25, 0])
    #expect(forward[1].elements(as: Float.self) == [3.5, 60.25, 7])
    let reverse = try sums(.reverse).run([input, ones(1), ones(1), nil, lengths])
    #expect(reverse[0].elements(as: Float.self) == [3, 60, 0, 2, 50, 0, 0, 30, 0])
    #expect(reverse[1].elements(as: Float.self) == [3, 60, 0])
  }

  @Test func lengthsBeyondTheInputAreRefused() throws {
    let input = try Given([2, 1, 1], [1, 2] as [Float])
    for length: Int32 in [-1, 3] {
      let lengths = try Given([1], [length])
      #expect(throws: QMError.invalidInput("")) {
        try referenceOutputs(sums(.forward), [input, ones(1), ones(1), nil, lengths])
      }
    }
  }

  @Test func gatesByHand() throws {
    // Every gate's argument is x; with functions x → x: z = r = n = x.
    let rows = try Given([3, 1], [1, 1, 1] as [Float])
    let zeros = try Given([3, 1], [0, 0, 1] as [Float])
    let functions = [Self.identity, Self.identity]
    let first = try Given([1, 1, 1], [4] as [Float])
    let input = try Given([1, 1, 1], [0.5] as [Float])
    // n = r · h · 1 + x = 0.5 · 4 + 0.5 = 2.5; h = 0.5 · 2.5 + 0.5 · 4.
    let before = Recurrent(.gru, direction: .forward, functions: functions)
    #expect(
      try before.run([input, rows, zeros, nil, nil, first])[1].elements(as: Float.self) == [3.25])
    // With a bias of 2 on the recurrent side: n = r · (h + 2) + x = 3.5; before the product 4.5.
    let bias = try Given([1, 6], [0, 0, 0, 0, 0, 2] as [Float])
    let after = Recurrent(.gruResetAfter, direction: .forward, functions: functions)
    #expect(
      try after.run([input, rows, zeros, bias, nil, first])[1].elements(as: Float.self) == [3.75])
    #expect(
      try before.run([input, rows, zeros, bias, nil, first])[1].elements(as: Float.self) == [4.25])
  }

  @Test func lstmByHand() throws {
    let rows = try Given([4, 1], [1, 1, 1, 1] as [Float])
    let zeros = try Given([4, 1], [0, 0, 0, 0] as [Float])
    let functions = [Self.identity, Self.identity, Self.identity]
    let input = try Given([1, 1, 1], [0.5] as [Float])
    let cell = try Given([1, 1, 1], [8] as [Float])
    let peepholes = try Given([1, 3], [0.25, 1, 0.5] as [Float])
    var operation = Recurrent(.lstm, direction: .forward, functions: functions)
    // c = x · c + x · x = 4.25; h = x · c.
    var outputs = try operation.run([input, rows, zeros, nil, nil, nil, cell])
    #expect(outputs[2].elements(as: Float.self) == [4.25])
    #expect(outputs[1].elements(as: Float.self) == [2.125])
    // i = 2.5, j = 4.5: c = 36 + 1.25; o = 0.5 + 37.25.
    outputs = try operation.run([input, rows, zeros, nil, nil, nil, cell, peepholes])
    #expect(outputs[2].elements(as: Float.self) == [37.25])
    #expect(outputs[1].elements(as: Float.self) == [37.75 * 37.25])
    // The gates' arguments, not the cell's, are clipped to ±1: i = j = o = 1, g = 0.5.
    operation.clip = 1
    outputs = try operation.run([input, rows, zeros, nil, nil, nil, cell, peepholes])
    #expect(outputs[2].elements(as: Float.self) == [8.5])
    #expect(outputs[1].elements(as: Float.self) == [8.5])
    // j = 1 − i = −1.5.
    operation.clip = nil
    operation.cell = .lstmCoupled
    outputs = try operation.run([input, rows, zeros, nil, nil, nil, cell, peepholes])
    #expect(outputs[2].elements(as: Float.self) == [-10.75])
  }

  @Test func integersByHand() throws {
    // x = [0, 255] lies on a grid of step 1 exactly; the states stay within 0…255.
    let input = try Given([2, 1, 2], [0, 255, 255, 0] as [Float])
    let weights = try Given(
      [1, 2], [1, 2] as [Int8], .weights(bits: .eight, granularity: .perChannel(axis: 0)))
    let recurrence = try Given(
      [1, 1], [1] as [Int8], .weights(bits: .eight, granularity: .perTensor))
    let scales = try Given([1], [0.5] as [Float])
    var operation = sums(.forward)
    operation.inputs = .roundedPerRow
    let outputs = try operation.run(
      [input, weights, recurrence, nil, nil, nil, nil, nil, scales, scales])
    // 255 · 2 · 0.5; 255 · 1 · 0.5 + 255 · 1 · 0.5.
    #expect(outputs[0].elements(as: Float.self) == [255, 255])
  }

  // MARK: Kernels

  /// A random layer and its inputs.
  private struct Case {
    var operation: Recurrent
    var inputs: [TestOperand?]
  }

  private func randomCase(
    _ generator: inout SeededGenerator, _ cell: Recurrent.Cell, isInteger: Bool,
    steps: Int, batch: Int, inputs: Int, hidden: Int
  ) throws -> Case {
    let direction = generator.one(of: Recurrent.Direction.allCases)
    let functions: [UnaryFunction] = [
      .sigmoid, .tanh, .relu, .hardSigmoid(alpha: 0.2, beta: 0.5), .softsign, .elu(alpha: 1),
    ]
    let operation = Recurrent(
      cell, direction: direction,
      functions: (0..<direction.count * cell.functionCount).map { _ in
        generator.one(of: functions)
      },
      clip: generator.coin() ? 1.5 : nil,
      inputs: isInteger || generator.coin() ? .roundedPerRow : .real)
    let rows = direction.count * cell.gateCount * hidden
    let isConstant = generator.coin()
    var operands = [TestOperand?](repeating: nil, count: 10)
    operands[0] = TestOperand(try generator.floats([steps, batch, inputs]))
    for (index, depth) in [(1, inputs), (2, hidden)] {
      guard isInteger else {
        operands[index] = TestOperand(
          try generator.floats([rows, depth], in: -0.3...0.3), isConstant: isConstant)
        continue
      }
      let bits = BitWidth(generator.one(of: [2, 3, 4, 8]))!
      let isPerRow = generator.coin()
      operands[index] = TestOperand(
        try generator.codes([rows, depth], in: bits.allCodes),
        .weights(bits: bits, granularity: isPerRow ? .perChannel(axis: 0) : .perTensor),
        isConstant: isConstant)
      let largest = Float(bits.symmetricCodes.upperBound)
      operands[index + 7] = TestOperand(
        try generator.floats([isPerRow ? rows : 1], in: (0.1 / largest)...(0.5 / largest)),
        isConstant: true)
    }
    if generator.coin() {
      operands[3] = TestOperand(
        try generator.floats([direction.count, 2 * cell.gateCount * hidden]))
    }
    if generator.coin() {
      operands[4] = TestOperand(try generator.integers([batch], in: 0...Int32(steps)))
    }
    if generator.coin() {
      operands[5] = TestOperand(try generator.floats([direction.count, batch, hidden]))
    }
    if cell.hasCellState {
      if generator.coin() {
        operands[6] = TestOperand(try generator.floats([direction.count, batch, hidden]))
      }
      if generator.coin() {
        operands[7] = TestOperand(try generator.floats([direction.count, 3 * hidden]))
      }
    }
    return Case(operation: operation, inputs: operands)
  }

  @Test(arguments: Recurrent.Cell.allCases, [false, true])
  func kernelsEqualTheReference(cell: Recurrent.Cell, isInteger: Bool) throws {
    var generator = SeededGenerator(seed: 40 + UInt64(cell.rawValue))
    for number in 0..<60 {
      let steps = number == 0 ? 0 : Int.random(in: 1...7, using: &generator)
      let batch = number % 3 == 0 ? Int.random(in: 1...60, using: &generator) : 1
      let inputs = Int.random(in: 1...67, using: &generator)
      let hidden =
        number % 3 == 0
        ? Int.random(in: 1...9, using: &generator) : Int.random(in: 1...67, using: &generator)
      let test = try randomCase(
        &generator, cell, isInteger: isInteger, steps: steps, batch: batch, inputs: inputs,
        hidden: hidden)
      try expectKernelsEqualReference(
        test.operation, test.inputs,
        "[\(steps), \(batch), \(inputs)] → \(hidden), \(test.operation)")
    }
  }

  @Test func infinitiesAndNaNsHaveOneForm() throws {
    var generator = SeededGenerator(seed: 50)
    for cell in Recurrent.Cell.allCases {
      for isInteger in [false, true] {
        var test = try randomCase(
          &generator, cell, isInteger: isInteger, steps: 3, batch: 2, inputs: 5, hidden: 9)
        let numbers: [Float] = (0..<30).map {
          $0 % 7 == 3 ? .infinity : $0 % 11 == 5 ? -.nan : Float($0)
        }
        test.inputs[0] = TestOperand(try Tensor([3, 2, 5], numbers))
        try expectKernelsEqualReference(test.operation, test.inputs, "\(test.operation)")
      }
    }
  }

  // MARK: Properties

  @Test func aBatchItemDoesNotDependOnTheOthers() throws {
    var generator = SeededGenerator(seed: 60)
    for cell in Recurrent.Cell.allCases {
      var test = try randomCase(
        &generator, cell, isInteger: true, steps: 4, batch: 3, inputs: 8, hidden: 6)
      for index in 4...6 { test.inputs[index] = nil }
      let all = try referenceOutputs(test.operation, test.inputs)[1].elements(as: Float.self)
      let numbers = try #require(test.inputs[0]).tensor.elements(as: Float.self)
      for item in 0..<3 {
        var alone: [Float] = []
        for step in 0..<4 { alone += numbers[(step * 3 + item) * 8..<(step * 3 + item + 1) * 8] }
        test.inputs[0] = TestOperand(try Tensor([4, 1, 8], alone))
        let state = try referenceOutputs(test.operation, test.inputs)[1].elements(as: Float.self)
        for direction in 0..<test.operation.direction.count {
          let expected = all[(direction * 3 + item) * 6..<(direction * 3 + item + 1) * 6]
          #expect(Array(expected) == Array(state[direction * 6..<(direction + 1) * 6]), "\(cell)")
        }
      }
    }
  }

  /// Dequantized weights with inputs rounded per row are the simulation of the integers.
  @Test func integersAreWhatTheSimulationSays() throws {
    var generator = SeededGenerator(seed: 70)
    for cell in Recurrent.Cell.allCases {
      let test = try randomCase(
        &generator, cell, isInteger: true, steps: 3, batch: 2, inputs: 20, hidden: 11)
      var simulated = test.inputs
      for index in [1, 2] {
        let codes = try #require(test.inputs[index])
        let scales = try #require(test.inputs[index + 7])
        simulated[index] = TestOperand(
          try referenceOutputs(Dequantize(), [codes, scales])[0], isConstant: true)
        simulated[index + 7] = nil
      }
      let found = try referenceOutputs(test.operation, test.inputs)
      let expected = try referenceOutputs(test.operation, simulated)
      for (found, expected) in zip(found, expected) {
        for (a, b) in zip(found.elements(as: Float.self), expected.elements(as: Float.self)) {
          #expect(abs(a - b) <= 0.05 * max(1, abs(b)), "\(test.operation)")
        }
      }
    }
  }

  // MARK: Types

  @Test func freeAxesPassThrough() throws {
    let operation = Recurrent(
      .lstm, direction: .bidirectional,
      functions: [.sigmoid, .tanh, .tanh, .sigmoid, .tanh, .tanh])
    let types = try operation.outputTypes(for: [
      Operand(ValueType(.float32, [.free("steps"), .free("batch"), 5])),
      Operand(ValueType(.float32, [24, 5])), Operand(ValueType(.float32, [24, 3])), nil, nil,
      Operand(ValueType(.float32, [2, .free(""), 3])),
    ])
    #expect(types[0].shape == [.free("steps"), 2, .free("batch"), 3])
    #expect(types[1].shape == [2, .free("batch"), 3])
    #expect(types.count == 3 && types[2] == types[1])
  }

  @Test func wrongOperandsAreRefused() throws {
    let operation = Recurrent(.gru, direction: .forward, functions: [.sigmoid, .tanh])
    let input = Operand(ValueType(.float32, [7, 2, 5]))
    let weights = Operand(ValueType(.float32, [9, 5]))
    let recurrence = Operand(ValueType(.float32, [9, 3]))
    let width = Quantization.weights(bits: .eight, granularity: .perChannel(axis: 0))
    let codes = Operand(ValueType(.int8, [9, 5], width))
    let recurrentCodes = Operand(ValueType(.int8, [9, 3], width))
    let scales = Operand(ValueType(.float32, [9]))
    func refuses(
      _ operation: Recurrent, _ operands: [Operand?],
      sourceLocation: SourceLocation = #_sourceLocation
    ) {
      #expect(throws: QMError.malformed(""), sourceLocation: sourceLocation) {
        try operation.outputTypes(for: operands)
      }
    }
    #expect(try operation.outputTypes(for: [input, weights, recurrence]).count == 2)
    refuses(operation, [input, weights])
    refuses(operation, [input, Operand(ValueType(.float32, [9, 4])), recurrence])
    refuses(operation, [input, Operand(ValueType(.float32, [12, 5])), recurrence])
    refuses(operation, [input, weights, Operand(ValueType(.float32, [9, 4]))])
    refuses(operation, [input, weights, Operand(ValueType(.float32, [.free("rows"), 3]))])
    refuses(operation, [input, weights, recurrence, Operand(ValueType(.float32, [1, 9]))])
    refuses(operation, [input, weights, recurrence, nil, Operand(ValueType(.int64, [2]))])
    refuses(operation, [input, weights, recurrence, nil, Operand(ValueType(.int32, [3]))])
    // A cell state, of a cell that has none.
    let state = Operand(ValueType(.float32, [1, 2, 3]))
    refuses(operation, [input, weights, recurrence, nil, nil, state, state])
    var wrong = operation
    wrong.functions = [.sigmoid]
    refuses(wrong, [input, weights, recurrence])
    wrong = operation
    wrong.clip = 0
    refuses(wrong, [input, weights, recurrence])
    // Codes need rounded inputs, and come in pairs with their scales.
    let integers: [Operand?] = [
      input, codes, recurrentCodes, nil, nil, nil, nil, nil, scales, scales,
    ]
    refuses(operation, integers)
    var rounded = operation
    rounded.inputs = .roundedPerRow
    #expect(try rounded.outputTypes(for: integers).count == 2)
    refuses(rounded, integers.dropLast())
    refuses(rounded, [input, codes, recurrence, nil, nil, nil, nil, nil, scales])
    refuses(rounded, [input, weights, recurrence, nil, nil, nil, nil, nil, scales])
  }
}
