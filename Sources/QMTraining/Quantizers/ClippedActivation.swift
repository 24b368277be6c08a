/// Parameterized clipping of activations (PACT): the bound α is learned,
///
///     y = clamp(x, 0, α);  x̂ = round(y · (2ᵏ − 1) / α) · α / (2ᵏ − 1)
///
///     ∂x̂/∂α = 0 for x < α, 1 for x ≥ α
///
/// so that only clipped elements have a gradient. With α = highest · s, this is
///
///     ∂x̂/∂s = highest above the range
///
/// Where the codes reach below 0, their lower bound lowest · s moves with α, and has a gradient in the
/// same way.
///
/// Source: Choi et al. 2018, "PACT: Parameterized Clipping Activation for Quantized Neural Networks",
/// equations 1 to 3.
package enum ClippedActivation {
  package static func scaleGradient(_ sums: RoundingSums, _ grid: RoundingGrid) -> Double {
    Double(grid.lowest) * sums.below + Double(grid.highest) * sums.above
  }
}
