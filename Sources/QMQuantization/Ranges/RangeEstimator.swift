import QMGraph
import QMTensor

/// How the range of an activation is found in what was observed of it.
public enum RangeEstimator: Hashable, Sendable {
  /// Everything that was seen.
  case minMax
  /// All but the given share of the elements at either end together, in percent kept: 99.99, say.
  case percentile(Float)
  /// The range whose 256 codes have the least mean squared error.
  case meanSquaredError

  /// The range, with 0 inside.
  /// - Parameter statistics: with a histogram unless `self` is ``minMax``.
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
