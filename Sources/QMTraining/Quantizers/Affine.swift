/// Rounding with a step and an offset that put the numbers between μ − k · σ and μ + k · σ on the codes
/// from `lowest` to `highest`:
///
///     Q(x) = (clamp(round(x / s + b), lowest, highest) − b) · s
///     s = 2 · k · σ / (highest − lowest),   b = lowest − (μ − k · σ) / s
///
/// With a whole b, ranges of codes with the same number of steps give the same numbers: [0, 255] those
/// of [−128, 127], with b larger by 128. [−128, 255] has 384 codes, more than 8 bits; its numbers are
/// put on every 383/255th of them, which again are those of [−128, 127].
///
/// Activations hold the numbers between μ − below · σ and μ + above · σ, with both factors as the
/// converter has them at the start; below = above = k is the equation.
///
/// In a file, k is what the step of the converter makes it.
package struct Affine: StatisticForm {
  package init() {}

  package func unit(_ statistics: StepStatistics) -> Double { statistics.deviation }

  package func unitGradient(_ weight: Double, _ statistics: StepStatistics) -> Double {
    statistics.deviationGradient(weight)
  }

  package func codes(largest: Float) -> ClosedRange<Float> { -largest - 1...largest }
}
