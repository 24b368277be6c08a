/// Number of bits of one weight code, 2 to 8.
public struct BitWidth: Hashable, Sendable, Comparable {
  /// Number of bits, 2 to 8.
  public let bits: Int

  /// A width of this number of bits.
  /// - Returns: nil outside 2...8.
  public init?(_ bits: Int) {
    guard (2...8).contains(bits) else { return nil }
    self.bits = bits
  }

  /// 8 bits.
  public static let eight = BitWidth(8)!

  /// The codes of symmetric quantization, ±(2^(bits−1) − 1). The most negative code is left out, so
  /// that a weight and its negative have the same error.
  public var symmetricCodes: ClosedRange<Int32> {
    let limit = (Int32(1) << Int32(bits - 1)) - 1
    return -limit...limit
  }

  /// Every code that the width can hold.
  public var allCodes: ClosedRange<Int32> {
    let half = Int32(1) << Int32(bits - 1)
    return -half...(half - 1)
  }

  /// Fewer bits come first.
  public static func < (left: BitWidth, right: BitWidth) -> Bool { left.bits < right.bits }
}

/// Which weights share a scale.
public enum Granularity: Hashable, Sendable {
  /// All weights of the tensor share one scale.
  case perTensor
  /// The weights at one index along `axis` share a scale.
  case perChannel(axis: Int)
  /// Every `size` consecutive weights along `axis` (the reduction axis) share a scale.
  case perGroup(axis: Int, size: Int)
}

/// How the stored codes of a value map to numbers: `number = scale · (code − zeroPoint)`.
public enum Quantization: Hashable, Sendable {
  /// Not quantized: the stored elements are the numbers.
  case none
  /// One scale and zero point per tensor, fixed at conversion.
  case fixed(scale: Float, zeroPoint: Int32)
  /// Scale and zero point are computed in each run, one pair per index of the leading `axes` axes:
  /// per row of a matrix product (all axes but the last) or per sample of a convolution (one axis).
  case dynamic(axes: Int)
  /// The codes of a constant; their scales are a separate tensor.
  case weights(bits: BitWidth, granularity: Granularity)
}

/// What is known about a value before a run.
public struct ValueType: Hashable, Sendable {
  /// Type of one stored element.
  public var elementType: ElementType
  /// The shape; its dynamic axes get their extents in a run.
  public var shape: Shape
  /// How the stored elements map to numbers.
  public var quantization: Quantization

  /// A type; without `quantization`, the stored elements are the numbers.
  public init(_ elementType: ElementType, _ shape: Shape, _ quantization: Quantization = .none) {
    self.elementType = elementType
    self.shape = shape
    self.quantization = quantization
  }
}

extension ValueType: CustomStringConvertible {
  /// `float32[1, 64]`, or `int8[1, 64] · 0.5 − 3` with fixed scale 0.5 and zero point 3.
  public var description: String {
    switch quantization {
    case .none: "\(elementType)\(shape)"
    case .fixed(let scale, let zeroPoint): "\(elementType)\(shape) · \(scale) − \(zeroPoint)"
    case .dynamic: "\(elementType)\(shape) · dynamic"
    case .weights(let bits, _): "\(bits.bits)-bit\(shape)"
    }
  }
}
