import QMTensor

// The only rounding from float32 numbers to codes. Every operation that stores codes ends here.

/// The code of the float32 number `real` at the scale `1 / inverseScale`:
///
///     encode(real) = Int32(clamp(roundToNearestEven(real · inverseScale) + Float(zeroPoint)))
///
/// Each step is one IEEE operation in float32. The clamp to `lowest...highest` comes before the
/// conversion to an integer, because processors convert out-of-range floats differently. Its
/// comparisons turn NaN into `lowest`.
///
/// - Parameters:
///   - inverseScale: `1 / scale`, rounded once to float32.
///   - zeroPoint: within `lowest...highest`.
///   - lowest: the lowest code of the element type.
///   - highest: the highest code of the element type.
@inlinable
public func encode(
  real: Float, inverseScale: Float, zeroPoint: Int32, lowest: Int32, highest: Int32
) -> Int32 {
  var value = (real * inverseScale).rounded(.toNearestOrEven) + Float(zeroPoint)
  value = value > Float(lowest) ? value : Float(lowest)
  value = value < Float(highest) ? value : Float(highest)
  return Int32(value)
}

/// The number that a code represents, `scale · Float(code − zeroPoint)`, with one rounding.
/// Code and zero point have at most 16 bits, so that their difference is exact in float32.
@inlinable
public func decode(code: Int32, scale: Float, zeroPoint: Int32) -> Float {
  scale * Float(code &- zeroPoint)
}

extension ElementType {
  /// The codes that the type can hold; nil for a type that does not hold codes of activations.
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
  /// Stores `number` as element `index`: unchanged in a float32 view, as the code of
  /// ``encode(real:inverseScale:zeroPoint:lowest:highest:)`` in a view of codes with fixed
  /// quantization. The view must be one of the two.
  func store(_ number: Float, at index: Int) {
    switch (elementType, quantization) {
    case (.float32, .none):
      base.storeBytes(of: number, toByteOffset: 4 * index, as: Float.self)
    case (_, .fixed(let scale, let zeroPoint)):
      let codes = elementType.codes!
      let code = encode(
        real: number, inverseScale: 1 / scale, zeroPoint: zeroPoint,
        lowest: codes.lowerBound, highest: codes.upperBound)
      switch elementType {
      case .int16:
        base.storeBytes(of: Int16(code), toByteOffset: 2 * index, as: Int16.self)
      case .uint8: base.storeBytes(of: UInt8(code), toByteOffset: index, as: UInt8.self)
      default: base.storeBytes(of: Int8(code), toByteOffset: index, as: Int8.self)
      }
    default:
      preconditionFailure("a \(elementType) view with \(quantization) stores no float32 numbers")
    }
  }

  /// The number that element `index` represents: a float32 element itself, a code with fixed
  /// quantization by ``decode(code:scale:zeroPoint:)``.
  func number(at index: Int) -> Float {
    switch (elementType, quantization) {
    case (.float32, .none):
      return base.loadUnaligned(fromByteOffset: 4 * index, as: Float.self)
    case (_, .fixed(let scale, let zeroPoint)):
      return decode(code: code(at: index), scale: scale, zeroPoint: zeroPoint)
    default:
      preconditionFailure("a \(elementType) view with \(quantization) holds no float32 numbers")
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
