import QMGraph

/// What a run over samples saw of one value. Statistics of parts of the samples merge to those of
/// the whole, in any order.
public struct ValueStatistics: Sendable, Hashable {
  public private(set) var minimum: Float = .infinity
  public private(set) var maximum: Float = -.infinity
  /// Finite elements.
  public private(set) var elementCount = 0
  /// NaN or infinite elements.
  public private(set) var nonFiniteCount = 0
  public private(set) var histogram: Histogram?

  public init(withHistogram: Bool) { histogram = withHistogram ? Histogram() : nil }

  public mutating func add(_ elements: UnsafeBufferPointer<Float>) {
    var (low, high) = (Float.infinity, -Float.infinity)
    var finite = 0
    for element in elements where element.isFinite {
      low = min(low, element)
      high = max(high, element)
      finite += 1
    }
    nonFiniteCount += elements.count - finite
    guard finite > 0 else { return }
    elementCount += finite
    minimum = min(minimum, low)
    maximum = max(maximum, high)
    histogram?.add(elements, largestMagnitude: max(abs(low), abs(high)))
  }

  public mutating func merge(_ other: ValueStatistics) {
    minimum = min(minimum, other.minimum)
    maximum = max(maximum, other.maximum)
    elementCount += other.elementCount
    nonFiniteCount += other.nonFiniteCount
    if let histogram = other.histogram { self.histogram?.merge(histogram) }
  }
}

/// Statistics of the values of one graph.
public struct Statistics: Sendable {
  public internal(set) var values: [Graph.ValueID: ValueStatistics] = [:]
  public internal(set) var sampleCount = 0

  public init() {}

  public subscript(value: Graph.ValueID) -> ValueStatistics? { values[value] }

  public mutating func merge(_ other: Statistics) {
    values.merge(other.values) { (mine, theirs) in
      var merged = mine
      merged.merge(theirs)
      return merged
    }
    sampleCount += other.sampleCount
  }
}
