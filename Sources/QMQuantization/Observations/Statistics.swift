import QMOperations

/// Range, counts and histogram of one value over samples. Statistics of parts of the samples merge,
/// in any order, to the statistics of all.
public struct ValueStatistics: Sendable, Hashable {
  /// Smallest finite element; infinity if there is none.
  public private(set) var minimum: Float = .infinity
  /// Largest finite element; minus infinity if there is none.
  public private(set) var maximum: Float = -.infinity
  /// Number of finite elements.
  public private(set) var elementCount = 0
  /// Number of elements that are NaN or infinite.
  public private(set) var nonFiniteCount = 0
  /// Histogram of the finite elements; nil if it was not asked for.
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

  /// Statistics of no elements.
  public init(withHistogram: Bool) { histogram = withHistogram ? Histogram() : nil }

  /// Adds elements.
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

  /// The smallest and the largest element in the total order of floats, in which NaN lies beyond
  /// the infinities.
  private static func extremes(
    of elements: UnsafeBufferPointer<Float>
  ) -> (low: Float, high: Float) {
    // Maps floats to integers in the same order, so that the loop vectorizes. Its own inverse.
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

  /// Adds the elements of other statistics.
  public mutating func merge(_ other: ValueStatistics) {
    minimum = min(minimum, other.minimum)
    maximum = max(maximum, other.maximum)
    elementCount += other.elementCount
    nonFiniteCount += other.nonFiniteCount
    if let histogram = other.histogram { self.histogram?.merge(histogram) }
  }
}

/// The mean of a value at each index of its last axis. Each element is truncated to units of 2⁻³⁰
/// and summed exactly, so that parts of the samples merge in any order; magnitudes beyond 2³² count
/// as 2³².
public struct ChannelMeans: Sendable, Hashable {
  /// In units of 2⁻³⁰.
  private(set) var sums: [Int128]
  private(set) var rowCount: Int = 0

  /// Means of no rows.
  public init(channelCount: Int) { sums = [Int128](repeating: 0, count: channelCount) }

  /// - Parameter sums: in units of 2⁻³⁰, over `rowCount` rows.
  init(sums: [Int128], rowCount: Int) {
    self.sums = sums
    self.rowCount = rowCount
  }

  /// One mean per channel; 0 without rows.
  public var means: [Double] {
    sums.map { rowCount == 0 ? 0 : Double($0) * 0x1p-30 / Double(rowCount) }
  }

  /// Adds rows with one element per channel. NaN counts as 0.
  public mutating func add(_ elements: UnsafeBufferPointer<Float>) {
    addBlocks(of: elements) { (_, block) in block }
  }

  /// Adds rows whose elements are quantized and dequantized first.
  mutating func add(_ elements: UnsafeBufferPointer<Float>, rounding: FakeQuantize) {
    addBlocks(of: elements) { (scratch, block) in
      _ = scratch.update(fromContentsOf: block)
      let rounded = UnsafeMutableBufferPointer(rebasing: scratch[..<block.count])
      rounding.apply(to: rounded)
      return UnsafeBufferPointer(rounded)
    }
  }

  /// Number of elements that are added at a time, in whole rows, at least one row.
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

  /// - Parameter partial: scratch memory, one number per channel; zero before and after the call.
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
          // Truncation that vectorizes: round to the nearest integer, then correct towards zero.
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

  /// The sum of this many rows of magnitudes up to ``exactMagnitude``, in units of 2⁻³⁰, is exact
  /// in float64.
  private static let exactRowCount = 1 << 6
  private static let exactMagnitude: Float = 0x1p17

  /// Adds the rows of other means; ignored if the number of channels differs.
  public mutating func merge(_ other: ChannelMeans) {
    guard other.sums.count == sums.count else { return }
    for channel in sums.indices { sums[channel] &+= other.sums[channel] }
    rowCount += other.rowCount
  }
}

/// Statistics of the operands of one graph.
public struct Statistics: Sendable, Hashable {
  /// Range, counts and histogram, by operand.
  public internal(set) var values: [OperandPlace: ValueStatistics] = [:]
  /// Means of channels, by operand.
  public internal(set) var means: [OperandPlace: ChannelMeans] = [:]

  /// Statistics of no operands.
  public init() {}

  /// Adds statistics of other samples.
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
