import QMTensor

/// Rounds numbers to those that codes stand for, and leaves them numbers: what Quantize and then
/// Dequantize give, in one step. Calibration and sensitivity analysis round activations with it.
///
/// Source: Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference: A
/// whitepaper", section 2.4, equations 15–17.
public struct FakeQuantize: Hashable, Sendable {
  public let parameters: QuantizationParameters

  /// - Parameter parameters: as ``QuantizationParameters/check()`` accepts them.
  public init(_ parameters: QuantizationParameters) { self.parameters = parameters }

  /// Rounds in place.
  public func apply(to numbers: UnsafeMutableBufferPointer<Float>) {
    let codes = parameters.elementType.codes ?? -128...127
    let (lowest, highest) = (Float(codes.lowerBound), Float(codes.upperBound))
    let zero = Float(parameters.zeroPoint)
    let (scale, inverse) = (parameters.scale, 1 / parameters.scale)
    for index in numbers.indices {
      let steps = numbers[index] * inverse
      // Beyond every code from any zero point, and rounded right by `roundedWithin22Bits`. NaN becomes
      // the lowest code, as in `encode`.
      let low = steps > -0x1p17 ? steps : -0x1p17
      let near = low < 0x1p17 ? low : 0x1p17
      let code = near.roundedWithin22Bits + zero
      numbers[index] = (min(max(code, lowest), highest) - zero) * scale
    }
  }
}

extension Float {
  /// The nearest integer, even between two, of a magnitude under 2²². The sum has no bits left for
  /// fractions, and unlike `rounded` it is an instruction everywhere.
  @inline(__always) package var roundedWithin22Bits: Float { (self + 0x1.8p23) - 0x1.8p23 }
}
