import QMOperations

/// Learned step and offset (LSQ+): with the offset β and the codes `lowest` to `highest`,
///
///     x̂ = s · clamp(round((x − β) / s), lowest, highest) + β
///
///     ∂x̂/∂s = (x̂ − x) / s within the range, lowest below it, highest above it
///     ∂x̂/∂β = 0 within the range, 1 beyond it
///
/// A file has a whole zero point z, so that β is rounded to −z · s; in the gradient this counts as the
/// identity. Unlike in ``LearnedStep``, the bounds of the range move with β and not only with s.
///
/// Source: Bhalgat et al. 2020, "LSQ+: Improving low-bit quantization through learnable offsets and
/// better initialization", equations 3 to 7.
package enum LearnedOffset {
  /// ∂loss/∂s and ∂loss/∂β.
  package static func gradients(
    _ sums: RoundingSums, _ parameters: QuantizationParameters
  ) -> (scale: Double, offset: Double) {
    var grid = RoundingGrid(parameters)
    grid.lowest += Float(parameters.zeroPoint)
    grid.highest += Float(parameters.zeroPoint)
    return (LearnedStep.scaleGradient(sums, grid), sums.below + sums.above)
  }

  /// The whole zero point of an offset: a code, so that 0 is represented exactly.
  package static func zeroPoint(
    offset: Float, scale: Float, codes: ClosedRange<Int32>
  ) -> Int32 {
    let steps = -offset / scale
    return Int32(
      min(max(steps, Float(codes.lowerBound)), Float(codes.upperBound)).roundedWithin22Bits)
  }
}
