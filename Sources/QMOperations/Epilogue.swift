import QMTensor

/// What a product does to each accumulator before the one rounding, in this order:
///
///     real = Float(accumulator) · multiplier[c]      (integer operands only)
///     real = real + bias[c]                          (a float32 bias)
///     real = real + residual                         (dequantized where it holds codes)
///     real = function(real)
///     output = real, or Int8(clamp(roundToNearestEven(real · (1 / scale)) + zeroPoint))
///
/// Each step is one IEEE operation in float32; none is fused. An int32 bias belongs to the
/// accumulator and is added before the first step.
public struct Epilogue: Hashable, Sendable {
  /// nil leaves the number as it is.
  public var function: UnaryFunction?
  public var output: OutputEncoding

  public init(function: UnaryFunction? = nil, output: OutputEncoding = .float32) {
    self.function = function
    self.output = output
  }
}

/// Positions of a product's inputs: of a convolution (input, filter) and of a matrix product
/// (left, right).
public enum ProductOperand {
  /// float32; or int8 codes with fixed or dynamic quantization.
  public static let input = 0
  /// float32; int8 codes with weights quantization (a constant); or, in a matrix product, int8
  /// codes with fixed quantization.
  public static let weights = 1
  /// Optional, one number per output channel: int32 in units of input scale · weight scale (fixed
  /// quantization), or float32.
  public static let bias = 2
  /// float32, present exactly if the weights have weights quantization: one scale per output
  /// channel, or one in all.
  public static let weightScales = 3
  /// float32 `[…, 2]`, present exactly if the input's quantization is dynamic: scale and zero
  /// point of each row or sample.
  public static let inputParameters = 4
  /// Optional; extents of the output: float32, or int8 codes with fixed quantization.
  public static let residual = 5
}
