/// Numbers counted in bins of equal width.
public struct Histogram: Codable, Hashable, Sendable {
  /// The lower end of the first bin.
  public let low: Double
  /// The upper end of the last bin.
  public let high: Double
  /// Numbers in each bin. The outermost bins count what lies beyond them too.
  public private(set) var counts: [Int]

  /// A histogram of no numbers yet.
  /// - Parameters:
  ///   - low: below `high`, both finite.
  ///   - binCount: at least 1.
  package init(low: Double, high: Double, binCount: Int) {
    self.low = low
    self.high = high
    counts = [Int](repeating: 0, count: binCount)
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
