import QMOperations

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

  init(
    minimum: Float, maximum: Float, elementCount: Int, nonFiniteCount: Int, histogram: Histogram
  ) {
    self.minimum = minimum
    self.maximum = maximum
    self.elementCount = elementCount
    self.nonFiniteCount = nonFiniteCount
    self.histogram = histogram
  }

  public init(withHistogram: Bool) { histogram = withHistogram ? Histogram() : nil }

  public mutating func add(_ elements: UnsafeBufferPointer<Float>) {
    var (low, high) = ValueStatistics.extremes(of: elements)
    var finite = elements.count
    if !(low.isFinite && high.isFinite) {
      (low, high, finite) = (.infinity, -.infinity, 0)
      for element in elements where element.isFinite {
        low = min(low, element)
        high = max(high, element)
        finite += 1
      }
    }
    nonFiniteCount += elements.count - finite
    guard finite > 0 else { return }
    elementCount += finite
    minimum = min(minimum, low)
    maximum = max(maximum, high)
    histogram?.add(elements, largestMagnitude: max(abs(low), abs(high)))
  }

  /// The smallest and the largest element in the total order of floats, in which NaN are beyond the
  /// infinities.
  private static func extremes(
    of elements: UnsafeBufferPointer<Float>
  ) -> (low: Float, high: Float) {
    // Integers in the same order, which compilers take several at a time. Its own inverse.
    func key(_ bits: Int32) -> Int32 { bits ^ ((bits >> 31) & .max) }
    var (low, high) = (Int32.max, Int32.min)
    for element in elements {
      let key = key(Int32(bitPattern: element.bitPattern))
      low = min(low, key)
      high = max(high, key)
    }
    return (
      Float(bitPattern: UInt32(bitPattern: key(low))),
      Float(bitPattern: UInt32(bitPattern: key(high)))
    )
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
  /// In units of 2⁻³⁰.
  private(set) var sums: [Int128]
  private(set) var rowCount: Int = 0

  public init(channelCount: Int) { sums = [Int128](repeating: 0, count: channelCount) }

  /// - Parameter sums: in units of 2⁻³⁰, over `rowCount` rows.
  init(sums: [Int128], rowCount: Int) {
    self.sums = sums
    self.rowCount = rowCount
  }

  public var means: [Double] {
    sums.map { rowCount == 0 ? 0 : Double($0) * 0x1p-30 / Double(rowCount) }
  }

  /// Adds rows of as many elements as there are channels. NaN counts as 0.
  public mutating func add(_ elements: UnsafeBufferPointer<Float>) {
    addBlocks(of: elements) { (_, block) in block }
  }

  /// Adds rows of elements as their codes stand for them.
  mutating func add(_ elements: UnsafeBufferPointer<Float>, rounding: FakeQuantize) {
    addBlocks(of: elements) { (scratch, block) in
      _ = scratch.update(fromContentsOf: block)
      let rounded = UnsafeMutableBufferPointer(rebasing: scratch[..<block.count])
      rounding.apply(to: rounded)
      return UnsafeBufferPointer(rounded)
    }
  }

  /// Elements that are added at a time, in whole rows, at least one.
  private static let blockLength = 4096

  private mutating func addBlocks(
    of elements: UnsafeBufferPointer<Float>,
    as form: (
      _ scratch: UnsafeMutableBufferPointer<Float>, _ block: UnsafeBufferPointer<Float>
    ) -> UnsafeBufferPointer<Float>
  ) {
    let channelCount = sums.count
    guard channelCount > 0, elements.count % channelCount == 0 else { return }
    let rows = elements.count / channelCount
    rowCount += rows
    let step = max(ChannelMeans.blockLength / channelCount, 1)
    var partial = [Double](repeating: 0, count: channelCount)
    var scratch = [Float](repeating: 0, count: min(step, rows) * channelCount)
    scratch.withUnsafeMutableBufferPointer { scratch in
      partial.withUnsafeMutableBufferPointer { partial in
        for first in stride(from: 0, to: rows, by: step) {
          let range = first * channelCount..<min(first + step, rows) * channelCount
          addBlock(form(scratch, UnsafeBufferPointer(rebasing: elements[range])), partial)
        }
      }
    }
  }

  /// - Parameter partial: zeros, one per channel, and zeros again afterwards.
  private mutating func addBlock(
    _ block: UnsafeBufferPointer<Float>, _ partial: UnsafeMutableBufferPointer<Double>
  ) {
    let channelCount = partial.count
    let largest = block.reduce(UInt32(0)) { max($0, $1.bitPattern & 0x7FFF_FFFF) }
    let rows = block.count / channelCount
    guard largest <= ChannelMeans.exactMagnitude.bitPattern else {
      for (index, element) in block.enumerated() {
        let bounded = element.isNaN ? 0 : min(max(Double(element), -0x1p32), 0x1p32)
        sums[index % channelCount] += Int128(truncatingIfNeeded: Int64(bounded * 0x1p30))
      }
      return
    }
    for first in stride(from: 0, to: rows, by: ChannelMeans.exactRowCount) {
      for row in first..<min(first + ChannelMeans.exactRowCount, rows) {
        let elements = block.baseAddress! + row * channelCount
        for channel in 0..<channelCount {
          let number = Double(elements[channel]) * 0x1p30
          // To the nearest whole number, then back towards zero where that was away from it.
          let nearest = (number + 0x1.8p52) - 0x1.8p52
          let excess: Double = nearest.magnitude > number.magnitude ? 1 : 0
          partial[channel] += nearest - (number < 0 ? -excess : excess)
        }
      }
      for channel in 0..<channelCount {
        sums[channel] += Int128(Int64(partial[channel]))
        partial[channel] = 0
      }
    }
  }

  /// So many rows of numbers up to this, in units of 2⁻³⁰, have a sum that `Double` holds.
  private static let exactRowCount = 1 << 6
  private static let exactMagnitude: Float = 0x1p17

  public mutating func merge(_ other: ChannelMeans) {
    guard other.sums.count == sums.count else { return }
    for channel in sums.indices { sums[channel] &+= other.sums[channel] }
    rowCount += other.rowCount
  }
}

/// What was seen of the operands of one graph.
public struct Statistics: Sendable, Hashable {
  public internal(set) var values: [OperandPlace: ValueStatistics] = [:]
  public internal(set) var means: [OperandPlace: ChannelMeans] = [:]

  public init() {}

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
  }
}
