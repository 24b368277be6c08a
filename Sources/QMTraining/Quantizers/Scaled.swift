/// Rounding of numbers that are normalised and then scaled onto [−R, R]: with the mean μ and the
/// deviation σ of the tensor, n = (x − μ) / σ, and the largest code R,
///
///     Q(x) = sign(n) · round(R · |n| / max |n|);   x̂ = Q(x) · max |x − μ| / R + μ
///
/// σ cancels out: the step is max |x − μ| / R, so that no number is beyond the codes.
package struct Scaled: StatisticForm {
  package init() {}

  package func unit(_ statistics: WeightStatistics) -> Double { statistics.reach }

  package func unitGradient(_ weight: Double, _ statistics: WeightStatistics) -> Double {
    statistics.reachGradient(weight)
  }

  package func codes(largest: Float) -> ClosedRange<Float> { -largest...largest }
}
