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

  /// The estimated range; it always contains 0.
  /// - Parameter statistics: of one value, with a histogram unless `self` is ``minMax``.
  public func range(of statistics: ValueStatistics) -> ClosedRange<Float> {
    guard statistics.elementCount > 0 else { return 0...0 }
    let full = min(statistics.minimum, 0)...max(statistics.maximum, 0)
    guard let histogram = statistics.histogram else { return full }
    switch self {
    case .minMax: return full
    case .percentile(let kept): return histogram.percentileRange(keeping: kept, within: full)
    case .meanSquaredError: return histogram.leastErrorRange(within: full)
    }
  }
}
