// The 16-bit floating-point types as bit patterns: Swift's `Float16` does not exist on every
// processor. Every NaN that is written here is positive, quiet and without a payload.

extension Float {
  /// The exact value of an IEEE binary16 pattern. Free of branches, so that the compiler can
  /// vectorize loops over it.
  @inlinable @inline(__always)
  public init(float16Bits bits: UInt16) {
    let magnitude = UInt32(bits & 0x7FFF)
    let shifted = magnitude << 13
    let small = Float(magnitude) * 0x1p-24
    var result = magnitude < 0x400 ? small.bitPattern : shifted &+ 112 << 23
    result = magnitude == 0x7C00 ? 0x7F80_0000 : result
    result |= UInt32(bits & 0x8000) << 16
    self = Float(bitPattern: magnitude > 0x7C00 ? 0x7FC0_0000 : result)
  }

  /// The exact value of a bfloat16 pattern.
  @inlinable @inline(__always)
  public init(bfloat16Bits bits: UInt16) {
    self = Float(bitPattern: bits & 0x7FFF > 0x7F80 ? 0x7FC0_0000 : UInt32(bits) << 16)
  }

  /// The nearest IEEE binary16, ties to even: the same result as ``Swift/Double/float16Bits``, but
  /// free of branches, so that the compiler can vectorize loops over it.
  @inlinable @inline(__always)
  public var float16Bits: UInt16 {
    let magnitude = bitPattern & 0x7FFF_FFFF
    let sign = bitPattern >> 16 & 0x8000
    // Adding 0.5 rounds to a multiple of 2^−24, the spacing of the subnormal numbers.
    let small = (Float(bitPattern: magnitude) + 0.5).bitPattern &- 0x3F00_0000
    // Changes the bias of the exponent and rounds off the low 13 bits, ties to even.
    let normal = (magnitude &+ 0xC800_0FFF &+ (magnitude >> 13 & 1)) >> 13
    var result = magnitude < 0x3880_0000 ? small : normal
    result = magnitude >= 0x4780_0000 ? 0x7C00 : result
    result |= sign
    return UInt16(truncatingIfNeeded: magnitude > 0x7F80_0000 ? 0x7E00 : result)
  }

  /// The nearest bfloat16, ties to even: the same result as ``Swift/Double/bfloat16Bits``, but free
  /// of branches.
  @inlinable @inline(__always)
  public var bfloat16Bits: UInt16 {
    let rounded = (bitPattern &+ 0x7FFF &+ (bitPattern >> 16 & 1)) >> 16
    let isNaN = bitPattern & 0x7FFF_FFFF > 0x7F80_0000
    return UInt16(truncatingIfNeeded: isNaN ? 0x7FC0 : rounded)
  }
}

extension Double {
  /// The exact value of an IEEE binary16 pattern.
  public init(float16Bits bits: UInt16) { self = Double(Float(float16Bits: bits)) }

  /// The exact value of a bfloat16 pattern.
  public init(bfloat16Bits bits: UInt16) { self = Double(Float(bfloat16Bits: bits)) }

  /// The nearest IEEE binary16, ties to even; infinity from magnitude 65,520 on.
  public var float16Bits: UInt16 { rounded(fractionBits: 10, exponentBits: 5) }

  /// The nearest bfloat16, ties to even; infinity for magnitudes at least half a step above the
  /// largest finite bfloat16.
  public var bfloat16Bits: UInt16 { rounded(fractionBits: 7, exponentBits: 8) }

  /// Rounded to a 16-bit format with the given fields, ties to even.
  private func rounded(fractionBits: Int, exponentBits: Int) -> UInt16 {
    let infinity = ((1 << exponentBits) - 1) << fractionBits
    if isNaN { return UInt16(infinity | 1 << (fractionBits - 1)) }
    let sign: UInt16 = self.sign == .minus ? 0x8000 : 0
    guard isFinite else { return sign | UInt16(infinity) }
    let bias = 1 << (exponentBits - 1) - 1
    // The spacing of the format at this magnitude; subnormal numbers have that of the smallest
    // normal one.
    let exponent = magnitude == 0 ? 1 - bias : max(Int(magnitude.exponent), 1 - bias)
    guard exponent <= bias else { return sign | UInt16(infinity) }
    let steps = Double(sign: .plus, exponent: fractionBits - exponent, significand: magnitude)
    // A carry out of the fraction correctly increments the exponent.
    let pattern = Int(steps.rounded(.toNearestOrEven)) + (exponent + bias - 1) << fractionBits
    return sign | UInt16(min(pattern, infinity))
  }
}
