/// Numbers counted in bins of equal width.
public struct Histogram: Codable, Hashable, Sendable {
  /// The lower end of the first bin.
  public private(set) var low: Double
  /// The upper end of the last bin.
  public private(set) var high: Double
  /// Numbers in each bin. The outermost bins count what lies beyond them too.
  public private(set) var counts: [Int]

  /// A histogram of no numbers yet.
  /// - Parameters:
  ///   - low: below `high`, both finite.
  ///   - binCount: at least 1; even if the histogram is to be widened.
  package init(low: Double, high: Double, binCount: Int) {
    self.low = low
    self.high = high
    counts = [Int](repeating: 0, count: binCount)
  }

  /// Doubles the width, towards either side, until a range fits. What was counted stays exact.
  /// - Parameter range: finite. It and the histogram hold 0, so that no width is lost beside its ends.
  package mutating func widen(toHold range: ClosedRange<Double>) {
    while range.lowerBound < low || range.upperBound > high {
      let pairs = stride(from: 0, to: counts.count - 1, by: 2).map { counts[$0] + counts[$0 + 1] }
      let empty = [Int](repeating: 0, count: pairs.count)
      if range.lowerBound < low {
        (low, counts) = (low - (high - low), empty + pairs)
      } else {
        (high, counts) = (high + (high - low), pairs + empty)
      }
    }
  }

  /// Counts numbers; NaN is left out.
  package mutating func add(_ numbers: [Float]) {
    let last = Double(counts.count - 1)
    let binsPerUnit = Double(counts.count) / (high - low)
    for number in numbers where !number.isNaN {
      let bin = (Double(number) - low) * binsPerUnit
      counts[Int(min(max(bin, 0), last))] += 1
    }
  }
}
