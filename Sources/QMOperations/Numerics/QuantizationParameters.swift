import QMTensor

/// Scale and zero point of codes: a code represents the number `scale · (code − zeroPoint)`.
public struct QuantizationParameters: Hashable, Sendable {
  /// int8, uint8 or int16.
  public var elementType: ElementType
  /// Distance between the numbers of two neighbouring codes.
  public var scale: Float
  /// The code that represents 0.
  public var zeroPoint: Int32

  /// Parameters as given; ``check()`` tells whether they are valid.
  public init(_ elementType: ElementType = .int8, scale: Float, zeroPoint: Int32) {
    self.elementType = elementType
    self.scale = scale
    self.zeroPoint = zeroPoint
  }

  /// The smallest scale whose codes cover a range, with the zero point that makes 0 a code:
  ///
  ///     scale     = (high − low) / (highest − lowest code)
  ///     zeroPoint = encode(lowest code − low / scale)
  ///
  /// in float32, each step rounded once, with low = min(minimum, 0) and high = max(maximum, 0). If
  /// that scale is not a normal number, because the range is empty or exceeds float32, the scale
  /// is 1.
  ///
  /// Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
  /// Integer-Arithmetic-Only Inference", section 3, equation 12.
  /// - Parameters: bounds of the range; 0 is always inside.
  public init(_ elementType: ElementType = .int8, covering minimum: Float, _ maximum: Float) {
    let codes = elementType.codes ?? -128...127
    let (low, high) = (min(minimum, 0), max(maximum, 0))
    let step = (high - low) / Float(codes.upperBound - codes.lowerBound)
    let scale = step.isNormal ? step : 1
    let zeroPoint = encode(
      real: Float(codes.lowerBound) - low / scale, inverseScale: 1, zeroPoint: 0,
      lowest: codes.lowerBound, highest: codes.upperBound)
    self.init(elementType, scale: scale, zeroPoint: zeroPoint)
  }

  /// Checks the rules for all quantization parameters: the element type holds codes, the scale and
  /// its inverse are positive normal numbers, the zero point is a code.
  /// - Throws: `malformed`, with what was found.
  public func check() throws(QMError) {
    guard let codes = elementType.codes else {
      throw .malformed("codes are stored as int8, uint8 or int16, found \(elementType)")
    }
    guard scale > 0, scale.isNormal, (1 / scale).isNormal else {
      throw .malformed("a scale and its inverse are positive normal numbers, found scale \(scale)")
    }
    guard codes.contains(zeroPoint) else {
      throw .malformed(
        "the zero point of \(elementType) codes is within \(codes), found \(zeroPoint)")
    }
  }
}

extension Quantization {
  /// Checks fixed quantization; other quantization passes.
  /// - Throws: `malformed` if the parameters break the rules of ``QuantizationParameters/check()``.
  func checkIfFixed(_ elementType: ElementType) throws(QMError) {
    if case .fixed(let scale, let zeroPoint) = self {
      try QuantizationParameters(elementType, scale: scale, zeroPoint: zeroPoint).check()
    }
  }
}
