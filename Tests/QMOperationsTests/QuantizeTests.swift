import QMOperations
import QMTensor
import QMTestSupport
import Testing

@Suite struct RequantizationTests {
  @Test func encodeRoundsHalvesToEvenAndSaturates() {
    func code(_ real: Float, zeroPoint: Int32 = 0) -> Int32 {
      encode(real: real, inverseScale: 2, zeroPoint: zeroPoint, lowest: -128, highest: 127)
    }
    #expect([0.25, 0.75, 1.25, -0.25, -0.75].map { code($0) } == [0, 2, 2, 0, -2])
    #expect([0.25, 0.75].map { code($0, zeroPoint: 1) } == [1, 3])
    #expect(code(1e30) == 127 && code(-1e30) == -128)
    #expect(code(.infinity) == 127 && code(-.infinity) == -128 && code(.nan) == -128)
    #expect(code(1e30, zeroPoint: -128) == 127)
  }

  /// Within the range of a grid, what is stored is at most half a step away.
  @Test func errorIsAtMostHalfAStep() {
    var generator = SeededGenerator(seed: 1)
    for _ in 0..<20_000 {
      let scale = Float.random(in: 0.001...2, using: &generator)
      let zeroPoint = Int32.random(in: -128...127, using: &generator)
      let low = scale * Float(-128 - zeroPoint)
      let high = scale * Float(127 - zeroPoint)
      let real = Float.random(in: low...high, using: &generator)
      let code = encode(
        real: real, inverseScale: 1 / scale, zeroPoint: zeroPoint, lowest: -128, highest: 127)
      let stored = decode(code: code, scale: scale, zeroPoint: zeroPoint)
      // Half a step, and what float32 loses of numbers up to 255 steps.
      #expect((stored - real).magnitude <= scale * (0.5 + 0x1p-14))
    }
  }

  @Test func everyCodeGoesThereAndBack() {
    for scale in [0.1, 0.0123, 3, 1e-30] as [Float] {
      for (zeroPoint, codes) in [(Int32(17), Int32(-128)...127), (-3000, -32768...32767)] {
        for code in codes {
          let real = decode(code: code, scale: scale, zeroPoint: zeroPoint)
          let back = encode(
            real: real, inverseScale: 1 / scale, zeroPoint: zeroPoint, lowest: codes.lowerBound,
            highest: codes.upperBound)
          guard back == code else {
            Issue.record("code \(code) came back as \(back)")
            return
          }
        }
      }
    }
  }
}

@Suite struct QuantizeTests {
  @Test(arguments: [ElementType.int8, .uint8, .int16])
  func kernelsEqualReference(elementType: ElementType) throws {
    for zeroPoint in [0, 100] as [Int32] {
      let quantize = Quantize(elementType, scale: 0.037, zeroPoint: zeroPoint)
      for count in Array(1...67) + [50_000] {
        try expectKernelsEqualReference(
          quantize, [randomValue(.float32, [count], seed: UInt64(count))])
        try expectKernelsEqualReference(
          Dequantize(), [randomValue(elementType, [count], seed: UInt64(count))])
      }
    }
  }

  /// Blocks of all sizes, on the way from channels first to channels last.
  @Test(arguments: [ElementType.int8, .uint8, .int16])
  func channelsLastKernelsEqualReference(elementType: ElementType) throws {
    let quantize = Quantize(elementType, scale: 0.037, zeroPoint: 7)
    let shapes = [
      [1, 1, 1], [2, 3, 5], [1, 3, 20, 33], [2, 67, 61], [1, 128, 40, 40], [3, 5000, 2, 3],
      [1, 2, 3, 4, 5],
    ]
    for (number, shape) in shapes.enumerated() {
      let numbers = try randomValue(.float32, shape, seed: UInt64(number))
      try expectKernelsEqualReference(quantize, [numbers])
      let permutation = edgePermutations(rank: shape.count)[1]
      let found = try kernelOutputs(
        quantize, [numbers], .portable, testPools[0], transposing: permutation)
      #expect(found != nil, "\(shape)")
    }
  }

  /// Numbers in the middle between two codes, and next to it.
  @Test func kernelsEqualReferenceOnHalves() throws {
    let halves = (-40_000...40_000).map { Float($0) * 0.5 }
    let numbers = try TestOperand(Tensor([halves.count], halves))
    for (elementType, zeroPoint) in [(ElementType.int8, Int32(-128)), (.uint8, 255), (.int16, 3)] {
      for scale in [1, 0.5, 0.0999999] as [Float] {
        try expectKernelsEqualReference(
          Quantize(elementType, scale: scale, zeroPoint: zeroPoint), [numbers])
      }
    }
  }

  @Test func dynamicKernelsEqualReference() throws {
    let cases: [([Int], Int)] = [
      ([5, 33], 1), ([2, 3, 17], 2), ([40, 70, 30], 0), ([3, 40_000], 1), ([2, 0], 1), ([0, 4], 1),
      ([7], 1), ([1], 0),
    ]
    for (shape, axes) in cases {
      let numbers = try randomValue(.float32, shape, seed: 11)
      let operation = DynamicQuantize(axes: axes)
      try expectKernelsEqualReference(operation, [numbers])
      let outputs = try referenceOutputs(operation, [numbers])
      let codes = TestOperand(outputs[0], .dynamic(axes: axes))
      try expectKernelsEqualReference(Dequantize(), [codes, TestOperand(outputs[1])])
    }
    for count in 1...67 {
      try expectKernelsEqualReference(
        DynamicQuantize(axes: 1), [randomValue(.float32, [3, count], seed: UInt64(count))])
    }
  }

  @Test func dynamicGridsHoldZeroAndTheNumbers() throws {
    let numbers: [Float] = [
      1, 2, 3, 4,  // all above zero: low is 0
      -1, -2, -3, -4,  // all below zero: high is 0
      0, 0, -0.0, 0,  // nothing to spread: scale 1
      -1, 0.5, .nan, 1.55,
      .infinity, 1, 2, 3,  // no finite step: scale 1
    ]
    let operation = DynamicQuantize(axes: 1)
    let outputs = try referenceOutputs(operation, [TestOperand(Tensor([5, 4], numbers))])
    let codes: [Int8] = outputs[0].elements()
    let parameters: [Float] = outputs[1].elements()
    let types = try operation.outputTypes(for: [Operand(ValueType(.float32, [5, 4]))])
    #expect(types[0] == ValueType(.int8, [5, 4], .dynamic(axes: 1)))
    #expect(outputs[1].shape == [5, 2])
    #expect(parameters[0] == 4 / 255 && parameters[1] == -128)
    #expect(parameters[2] == 4 / 255 && parameters[3] == 127)
    #expect(parameters[4] == 1 && parameters[5] == -128)
    #expect(parameters[6] == (1.55 + 1) / 255 && parameters[7] == -28)
    #expect(parameters[8] == 1 && parameters[9] == -128)
    #expect(codes[3] == 127 && codes[7] == -128)
    #expect(Array(codes[8..<12]) == [-128, -128, -128, -128])
    #expect(codes[14] == -128)
    #expect(Array(codes[16...]) == [127, -127, -126, -125])
  }

  @Test func weightsHaveTheScaleOfTheirChannel() throws {
    let codes = try Tensor([2, 2, 3], (0..<12).map { Int8($0) - 6 })
    for axis in 0..<3 {
      let extent = codes.shape[axis]
      let weights = TestOperand(codes, .weights(bits: .eight, granularity: .perChannel(axis: axis)))
      let scales = try TestOperand(Tensor([extent], (0..<extent).map { Float($0) + 0.5 }))
      try expectKernelsEqualReference(Dequantize(), [weights, scales])
      let found: [Float] = try referenceOutputs(Dequantize(), [weights, scales])[0].elements()
      let stride = codes.shape.dropFirst(axis + 1).reduce(1, *)
      for index in 0..<12 {
        #expect(found[index] == Float(index - 6) * (Float(index / stride % extent) + 0.5))
      }
      let tooMany = try TestOperand(Tensor([extent + 1], [Float](repeating: 1, count: extent + 1)))
      #expect(throws: QMError.malformed("")) {
        try referenceOutputs(Dequantize(), [weights, tooMany])
      }
      #expect(throws: QMError.malformed("")) { try referenceOutputs(Dequantize(), [weights]) }
    }
    let one = TestOperand(codes, .weights(bits: BitWidth(4)!, granularity: .perTensor))
    let scale = try TestOperand(Tensor([1], [0.25] as [Float]))
    try expectKernelsEqualReference(Dequantize(), [one, scale])
  }

  @Test func refusals() throws {
    let number = try randomValue(.float32, [2, 2], seed: 1)
    #expect(throws: QMError.malformed("")) {
      try referenceOutputs(Quantize(.int32, scale: 1, zeroPoint: 0), [number])
    }
    #expect(throws: QMError.malformed("")) {
      try referenceOutputs(Quantize(.int8, scale: -1, zeroPoint: 0), [number])
    }
    for axes in [3, -1] {
      #expect(throws: QMError.malformed("")) {
        try referenceOutputs(DynamicQuantize(axes: axes), [number])
      }
    }
    #expect(throws: QMError.malformed("")) { try referenceOutputs(Dequantize(), [number]) }
  }
}
