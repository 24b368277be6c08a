/// Rounding of normalised numbers: with the mean μ and the deviation σ of the tensor,
///
///     Q(x) = round((x − μ) / σ · 2^b);   x̂ = Q(x) · σ / 2^b + μ
///
/// The step is σ / 2^b. Codes have no bounds but those of the type that holds them, and take the bits of
/// their entropy, about b + 2.05 for normal numbers; or they have n bits, which hold the numbers up to
/// 2^(n − 1) steps from μ. With n = b, these are only those within half a deviation.
///
/// Activations of n bits hold the numbers between μ − below · σ and μ + above · σ, with
/// 2^b = (2ⁿ − 1) / (below + above) and both factors as the converter has them at the start.
///
/// In a file, b is what the step of the converter makes it: 2^b = σ / s, and need not be whole.
package struct Normalised: StatisticForm {
  package init() {}

  package func unit(_ statistics: StepStatistics) -> Double { statistics.deviation }

  package func unitGradient(_ weight: Double, _ statistics: StepStatistics) -> Double {
    statistics.deviationGradient(weight)
  }

  package func codes(largest: Float) -> ClosedRange<Float> { -largest - 1...largest }
}
