import QMTensor

/// A row of numbers, quantized with the scale and zero point of ``DynamicQuantize``.
private struct RoundedRow {
  let codes: [Int32]
  let scale: Float
  let zeroPoint: Int32

  init(_ numbers: [Float]) {
    var low: Float = 0
    var high: Float = 0
    for number in numbers {
      if number < low { low = number }
      if number > high { high = number }
    }
    let found = QuantizationParameters(covering: low, high)
    codes = numbers.map {
      encode(
        real: $0, inverseScale: 1 / found.scale, zeroPoint: found.zeroPoint, lowest: -128,
        highest: 127)
    }
    scale = found.scale
    zeroPoint = found.zeroPoint
  }

  var numbers: [Float] { codes.map { decode(code: $0, scale: scale, zeroPoint: zeroPoint) } }
}

/// One of the two products of a recurrent layer, in the reference loops.
private struct RecurrentProduct {
  let inputs: Recurrent.Inputs
  let weights: TensorView
  let scales: TensorView?

  /// The product of `numbers` with each of the given rows of the weights.
  func callAsFunction(_ numbers: [Float], rows: Range<Int>) -> [Float] {
    let rounded = inputs == .roundedPerRow ? RoundedRow(numbers) : nil
    let factors = rounded?.numbers ?? numbers
    let depth = numbers.count
    return rows.map { row in
      guard let rounded, let scales else {
        let elements = weights.elements(as: Float.self)
        var sum: Float = 0
        for step in 0..<depth { sum.addProduct(factors[step], elements[row * depth + step]) }
        return sum
      }
      let codes = weights.elements(as: Int8.self)
      var sum: Int32 = 0
      for step in 0..<depth {
        sum &+= (rounded.codes[step] &- rounded.zeroPoint) &* Int32(codes[row * depth + step])
      }
      let all = scales.elements(as: Float.self)
      return Float(sum) * (rounded.scale * all[all.count == 1 ? 0 : row])
    }
  }
}

extension Recurrent {
  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    func operand(_ index: Int) -> TensorView? { index < inputs.count ? inputs[index] : nil }
    func floats(_ index: Int) -> UnsafeMutableBufferPointer<Float>? {
      operand(index)?.elements(as: Float.self)
    }
    guard let input = operand(RecurrentOperand.input),
      let weights = operand(RecurrentOperand.weights),
      let recurrence = operand(RecurrentOperand.recurrence)
    else { throw .malformed("\(Self.name) needs an input, weights and recurrence") }
    let extents = extents(input: input.shape, recurrence: recurrence.shape)
    let (hidden, rows) = (extents.hidden, extents.rows)
    let lengths = try lengths(
      extents,
      operand(RecurrentOperand.lengths).map {
        UnsafePointer($0.elements(as: Int32.self).baseAddress!)
      })
    let numbers = input.elements(as: Float.self)
    let fromInput = RecurrentProduct(
      inputs: self.inputs, weights: weights, scales: operand(RecurrentOperand.weightScales))
    let fromState = RecurrentProduct(
      inputs: self.inputs, weights: recurrence, scales: operand(RecurrentOperand.recurrenceScales))
    let bias = floats(RecurrentOperand.bias)
    let sequence = outputs[0].elements(as: Float.self)
    for index in sequence.indices { sequence[index] = 0 }

    for direction in 0..<extents.directions {
      func sum(
        _ product: RecurrentProduct, _ numbers: [Float], gates: Range<Int>, bias offset: Int
      ) -> [Float] {
        let range = gates.lowerBound * hidden..<gates.upperBound * hidden
        let first = direction * rows
        let products = product(numbers, rows: first + range.lowerBound..<first + range.upperBound)
        guard let bias else { return products }
        return zip(range, products).map { $1 + bias[2 * first + offset + $0] }
      }
      let step = ReferenceStep(
        self, direction: direction, hidden: hidden,
        peepholes: floats(RecurrentOperand.peepholes).map {
          Array($0[direction * 3 * hidden..<(direction + 1) * 3 * hidden])
        },
        fromState: { sum(fromState, $0, gates: $1, bias: rows) })
      for item in 0..<extents.batch {
        let state =
          (direction * extents.batch + item) * hidden..<(direction * extents.batch + item + 1)
          * hidden
        let zeros = [Float](repeating: 0, count: hidden)
        var h = floats(RecurrentOperand.hidden).map { Array($0[state]) } ?? zeros
        var c = floats(RecurrentOperand.cell).map { Array($0[state]) } ?? zeros
        for index in 0..<lengths[item] {
          let time = isReverse(direction) ? lengths[item] - 1 - index : index
          let first = (time * extents.batch + item) * extents.inputs
          let a = sum(
            fromInput, Array(numbers[first..<first + extents.inputs]), gates: 0..<extents.gates,
            bias: 0)
          step.run(a, &h, &c)
          let place = ((time * extents.directions + direction) * extents.batch + item) * hidden
          for unit in 0..<hidden { sequence[place + unit] = h[unit] }
        }
        for (unit, index) in state.enumerated() {
          outputs[1].elements(as: Float.self)[index] = h[unit]
          if cell.hasCellState { outputs[2].elements(as: Float.self)[index] = c[unit] }
        }
      }
    }
  }
}

/// One step of one direction, in the reference loops.
private struct ReferenceStep {
  let cell: Recurrent.Cell
  let clip: UnaryFunction?
  let functions: [UnaryFunction]
  let hidden: Int
  let peepholes: [Float]?
  /// The product of numbers and R for the given gates, plus the bias.
  let fromState: ([Float], Range<Int>) -> [Float]

  init(
    _ operation: Recurrent, direction: Int, hidden: Int, peepholes: [Float]?,
    fromState: @escaping ([Float], Range<Int>) -> [Float]
  ) {
    cell = operation.cell
    clip = operation.clip.map { .clip(minimum: -$0, maximum: $0) }
    functions = Array(operation.functions(of: direction))
    self.hidden = hidden
    self.peepholes = peepholes
    self.fromState = fromState
  }

  /// Clips the argument, then applies function `index`.
  private func gate(_ index: Int, _ argument: Float) -> Float {
    functions[index](clip.map { $0(argument) } ?? argument)
  }

  /// Computes the states after the step.
  /// - Parameter a: the products of the input, for all gates.
  func run(_ a: [Float], _ h: inout [Float], _ c: inout [Float]) {
    let units = 0..<hidden
    switch cell {
    case .simple:
      let b = fromState(h, 0..<1)
      h = units.map { gate(0, b[$0] + a[$0]) }
    case .gru, .gruResetAfter:
      let isAfter = cell == .gruResetAfter
      let b = fromState(h, 0..<(isAfter ? 3 : 2))
      let z = units.map { gate(0, b[$0] + a[$0]) }
      let r = units.map { gate(0, b[hidden + $0] + a[hidden + $0]) }
      let arguments: [Float]
      if isAfter {
        arguments = units.map { r[$0] * b[2 * hidden + $0] + a[2 * hidden + $0] }
      } else {
        let candidates = fromState(units.map { r[$0] * h[$0] }, 2..<3)
        arguments = units.map { candidates[$0] + a[2 * hidden + $0] }
      }
      h = units.map { unit in
        canonical((1 - z[unit]) * gate(1, arguments[unit]) + z[unit] * h[unit])
      }
    case .lstm, .lstmCoupled:
      let b = fromState(h, 0..<4)
      func argument(_ gate: Int, _ unit: Int, _ c: Float) -> Float {
        let sum = b[gate * hidden + unit] + a[gate * hidden + unit]
        guard gate < 3, let peepholes else { return sum }
        return sum + peepholes[gate * hidden + unit] * c
      }
      for unit in units {
        let i = gate(0, argument(0, unit, c[unit]))
        let j =
          cell == .lstmCoupled ? 1 - i : gate(0, argument(2, unit, c[unit]))
        c[unit] = canonical(j * c[unit] + i * gate(1, argument(3, unit, 0)))
        let o = gate(0, argument(1, unit, c[unit]))
        h[unit] = canonical(o * functions[2](c[unit]))
      }
    }
  }
}
