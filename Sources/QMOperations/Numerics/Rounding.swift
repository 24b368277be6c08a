import QMTensor

// The one rounding from real numbers to codes. Every operation that stores codes ends here.

/// The code of `real` at the scale `1 / inverseScale`:
///
///     encode(real) = Int32(clamp(roundToNearestEven(real · inverseScale) + Float(zeroPoint)))
///
/// Each step is one IEEE operation in float32. The clamp to `lowest...highest` stands before the
/// conversion, because processors differ on what a float out of range becomes; its comparisons
/// are such that NaN becomes `lowest`.
///
/// - Parameters:
///   - inverseScale: `1 / scale`, rounded once to float32.
///   - zeroPoint: within `lowest...highest`.
@inlinable
public func encode(
  real: Float, inverseScale: Float, zeroPoint: Int32, lowest: Int32, highest: Int32
) -> Int32 {
  var value = (real * inverseScale).rounded(.toNearestOrEven) + Float(zeroPoint)
  value = value > Float(lowest) ? value : Float(lowest)
  value = value < Float(highest) ? value : Float(highest)
  return Int32(value)
}

/// The number that a code stands for, `scale · Float(code − zeroPoint)`; one rounding.
/// Both are at most 16 bits wide, so that the difference is exact in float32.
@inlinable
public func decode(code: Int32, scale: Float, zeroPoint: Int32) -> Float {
  scale * Float(code &- zeroPoint)
}

extension ElementType {
  /// The codes that the type can hold; nil where it does not hold codes of activations.
  public var codes: ClosedRange<Int32>? {
    switch self {
    case .int8: -128...127
    case .uint8: 0...255
    case .int16: -32768...32767
    default: nil
    }
  }
}

extension OutputEncoding {
  /// - Throws: `malformed` if the parameters break the rules of ``QuantizationParameters/check()``.
  public func check() throws(QMError) {
    if case .quantized(let elementType, let scale, let zeroPoint) = self {
      try QuantizationParameters(elementType, scale: scale, zeroPoint: zeroPoint).check()
    }
  }
}

extension TensorView {
  /// Stores `real` as element `index`, encoded as the view's type says: float32 as it is, codes
  /// by ``encode(real:inverseScale:zeroPoint:lowest:highest:)``.
  /// The view must be float32, or codes with fixed quantization.
  func store(_ real: Float, at index: Int) {
    switch (elementType, quantization) {
    case (.float32, .none):
      base.storeBytes(of: real, toByteOffset: 4 * index, as: Float.self)
    case (_, .fixed(let scale, let zeroPoint)):
      let codes = elementType.codes!
      let code = encode(
        real: real, inverseScale: 1 / scale, zeroPoint: zeroPoint,
        lowest: codes.lowerBound, highest: codes.upperBound)
      switch elementType {
      case .int16:
        base.storeBytes(of: Int16(code), toByteOffset: 2 * index, as: Int16.self)
      case .uint8: base.storeBytes(of: UInt8(code), toByteOffset: index, as: UInt8.self)
      default: base.storeBytes(of: Int8(code), toByteOffset: index, as: Int8.self)
      }
    default:
      preconditionFailure("a \(elementType) view with \(quantization) holds no real numbers")
    }
  }

  /// The number that element `index` stands for: a float32 as it is, codes with fixed
  /// quantization by ``decode(code:scale:zeroPoint:)``.
  func real(at index: Int) -> Float {
    switch (elementType, quantization) {
    case (.float32, .none):
      return base.loadUnaligned(fromByteOffset: 4 * index, as: Float.self)
    case (_, .fixed(let scale, let zeroPoint)):
      return decode(code: code(at: index), scale: scale, zeroPoint: zeroPoint)
    default:
      preconditionFailure("a \(elementType) view with \(quantization) holds no real numbers")
    }
  }

  /// Element `index` of an int8, uint8 or int16 view.
  func code(at index: Int) -> Int32 {
    switch elementType {
    case .int8: Int32(base.load(fromByteOffset: index, as: Int8.self))
    case .uint8: Int32(base.load(fromByteOffset: index, as: UInt8.self))
    case .int16: Int32(base.load(fromByteOffset: 2 * index, as: Int16.self))
    default: preconditionFailure("a \(elementType) view holds no codes")
    }
  }
}
