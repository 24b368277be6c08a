import QMTensor

/// Quantize and Dequantize in one step: replaces each float32 number by the number that its code
/// represents. Calibration and sensitivity analysis round activations with it.
///
/// Source: Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference: A
/// whitepaper", section 2.4, equations 15–17.
public struct FakeQuantize: Hashable, Sendable {
  /// Element type, scale and zero point of the codes.
  public let parameters: QuantizationParameters

  /// - Parameter parameters: as ``QuantizationParameters/check()`` accepts them.
  public init(_ parameters: QuantizationParameters) { self.parameters = parameters }

  /// Rounds in place.
  public func apply(to numbers: UnsafeMutableBufferPointer<Float>) {
    guard let source = numbers.baseAddress else { return }
    apply(to: source, writing: numbers)
  }

  /// Rounds as many elements of `source` as `target` has.
  package func apply(
    to source: UnsafePointer<Float>, writing target: UnsafeMutableBufferPointer<Float>
  ) {
    let codes = parameters.elementType.codes ?? -128...127
    let (lowest, highest) = (Float(codes.lowerBound), Float(codes.upperBound))
    let zero = Float(parameters.zeroPoint)
    let (scale, inverse) = (parameters.scale, 1 / parameters.scale)
    for index in target.indices {
      let steps = source[index] * inverse
      // ±2¹⁷ is beyond every code for any zero point, and within the range of
      // `roundedWithin22Bits`. NaN becomes the lowest code, as in `encode`.
      let low = steps > -0x1p17 ? steps : -0x1p17
      let near = low < 0x1p17 ? low : 0x1p17
      let code = near.roundedWithin22Bits + zero
      target[index] = (min(max(code, lowest), highest) - zero) * scale
    }
  }
}

extension Float {
  /// The nearest integer, ties to even, for magnitudes below 2²². The sum has no bits left for a
  /// fraction; unlike `rounded`, an addition is one instruction on every processor.
  @inline(__always) package var roundedWithin22Bits: Float { (self + 0x1.8p23) - 0x1.8p23 }
}
