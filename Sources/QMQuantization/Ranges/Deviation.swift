extension Histogram {
  /// The range from μ − k · σ to μ + k · σ, cut to that of the elements and extended to 0. Each element
  /// counts as the center of its bin.
  func deviationRange(_ factor: Float, within full: ClosedRange<Float>) -> ClosedRange<Float> {
    let count = Double(totalCount)
    guard count > 0 else { return full }
    func mean(_ term: (Double) -> Double) -> Double {
      var sum = Double(zeroCount) * term(0)
      for (index, number) in counts.enumerated() where number > 0 {
        sum += Double(number) * term(Double(center(of: index)))
      }
      return sum / count
    }
    let middle = mean { $0 }
    let reach = Double(factor) * mean { ($0 - middle) * ($0 - middle) }.squareRoot()
    return min(
      max(Float(middle - reach), full.lowerBound), 0)...max(
        min(Float(middle + reach), full.upperBound), 0)
  }
}
