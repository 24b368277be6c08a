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

/// The mean of a value at each index of its last axis. Sums are exact in units of 2⁻³⁰, so that
/// parts of the samples merge in any order; magnitudes beyond 2³² count as 2³².
public struct ChannelMeans: Sendable, Hashable {
  private var sums: [Int128]
  private var rowCount: Int = 0

  public init(channelCount: Int) { sums = [Int128](repeating: 0, count: channelCount) }

  public var means: [Double] {
    sums.map { rowCount == 0 ? 0 : Double($0) * 0x1p-30 / Double(rowCount) }
  }

  /// Adds rows of as many elements as there are channels. NaN counts as 0.
  public mutating func add(_ elements: UnsafeBufferPointer<Float>) {
    let channelCount = sums.count
    guard channelCount > 0, elements.count % channelCount == 0 else { return }
    rowCount += elements.count / channelCount
    sums.withUnsafeMutableBufferPointer { sums in
      var channel = 0
      for element in elements {
        let bounded = element.isNaN ? 0 : min(max(Double(element), -0x1p32), 0x1p32)
        sums[channel] += Int128(truncatingIfNeeded: Int64(bounded * 0x1p30))
        channel = channel + 1 == channelCount ? 0 : channel + 1
      }
    }
  }

  public mutating func merge(_ other: ChannelMeans) {
    guard other.sums.count == sums.count else { return }
    for channel in sums.indices { sums[channel] += other.sums[channel] }
    rowCount += other.rowCount
  }
}

/// Statistics of the values of one graph.
public struct Statistics: Sendable {
  public internal(set) var values: [Graph.ValueID: ValueStatistics] = [:]
  public internal(set) var means: [Graph.ValueID: ChannelMeans] = [:]
  /// Of values on their grids.
  public internal(set) var roundedMeans: [Graph.ValueID: ChannelMeans] = [:]
  public internal(set) var sampleCount = 0

  public init() {}

  public subscript(value: Graph.ValueID) -> ValueStatistics? { values[value] }

  public mutating func merge(_ other: Statistics) {
    values.merge(other.values) { (mine, theirs) in
      var merged = mine
      merged.merge(theirs)
      return merged
    }
    means.merge(other.means) { (mine, theirs) in
      var merged = mine
      merged.merge(theirs)
      return merged
    }
    roundedMeans.merge(other.roundedMeans) { (mine, theirs) in
      var merged = mine
      merged.merge(theirs)
      return merged
    }
    sampleCount += other.sampleCount
  }
}
