/// Learned step size quantization (LSQ): a number x is rounded to
///
///     x̂ = s · clamp(round(x / s), lowest, highest)
///
/// whose gradients are those of the straight-through estimator,
///
///     ∂x̂/∂x = 1 within the range of the codes, 0 beyond it
///     ∂x̂/∂s = (x̂ − x) / s within it, lowest below it, highest above it
///
/// Source: Esser et al. 2020, "Learned Step Size Quantization", equations 1 to 5. The range ends half a
/// step beyond the last code, where rounding ends; the equations end it at the last code.
package enum LearnedStep {
  package static func scaleGradient(_ sums: RoundingSums, _ grid: RoundingGrid) -> Double {
    sums.within / Double(grid.scale) + Double(grid.lowest) * sums.below
      + Double(grid.highest) * sums.above
  }
}
