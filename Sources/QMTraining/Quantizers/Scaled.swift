/// Rounding of numbers that are normalised and then scaled onto [−R, R]: with the mean μ and the
/// deviation σ of the tensor, n = (x − μ) / σ, and the largest code R,
///
///     Q(x) = sign(n) · round(R · |n| / max |n|);   x̂ = Q(x) · max |x − μ| / R + μ
///
/// Activations hold the numbers between μ − below · max |x − μ| and μ + above · max |x − μ|, with both
/// factors as the converter has them at the start; below = above = 1 is the equation.
///
/// σ cancels out: the step is max |x − μ| / R, so that no number is beyond the codes.
package struct Scaled: StatisticForm {
  package init() {}

  package func unit(_ statistics: StepStatistics) -> Double { statistics.reach }

  package func unitGradient(_ weight: Double, _ statistics: StepStatistics) -> Double {
    statistics.reachGradient(weight)
  }

  package func codes(largest: Float) -> ClosedRange<Float> { -largest...largest }
}
