import QMTensor

/// ONNX's floating-point types of 8 bits, of which constants can be read: float32 holds each of
/// their numbers.
struct Float8: Hashable {
  let exponentBits: Int
  let bias: Int
  /// Whether there is one NaN, in the place of −0, and no infinity (`FNUZ`).
  let isUnsignedZero: Bool
  /// Whether the largest exponent is that of infinities and NaN, as in IEEE 754.
  let hasInfinities: Bool

  /// nil for other types.
  init?(onnx dataType: Int32) {
    switch dataType {
    case 17: (exponentBits, bias, isUnsignedZero, hasInfinities) = (4, 7, false, false)
    case 18: (exponentBits, bias, isUnsignedZero, hasInfinities) = (4, 8, true, false)
    case 19: (exponentBits, bias, isUnsignedZero, hasInfinities) = (5, 15, false, true)
    case 20: (exponentBits, bias, isUnsignedZero, hasInfinities) = (5, 16, true, false)
    default: return nil
    }
  }

  /// The number that a byte stands for.
  func number(_ byte: UInt8) -> Float {
    let fractionBits = 7 - exponentBits
    let magnitude = Int(byte & 0x7f)
    let (exponent, fraction) = (magnitude >> fractionBits, magnitude & (1 << fractionBits - 1))
    let sign: FloatingPointSign = byte & 0x80 == 0 ? .plus : .minus
    if isUnsignedZero {
      if byte == 0x80 { return .nan }
    } else if hasInfinities {
      if exponent == 1 << exponentBits - 1 {
        return fraction != 0 ? .nan : sign == .minus ? -.infinity : .infinity
      }
    } else if magnitude == 0x7f {
      return .nan
    }
    let significand = Float(exponent == 0 ? fraction : fraction | 1 << fractionBits)
    return Float(
      sign: sign, exponent: max(exponent, 1) - bias - fractionBits, significand: significand)
  }
}
