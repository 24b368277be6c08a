extension Histogram {
  /// The range that cuts at most the fraction `(100 − kept) / 200` of the elements at each end,
  /// rounded outwards to whole bins.
  func percentileRange(keeping kept: Float, within full: ClosedRange<Float>) -> ClosedRange<Float> {
    let dropped = Double(totalCount) * Double(100 - min(max(kept, 0), 100)) / 200
    var low = 0
    var passed = 0.0
    while low < Histogram.halfCount, passed + Double(counts[low]) <= dropped {
      passed += Double(counts[low])
      low += 1
    }
    var high = counts.count - 1
    passed = 0
    while high >= Histogram.halfCount, passed + Double(counts[high]) <= dropped {
      passed += Double(counts[high])
      high -= 1
    }
    let lowest = Float(low - Histogram.halfCount) * binWidth
    let highest = Float(high + 1 - Histogram.halfCount) * binWidth
    return min(max(lowest, full.lowerBound), 0)...max(min(highest, full.upperBound), 0)
  }
}
