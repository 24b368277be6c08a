import QMOperations
import QMTensor
import QMTestSupport
import Testing

/// Weights whose groups along the depth have scales of their own.
@Suite struct GroupScalesTests {
  /// Two products by hand: (1·2 + 3·4) · 0.5 + (5·6) · 0.25, in that order, plus the bias.
  @Test func groupsAreScaledAndAddedInTheirOrder() throws {
    let input = TestOperand(
      try Tensor([1, 3], [1, 3, 5] as [Int8]), .fixed(scale: 1, zeroPoint: 0))
    let weights = TestOperand(
      try Tensor([1, 3], [2, 4, 6] as [Int8]),
      .weights(bits: .eight, granularity: .perGroup(axis: 1, size: 2)), isConstant: true)
    let scales = TestOperand(try Tensor([1, 2], [0.5, 0.25] as [Float]), isConstant: true)
    let bias = TestOperand(try Tensor([1], [100] as [Float]), isConstant: true)
    let outputs = try referenceOutputs(
      MatrixMultiply(rightLayout: .channelsFirst), [input, weights, bias, scales])
    #expect(outputs[0].elements(as: Float.self) == [114.5])
    let numbers = try referenceOutputs(Dequantize(), [weights, scales])
    #expect(numbers[0].elements(as: Float.self) == [1, 2, 1.5])
  }

  /// Float32 sums depend on their order: 2³⁰ − 2³⁰ + 1 is 1, and 1 + 2³⁰ − 2³⁰ is 0.
  @Test func theOrderIsThatOfTheGroups() throws {
    let input = TestOperand(
      try Tensor([1, 3], [1, 1, 1] as [Int8]), .fixed(scale: 1, zeroPoint: 0))
    func product(_ weights: [Int8], _ scales: [Float]) throws -> Float {
      let operands: [TestOperand?] = [
        input,
        TestOperand(
          try Tensor([1, 3], weights),
          .weights(bits: .eight, granularity: .perGroup(axis: 1, size: 1)), isConstant: true),
        nil, TestOperand(try Tensor([1, 3], scales), isConstant: true),
      ]
      try expectKernelsEqualReference(
        MatrixMultiply(rightLayout: .channelsFirst), operands, "\(weights)")
      return try referenceOutputs(MatrixMultiply(rightLayout: .channelsFirst), operands)[0]
        .elements(as: Float.self)[0]
    }
    #expect(try product([1, -1, 1], [0x1p30, 0x1p30, 1]) == 1)
    #expect(try product([1, 1, -1], [1, 0x1p30, 0x1p30]) == 0)
  }

  private func grouped(
    _ inputs: [TestOperand?], size: Int, bits: Int, _ generator: inout SeededGenerator
  ) throws -> [TestOperand?] {
    var inputs = inputs
    let weights = inputs[ProductOperand.weights]!
    let granularity = Granularity.perGroup(axis: weights.tensor.shape.count - 1, size: size)
    inputs[ProductOperand.weights] = TestOperand(
      weights.tensor, .weights(bits: BitWidth(bits)!, granularity: granularity), isConstant: true)
    let shape = try granularity.scaleShape(of: Shape(weights.tensor.shape)).extents!
    inputs[ProductOperand.weightScales] = TestOperand(
      try generator.tensor(shape, in: 0.001...0.01), isConstant: true)
    return inputs
  }

  @Test(arguments: [ProductCase.Arithmetic.fixed, .wide, .dynamic])
  func productsEqualTheReference(arithmetic: ProductCase.Arithmetic) throws {
    var generator = SeededGenerator(seed: 31)
    for _ in 0..<30 {
      var test = ProductCase(&generator, arithmetic)
      if test.bias == .integer { test.bias = .real }
      let rows = generator.one(of: [1, 2, 7, 60])
      let depth = Int.random(in: 1...70, using: &generator)
      let columns = generator.one(of: [1, 3, 4, 5, 8, 17, 40])
      let size = Int.random(in: 1...40, using: &generator)
      let inputs = try grouped(
        test.inputs(
          &generator, input: [2, rows, depth], weights: [columns, depth],
          output: [2, rows, columns], channels: columns, channelAxis: 0,
          parameters: size % 4 == 0 ? [] : [2, rows],
          constantWeights: true), size: size, bits: test.bits, &generator)
      try expectKernelsEqualReference(
        MatrixMultiply(rightLayout: .channelsFirst, epilogue: test.epilogue), inputs,
        "\(rows)×\(depth)×\(columns), groups of \(size), \(test)")
    }
  }

  @Test(arguments: [ProductCase.Arithmetic.fixed, .wide, .dynamic])
  func convolutionsEqualTheReference(arithmetic: ProductCase.Arithmetic) throws {
    var generator = SeededGenerator(seed: 32)
    for number in 0..<20 {
      var test = ProductCase(&generator, arithmetic)
      if test.bias == .integer { test.bias = .real }
      let groups = number % 4 == 3 ? 2 : 1
      let channels = groups * Int.random(in: 1...20, using: &generator)
      let columns = groups * Int.random(in: 1...20, using: &generator)
      let (height, width) = (generator.one(of: [3, 5, 9]), generator.one(of: [3, 4, 11]))
      let stride = generator.one(of: [1, 2])
      let operation = Convolution(
        order: .channelsLast, strides: [stride, 1], dilations: [1, generator.one(of: [1, 2])],
        padding: .sameUpper, groups: groups, epilogue: test.epilogue)
      let size = Int.random(in: 1...20, using: &generator)
      let inputs = try grouped(
        test.inputs(
          &generator, input: [2, height, width, channels],
          weights: [columns, 3, 2, channels / groups],
          output: [2, (height + stride - 1) / stride, width, columns], channels: columns,
          channelAxis: 0, parameters: size % 4 == 0 ? [] : [2], constantWeights: true), size: size,
        bits: test.bits,
        &generator)
      try expectKernelsEqualReference(
        operation, inputs,
        "\(height)×\(width)×\(channels) to \(columns), \(groups) groups, scales of \(size), \(test)"
      )
    }
  }

  @Test func dequantizedWeightsEqualTheReference() throws {
    var generator = SeededGenerator(seed: 33)
    for (shape, size) in [([3, 2, 10], 4), ([1, 7], 7), ([5, 6], 100), ([300, 129], 32)] {
      let granularity = Granularity.perGroup(axis: shape.count - 1, size: size)
      let inputs = [
        TestOperand(
          try generator.codes(shape), .weights(bits: .eight, granularity: granularity),
          isConstant: true),
        TestOperand(
          try generator.tensor(granularity.scaleShape(of: Shape(shape)).extents!), isConstant: true),
      ]
      try expectKernelsEqualReference(Dequantize(), inputs, "\(shape), groups of \(size)")
    }
  }

  @Test func groupsLieAlongTheDepth() throws {
    let input = Operand(ValueType(.int8, [2, 6], .fixed(scale: 0.1, zeroPoint: 0)))
    func type(_ axis: Int, _ size: Int, scales: [Int], bias: ElementType? = nil) throws {
      let weights = Operand(
        ValueType(
          .int8, [4, 6],
          .weights(bits: BitWidth(4)!, granularity: .perGroup(axis: axis, size: size))))
      _ = try MatrixMultiply(rightLayout: .channelsFirst).outputTypes(for: [
        input, weights, bias.map { Operand(ValueType($0, [4])) },
        Operand(ValueType(.float32, Shape(scales))),
      ])
    }
    try type(1, 4, scales: [4, 2], bias: .float32)
    try type(1, .max, scales: [4, 1])
    #expect(throws: QMError.malformed("")) { try type(1, 4, scales: [4, 1]) }
    #expect(throws: QMError.malformed("")) { try type(1, 4, scales: [4]) }
    #expect(throws: QMError.malformed("")) { try type(1, 0, scales: [4, 6]) }
    #expect(throws: QMError.malformed("")) { try type(1, 4, scales: [4, 2], bias: .int32) }
    #expect(throws: QMError.unsupported("")) { try type(0, 4, scales: [1, 6]) }
  }
}
