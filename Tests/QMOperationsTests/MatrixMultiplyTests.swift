import QMOperations
import QMTensor
import QMTestSupport
import Testing

@Suite struct MatrixMultiplyTests {
  // MARK: By hand

  @Test func floatByHand() throws {
    let left = try Tensor([2, 3], [1, 2, 3, 4, 5, 6] as [Float])
    let right = try Tensor([3, 2], [1, 0, 0, 1, 2, -1] as [Float])
    let bias = try Tensor([2], [0.5, -100] as [Float])
    let operation = MatrixMultiply(
      rightLayout: .depthFirst, epilogue: Epilogue(function: .relu))
    let outputs = try referenceOutputs(
      operation, [TestOperand(left), TestOperand(right), TestOperand(bias)])
    #expect(outputs[0].elements(as: Float.self) == [7.5, 0, 16.5, 0])
  }

  @Test func integersByHand() throws {
    // Reals: left (code − 1)/2 = [1, −1], right code/4 = [[0.5, 1], [1, −2]]; product 0.5, −0.5
    // is [−0.5, 3]; with bias 4/8: [0, 3.5]; codes at scale 0.25 and zero point −10.
    let left = TestOperand(
      try Tensor([1, 2], [3, -1] as [Int8]), .fixed(scale: 0.5, zeroPoint: 1))
    let right = TestOperand(
      try Tensor([2, 2], [2, 4, 4, -8] as [Int8]),
      .weights(bits: .eight, granularity: .perTensor), isConstant: true)
    let bias = TestOperand(try Tensor([2], [4, 4] as [Int32]))
    let scales = TestOperand(try Tensor([1], [0.25] as [Float]))
    let operation = MatrixMultiply(
      rightLayout: .channelsFirst,
      epilogue: Epilogue(output: .quantized(.int8, scale: 0.25, zeroPoint: -10)))
    let outputs = try referenceOutputs(operation, [left, right, bias, scales])
    // Row 0 of the right operand is [0.5, 1]: 1·0.5 − 1·1 + 0.5 = 0; row 1: 1 + 2 + 0.5 = 3.5.
    #expect(outputs[0].elements(as: Int8.self) == [-10, 4])
  }

  @Test func floatSumsAscendAndAreFused() throws {
    var generator = SeededGenerator(seed: 1)
    let left = try generator.floats([3, 29])
    let right = try generator.floats([29, 4])
    let outputs = try referenceOutputs(
      MatrixMultiply(rightLayout: .depthFirst), [TestOperand(left), TestOperand(right)])
    let (a, b) = (left.elements(as: Float.self), right.elements(as: Float.self))
    for row in 0..<3 {
      for column in 0..<4 {
        // The product of two float32 is exact in float64; so is the rounding to float32 that
        // follows a float64 sum, except for double rounding, which these numbers do not meet.
        var sum: Float = 0
        for k in 0..<29 {
          sum = Float(Double(a[row * 29 + k]) * Double(b[k * 4 + column]) + Double(sum))
        }
        #expect(outputs[0].elements(as: Float.self)[row * 4 + column] == sum)
      }
    }
  }

  // MARK: Kernels

  @Test(arguments: [ProductCase.Arithmetic.float, .fixed, .wide, .dynamic])
  func kernelsEqualTheReference(arithmetic: ProductCase.Arithmetic) throws {
    var generator = SeededGenerator(seed: 7)
    for number in 0..<120 {
      let test = ProductCase(&generator, arithmetic)
      let rows = number % 3 == 0 ? 1 : Int.random(in: 1...67, using: &generator)
      let depth = Int.random(in: 1...67, using: &generator)
      let columns = Int.random(in: 1...(number % 3 == 0 ? 300 : 67), using: &generator)
      let isConstant = generator.coin()
      let layout = generator.one(of: [RightLayout.depthFirst, .channelsFirst])
      let (leftLeading, rightLeading, leading): ([Int], [Int], [Int]) = generator.one(
        of: [([], [], []), ([], [], []), ([3], [], [3]), ([2], [2], [2]), ([2, 1], [3], [2, 3])])
      let right = layout == .depthFirst ? [depth, columns] : [columns, depth]
      let inputs = try test.inputs(
        &generator, input: leftLeading + [rows, depth], weights: rightLeading + right,
        output: leading + [rows, columns], channels: columns,
        channelAxis: rightLeading.count + (layout == .depthFirst ? 1 : 0),
        parameters: arithmetic == .dynamic && number % 4 == 1 ? [] : leftLeading + [rows],
        constantWeights: isConstant)
      try expectKernelsEqualReference(
        MatrixMultiply(rightLayout: layout, epilogue: test.epilogue), inputs,
        "\(leftLeading)\(rows)×\(depth) · \(rightLeading)\(columns) \(layout), constant \(isConstant), \(test)"
      )
    }
  }

  @Test func kernelsEqualTheReferenceOnActivations() throws {
    var generator = SeededGenerator(seed: 8)
    for number in 0..<45 {
      let rows = Int.random(in: 1...67, using: &generator)
      let depth = Int.random(in: 1...67, using: &generator)
      let columns = Int.random(in: 1...67, using: &generator)
      let isDynamic = generator.coin()
      let operation = MatrixMultiply(rightLayout: generator.one(of: [.depthFirst, .channelsFirst]))
      let right = operation.rightLayout == .depthFirst ? [depth, columns] : [columns, depth]
      var inputs: [TestOperand?] = [
        TestOperand(
          try generator.codes([2, rows, depth]),
          isDynamic ? .dynamic(axes: number < 30 ? 2 : 0) : .fixed(scale: 0.1, zeroPoint: -128)),
        TestOperand(
          try generator.codes([2] + right),
          .fixed(scale: 0.2, zeroPoint: generator.one(of: [0, -128, 127]))),
        nil, nil, nil, nil,
      ]
      if isDynamic {
        inputs[4] = TestOperand(try generator.parameters(number < 30 ? [2, rows] : []))
      }
      try expectKernelsEqualReference(operation, inputs, "\(rows)×\(depth)×\(columns)")
    }
  }

  /// Epilogues meet numbers that no code stands for: NaN, infinities, what is far beyond.
  @Test func numbersWithoutCodesEqualTheReference() throws {
    var generator = SeededGenerator(seed: 21)
    let special: [Float] = [.nan, .infinity, -.infinity, 3e38, -3e38, 1e10, -1e10, 2.5, -0.0, 0]
    let functions: [UnaryFunction?] = [
      nil, .relu, .clip(minimum: -1, maximum: 6), .hardSwish, .tanh,
    ]
    let outputs: [OutputEncoding] = [
      .float32, .quantized(.int8, scale: 1, zeroPoint: -128),
      .quantized(.int8, scale: 0.01, zeroPoint: 127), .quantized(.int16, scale: 0.1, zeroPoint: 7),
    ]
    for columns in [1, 3, 5, 8, 16, 23, 40] {
      for function in functions {
        for output in outputs {
          let rows = 7
          let numbers = (0..<rows * 2).map { _ in generator.one(of: special) }
          let operation = MatrixMultiply(
            rightLayout: .depthFirst, epilogue: Epilogue(function: function, output: output))
          try expectKernelsEqualReference(
            operation,
            [
              TestOperand(try Tensor([rows, 2], numbers)),
              TestOperand(try generator.floats([2, columns]), isConstant: true),
            ], "\(columns) columns, \(operation.epilogue)")
        }
      }
    }
  }

  /// One or two rows over weights of few bits, which stay packed.
  @Test(arguments: [ProductCase.Arithmetic.fixed, .dynamic])
  func packedWeightsEqualTheReference(arithmetic: ProductCase.Arithmetic) throws {
    var generator = SeededGenerator(seed: 18)
    for number in 0..<60 {
      var test = ProductCase(&generator, arithmetic)
      test.bits = Int.random(in: 2...4, using: &generator)
      let rows = 1 + number % 2
      let depth = number % 5 == 0 ? 600 : Int.random(in: 1...67, using: &generator)
      let columns = Int.random(in: 1...200, using: &generator)
      let inputs = try test.inputs(
        &generator, input: [rows, depth], weights: [columns, depth], output: [rows, columns],
        channels: columns, channelAxis: 0, parameters: [rows], constantWeights: true)
      try expectKernelsEqualReference(
        MatrixMultiply(rightLayout: .channelsFirst, epilogue: test.epilogue), inputs,
        "\(rows)×\(depth)×\(columns), \(test)")
    }
  }

  /// Sums in 16 bits reach their bound with every product as large as it can be.
  @Test(arguments: 2...8) func extremeCodesDoNotSaturate(bits: Int) throws {
    var generator = SeededGenerator(seed: 10)
    for depth in [3, 4, 127, 128, 129, 300] {
      for code: Int32 in [-128, 127] {
        for (rows, zeroPoint) in [(5, Int32(-128)), (5, 127), (1, 127)] {
          for weight in [BitWidth(bits)!.allCodes.lowerBound, BitWidth(bits)!.allCodes.upperBound] {
            let inputs: [TestOperand?] = [
              TestOperand(
                try generator.codes([rows, depth], in: code...code),
                .fixed(scale: 0.1, zeroPoint: zeroPoint)),
              TestOperand(
                try generator.codes([17, depth], in: weight...weight),
                .weights(bits: BitWidth(bits)!, granularity: .perTensor), isConstant: true),
              nil, TestOperand(try Tensor([1], [0.5] as [Float]), isConstant: true),
            ]
            try expectKernelsEqualReference(
              MatrixMultiply(rightLayout: .channelsFirst), inputs,
              "\(depth) of \(code) − \(zeroPoint) times \(weight)")
          }
        }
      }
    }
  }

  @Test func deepAndTallProductsAreCutWithoutEffect() throws {
    var generator = SeededGenerator(seed: 9)
    for arithmetic in [ProductCase.Arithmetic.float, .fixed] {
      var test = ProductCase(&generator, arithmetic)
      test.epilogue = Epilogue()
      test.residual = nil
      let inputs = try test.inputs(
        &generator, input: [150, 2111], weights: [35, 2111], output: [150, 35], channels: 35,
        channelAxis: 0, parameters: [150], constantWeights: true)
      try expectKernelsEqualReference(
        MatrixMultiply(rightLayout: .channelsFirst), inputs, "150×2111×35 \(arithmetic)")
    }
  }

  @Test func infinitiesAndNaNsHaveOneForm() throws {
    let left = try Tensor(
      [3, 3], [.infinity, 1, 0, .nan, 1, 2, -0.0, -0.0, -0.0] as [Float])
    let right = try Tensor([3, 2], [0, 1, -.infinity, 2, 1, -0.0] as [Float])
    let inputs = [TestOperand(left), TestOperand(right)]
    let operation = MatrixMultiply(rightLayout: .depthFirst)
    let outputs = try referenceOutputs(operation, inputs)[0].elements(as: Float.self)
    #expect(outputs[0].bitPattern == 0x7FC0_0000)
    #expect(outputs[2].bitPattern == 0x7FC0_0000)
    #expect(outputs[1] == .infinity)
    #expect(outputs[5].bitPattern == 0)
    try expectKernelsEqualReference(operation, inputs, "infinities")
  }

  // MARK: Types

  private func type(_ left: Shape, _ right: Shape, _ layout: RightLayout = .depthFirst) throws
    -> Shape
  {
    try MatrixMultiply(rightLayout: layout).outputTypes(
      for: [Operand(ValueType(.float32, left)), Operand(ValueType(.float32, right))])[0].shape
  }

  @Test func freeAxesPassThrough() throws {
    #expect(try type([.free("batch"), 4, 5], [5, 6]) == [.free("batch"), 4, 6])
    #expect(
      try type([.free("n"), 5], [.free("m"), 5], .channelsFirst) == [.free("n"), .free("m")])
    #expect(try type([.free("a"), 2, 3], [.free("b"), 3, 4]) == [.free(""), 2, 4])
    #expect(try type([.free("a"), 2, 3], [7, 3, 4]) == [7, 2, 4])
  }

  @Test func wrongOperandsAreRefused() throws {
    #expect(throws: QMError.malformed("")) { try type([3], [3, 4]) }
    #expect(throws: QMError.malformed("")) { try type([2, 3], [4, 5]) }
    #expect(throws: QMError.malformed("")) { try type([2, 2, 3], [3, 3, 5]) }
    let operation = MatrixMultiply(rightLayout: .depthFirst)
    let input = Operand(ValueType(.int8, [2, 3], .fixed(scale: 0.1, zeroPoint: 0)))
    let weights = Operand(
      ValueType(.int8, [3, 4], .weights(bits: .eight, granularity: .perChannel(axis: 1))))
    let scales = Operand(ValueType(.float32, [4]))
    func refuses(_ operands: [Operand?], _ code: QMError = .malformed("")) {
      #expect(throws: code) { try operation.outputTypes(for: operands) }
    }
    #expect(try operation.outputTypes(for: [input, weights, nil, scales])[0].shape == [2, 4])
    refuses([input, nil])
    refuses([input, weights])
    refuses([input, weights, nil, Operand(ValueType(.float32, [3]))])
    refuses([input, weights, Operand(ValueType(.int32, [5])), scales])
    refuses([input, weights, Operand(ValueType(.int64, [4])), scales])
    refuses([input, weights, nil, scales, Operand(ValueType(.float32, [2, 2]))])
    refuses([input, weights, nil, scales, nil, Operand(ValueType(.float32, [2, 3]))])
    refuses([Operand(ValueType(.int8, [2, 3], .dynamic(axes: 1))), weights, nil, scales])
    refuses([Operand(ValueType(.float32, [2, 3])), weights, nil, scales])
    refuses([
      Operand(ValueType(.int8, [2, 3], .fixed(scale: 0, zeroPoint: 0))), weights, nil, scales,
    ])
    let dynamic = Operand(ValueType(.int8, [2, 3], .dynamic(axes: 1)))
    let parameters = Operand(ValueType(.float32, [2, 2]))
    #expect(
      try operation.outputTypes(for: [dynamic, weights, nil, scales, parameters])[0].shape
        == [2, 4])
    refuses([dynamic, weights, Operand(ValueType(.int32, [4])), scales, parameters])
  }
}
