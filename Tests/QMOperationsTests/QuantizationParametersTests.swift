import QMOperations
import QMTensor
import QMTestSupport
import Testing

@Suite struct QuantizationParametersTests {
  private static let ranges: [(Float, Float)] = [
    (2, 5), (-3, -1), (0, 0), (-0.1, 7), (-1, 1), (-1e-30, 1e-38), (-3e38, 3e38), (0, .infinity),
    (-1e-45, 0),
  ]

  @Test(arguments: [ElementType.int8, .uint8, .int16], ranges)
  func theyCoverTheRangeAndHoldZero(type: ElementType, range: (Float, Float)) throws {
    let parameters = QuantizationParameters(type, covering: range.0, range.1)
    try parameters.check()
    let codes = try #require(type.codes)
    let (low, high) = (min(range.0, 0), max(range.1, 0))
    guard (high - low).isFinite, (high - low) / Float(codes.count - 1) >= .leastNormalMagnitude
    else {
      #expect(parameters.scale == 1)
      return
    }
    // Half a step at most is lost at an end, where 0 is moved to the nearest code.
    let ends = [codes.lowerBound, codes.upperBound].map {
      decode(code: $0, scale: parameters.scale, zeroPoint: parameters.zeroPoint)
    }
    #expect(ends[0] <= low + 0.5001 * parameters.scale)
    #expect(ends[1] >= high - 0.5001 * parameters.scale)
  }

  @Test func contradictionsAreRefused() {
    for parameters in [
      QuantizationParameters(.int8, scale: 0, zeroPoint: 0),
      QuantizationParameters(.int8, scale: -1, zeroPoint: 0),
      QuantizationParameters(.int8, scale: .nan, zeroPoint: 0),
      QuantizationParameters(.int8, scale: 1e-40, zeroPoint: 0),
      QuantizationParameters(.int8, scale: 3e38, zeroPoint: 0),
      QuantizationParameters(.int8, scale: 1, zeroPoint: 128),
      QuantizationParameters(.uint8, scale: 1, zeroPoint: -1),
      QuantizationParameters(.float32, scale: 1, zeroPoint: 0),
    ] {
      #expect(throws: QMError.malformed("")) { try parameters.check() }
    }
  }

  /// The twin: Quantize, then Dequantize.
  @Test(arguments: [
    QuantizationParameters(scale: 0.0131, zeroPoint: 3),
    QuantizationParameters(scale: 0.25, zeroPoint: -128),
    QuantizationParameters(.uint8, scale: 3, zeroPoint: 200),
    QuantizationParameters(scale: 1e-30, zeroPoint: 127),
    QuantizationParameters(.int16, scale: 2e-5, zeroPoint: 0),
    QuantizationParameters(.int16, scale: 1e-9, zeroPoint: -32768),
  ]) func fakeQuantizeIsQuantizeAndDequantize(parameters: QuantizationParameters) throws {
    var generator = SeededGenerator(seed: 9)
    var numbers: [Float] = [.nan, -.nan, .infinity, -.infinity, 0, -0, 1e-45, 3e38, -3e38]
    // Halves of steps too, which go to the even code.
    numbers += (-600..<600).map { Float($0) / 2 * parameters.scale }
    numbers += (0..<5000).map { _ in
      Float(bitPattern: UInt32.random(in: 0...UInt32.max, using: &generator))
    }
    numbers += (0..<5000).map { _ in
      Float.random(in: -40_000...40_000, using: &generator) * parameters.scale
    }
    let codes = try #require(parameters.elementType.codes)
    let expected = numbers.map { number in
      decode(
        code: encode(
          real: number, inverseScale: 1 / parameters.scale, zeroPoint: parameters.zeroPoint,
          lowest: codes.lowerBound, highest: codes.upperBound),
        scale: parameters.scale, zeroPoint: parameters.zeroPoint)
    }
    var found = numbers
    found.withUnsafeMutableBufferPointer { FakeQuantize(parameters).apply(to: $0) }
    for (index, number) in numbers.enumerated() {
      #expect(found[index] == expected[index], "\(number)")
    }
  }
}
