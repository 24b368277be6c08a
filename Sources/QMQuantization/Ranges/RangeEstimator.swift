import QMGraph
import QMTensor

/// How the range of an activation is estimated from its statistics.
public enum RangeEstimator: Hashable, Sendable {
  /// From the smallest to the largest element.
  case minMax
  /// Keeps the central p percent of the elements (e.g. 99.99); cuts (100 − p)/2 percent at each
  /// end.
  case percentile(Float)
  /// The range for 256 codes with the least mean squared error.
  case meanSquaredError
  /// From k deviations σ below the mean μ to k above it, as far as there are elements. Codes of 8 bits
  /// have the step 2 · k · σ / 255: with k = 2^(7 − b), that of round((x − μ) / σ · 2^b) but for one
  /// code in 256.
  case deviation(Float)
  /// Always the same range, whatever the elements are: pixels lie in 0...255, and −128...255 puts 384
  /// whole numbers on 256 codes.
  case fixed(ClosedRange<Float>)

  /// Whether the statistics need a histogram.
  var needsHistogram: Bool {
    switch self {
    case .minMax, .fixed: false
    case .percentile, .meanSquaredError, .deviation: true
    }
  }

  /// The estimated range; it always contains 0.
  /// - Parameter statistics: of one value, with a histogram unless `self` is ``minMax`` or
  ///   ``fixed(_:)``.
  public func range(of statistics: ValueStatistics) -> ClosedRange<Float> {
    if case .fixed(let range) = self {
      return min(range.lowerBound, 0)...max(range.upperBound, 0)
    }
    guard statistics.elementCount > 0 else { return 0...0 }
    let full = min(statistics.minimum, 0)...max(statistics.maximum, 0)
    guard let histogram = statistics.histogram else { return full }
    switch self {
    case .minMax, .fixed: return full
    case .percentile(let kept): return histogram.percentileRange(keeping: kept, within: full)
    case .meanSquaredError: return histogram.leastErrorRange(within: full)
    case .deviation(let factor): return histogram.deviationRange(factor, within: full)
    }
  }
}
