/// Bits of one stored weight code, 2 to 8.
public struct BitWidth: Hashable, Sendable, Comparable {
  /// 2 to 8.
  public let bits: Int

  /// - Returns: nil outside 2...8.
  public init?(_ bits: Int) {
    guard (2...8).contains(bits) else { return nil }
    self.bits = bits
  }

  /// 8 bits.
  public static let eight = BitWidth(8)!

  /// The codes of a symmetric grid, ±(2^(bits-1) − 1): the most negative code is left out,
  /// so that a weight and its negative have the same error.
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
  /// All weights of the tensor.
  case perTensor
  /// Weights of one index along `axis`.
  case perChannel(axis: Int)
  /// Consecutive `size` elements along `axis` (the reduction axis) share a scale.
  case perGroup(axis: Int, size: Int)
}

/// How the codes of a value stand for real numbers: `real = scale · (code − zeroPoint)`.
public enum Quantization: Hashable, Sendable {
  /// The elements are the numbers.
  case none
  /// One scale and zero point, known at conversion.
  case fixed(scale: Float, zeroPoint: Int32)
  /// Scale and zero point are values of the run, one pair per index of the leading `axes` axes:
  /// a row of a matrix product (all axes but the last) or a sample of a convolution (one axis).
  case dynamic(axes: Int)
  /// A constant's codes; the scales are a tensor of their own beside it.
  case weights(bits: BitWidth, granularity: Granularity)
}

/// What is known of a value before a run.
public struct ValueType: Hashable, Sendable {
  /// Type of one stored element.
  public var elementType: ElementType
  /// Extents, as far as they are known.
  public var shape: Shape
  /// What the elements stand for.
  public var quantization: Quantization

  /// A type; without a quantization the elements are the numbers.
  public init(_ elementType: ElementType, _ shape: Shape, _ quantization: Quantization = .none) {
    self.elementType = elementType
    self.shape = shape
    self.quantization = quantization
  }
}

extension ValueType: CustomStringConvertible {
  /// `float32[1, 64]`; scale and zero point follow where they are fixed.
  public var description: String {
    switch quantization {
    case .none: "\(elementType)\(shape)"
    case .fixed(let scale, let zeroPoint): "\(elementType)\(shape) · \(scale) − \(zeroPoint)"
    case .dynamic: "\(elementType)\(shape) · dynamic"
    case .weights(let bits, _): "\(bits.bits)-bit\(shape)"
    }
  }
}
