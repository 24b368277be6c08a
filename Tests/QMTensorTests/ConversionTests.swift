import QMTensor
import QMTestSupport
import Testing

@Suite struct ConversionTests {
  private func converted<Source: TensorElement, Target: TensorElement>(
    _ elements: [Source], to: Target.Type
  ) throws -> [Target] {
    try Tensor([elements.count], elements).converted(to: Target.elementType)
      .elements(as: Target.self)
  }

  @Test func everyFloat16PatternSurvives() {
    var failed: [UInt16] = []
    for bits in UInt16.min...UInt16.max {
      let number = Double(float16Bits: bits)
      let exponent = Int(bits >> 10 & 0x1f)
      if exponent == 31 {
        let isRight = bits & 0x3ff == 0 ? number.isInfinite : number.isNaN
        if !isRight || number.isInfinite && number.float16Bits != bits { failed.append(bits) }
        continue
      }
      // Half way to the next number: to the even one of the two; a hair further: away.
      let magnitude = exponent == 0 ? 0x1p-24 : Double(1 << exponent) * 0x1p-25
      let step = number.sign == .minus ? -magnitude : magnitude
      let half = number + step / 2
      let (nearer, farther) =
        number.sign == .minus ? (half.nextUp, half.nextDown) : (half.nextDown, half.nextUp)
      let next = Double(float16Bits: bits + 1)
      let isRight =
        number.float16Bits == bits && Float(number).float16Bits == bits
        && half.float16Bits == bits + bits & 1
        && nearer.float16Bits == bits && farther.float16Bits == bits + 1
        && (next == number + step || next.isInfinite)
      if !isRight { failed.append(bits) }
    }
    #expect(failed == [])
  }

  @Test func everyBfloat16PatternSurvives() {
    var failed: [UInt16] = []
    for bits in UInt16.min...UInt16.max {
      let number = Double(bfloat16Bits: bits)
      let isRight =
        number.isNaN
        ? number.bfloat16Bits & 0x7fff > 0x7f80
        : number.bfloat16Bits == bits && Float(number).bfloat16Bits == bits
      if !isRight { failed.append(bits) }
    }
    #expect(failed == [])
    #expect(Float(bitPattern: 0x3f80_8000).bfloat16Bits == 0x3f80)
    #expect(Float(bitPattern: 0x3f80_8001).bfloat16Bits == 0x3f81)
    #expect(Float(bitPattern: 0x3f81_8000).bfloat16Bits == 0x3f82)
    #expect(Double(0x1p-134).bfloat16Bits == 0)
    #expect(Double(0x1.8p-133).bfloat16Bits == 2)
  }

  @Test func floatsRoundAsDoublesDo() {
    var failed: [UInt32] = []
    func check(_ number: Float) {
      let isRight =
        number.float16Bits == Double(number).float16Bits
        && number.bfloat16Bits == Double(number).bfloat16Bits
      if !isRight { failed.append(number.bitPattern) }
    }
    for high in UInt16.min...UInt16.max {
      // Beside and on the places where bfloat16 rounds, then those where float16 does.
      for low in [0x0000, 0x0001, 0x7fff, 0x8000, 0x8001] as [UInt32] {
        check(Float(bitPattern: UInt32(high) << 16 | low))
      }
      let half = (Float(float16Bits: high) + Float(float16Bits: high &+ 1)) / 2
      for number in [half.nextDown, half, half.nextUp] { check(number) }
    }
    #expect(failed == [])
    #expect(Float.nan.float16Bits == 0x7e00 && (-Float.nan).bfloat16Bits == 0x7fc0)
  }

  @Test func floatsAreRoundedToNearestEven() throws {
    #expect(try converted([0.1, -0.0, .infinity], to: Float.self) == [0.1, -0.0, .infinity])
    #expect(try converted([0x1.000001p0, 0x1.000003p0], to: Float.self) == [1, 0x1.000004p0])
    #expect(try converted([Double.nan], to: Float.self)[0].isNaN)
    #expect(throws: QMError.invalidInput("")) { try converted([1e39], to: Float.self) }
    let large = try Tensor([2], [65_519.0, 65_520.0])
    let error = #expect(throws: QMError.self) { try large.converted(to: .float16) }
    #expect(error == .invalidInput(""))
    #expect(error?.message.contains("element [1] is 65520.0") == true)
  }

  @Test func integersMustBeExact() throws {
    #expect(try converted([-128, 127, -0.0] as [Float], to: Int8.self) == [-128, 127, 0])
    for value in [0.5, 128, -129, .nan, .infinity] as [Float] {
      #expect(throws: QMError.invalidInput("")) { try converted([value], to: Int8.self) }
    }
    #expect(try converted([0x1p63], to: UInt64.self) == [1 << 63])
    #expect(throws: QMError.invalidInput("")) { try converted([0x1p63], to: Int64.self) }
    #expect(try converted([.max, .min] as [Int64], to: Int64.self) == [.max, .min])
    #expect(try converted([Int64.max], to: UInt64.self) == [UInt64(Int64.max)])
    #expect(throws: QMError.invalidInput("")) { try converted([UInt64.max], to: Int64.self) }
    #expect(throws: QMError.invalidInput("")) { try converted([Int64(-1)], to: UInt8.self) }
  }

  /// Two roundings, to double and then to float, would give 0x1p60 for the first.
  @Test func wideIntegersAreRoundedOnce() throws {
    let values: [Int64] = [
      1 << 60 + 1 << 36 + 1, -(1 << 60 + 1 << 36 + 1), 1 << 60 + 1 << 36, .max, .min,
    ]
    #expect(try converted(values, to: Float.self) == values.map { Float($0) })
    #expect(try converted(values, to: Double.self) == values.map { Double($0) })
    var generator = SeededGenerator(seed: 3)
    let random = (0..<10_000).map { _ in UInt64.random(in: 0...UInt64.max, using: &generator) }
    #expect(try converted(random, to: Float.self) == random.map { Float($0) })
    #expect(try converted(random, to: Double.self) == random.map { Double($0) })
  }

  @Test func boolsAreZeroAndOne() throws {
    #expect(try converted([true, false], to: Float.self) == [1, 0])
    #expect(try converted([1, 0] as [Int64], to: Bool.self) == [true, false])
    #expect(throws: QMError.invalidInput("")) { try converted([2] as [UInt8], to: Bool.self) }
  }

  @Test func everyPairOfTypesAgreesOnSmallNumbers() throws {
    let numbers = try Tensor([2, 2], [0, 1, 1, 0] as [Float])
    for source in ElementType.allCases {
      let tensor = try numbers.converted(to: source)
      for target in ElementType.allCases {
        let result = try tensor.converted(to: target)
        #expect(result.elementType == target && result.shape == [2, 2])
        #expect(firstDifference(try result.converted(to: .float32), numbers) == nil)
      }
    }
  }
}
