/// How often the elements of a value fell where: counts over bins of one width, a power of two.
///
/// The width follows from the largest magnitude alone, and widths nest, so that histograms of parts
/// of the samples merge to that of the whole, in any order.
public struct Histogram: Sendable, Hashable {
  /// Bins on either side of zero.
  public static let halfCount = 1024

  /// Bin `i` counts the elements in `[(i − halfCount)·2^e, (i − halfCount + 1)·2^e)`.
  public private(set) var counts = [UInt64](repeating: 0, count: 2 * halfCount)
  /// `e`; nil while every element was 0.
  public private(set) var exponent: Int?
  /// Elements equal to 0, which have no width.
  public private(set) var zeroCount: UInt64 = 0

  public init() {}

  /// - Returns: nil if there are not two halves of bins, the bins have no width but counts, or more
  ///   elements than could be counted.
  init?(counts: [UInt64], exponent: Int?, zeroCount: UInt64) {
    guard counts.count == 2 * Histogram.halfCount,
      exponent.map({ (-200...200).contains($0) }) ?? counts.allSatisfy({ $0 == 0 }),
      (counts + [zeroCount]).allSatisfy({ $0 < 1 << 48 })
    else { return nil }
    self.counts = counts
    self.exponent = exponent
    self.zeroCount = zeroCount
  }

  public var totalCount: UInt64 { counts.reduce(zeroCount, +) }

  /// Width of a bin; 0 while every element was 0.
  public var binWidth: Float {
    exponent.map { Float(sign: .plus, exponent: $0, significand: 1) } ?? 0
  }

  /// Middle of bin `index`.
  public func center(of index: Int) -> Float {
    (Float(index - Histogram.halfCount) + 0.5) * binWidth
  }

  /// Adds finite elements; NaN and infinities are passed over.
  /// - Parameters:
  ///   - elements: any number of them.
  ///   - largestMagnitude: of the finite elements.
  public mutating func add(_ elements: UnsafeBufferPointer<Float>, largestMagnitude: Float) {
    guard largestMagnitude > 0 else {
      zeroCount += UInt64(elements.count)
      return
    }
    widen(to: Histogram.exponent(holding: largestMagnitude))
    guard let exponent else { return }
    // Both are powers of two within float's range: the product is exact.
    let scale = Double(sign: .plus, exponent: -exponent, significand: 1)
    counts.withUnsafeMutableBufferPointer { counts in
      for element in elements {
        guard element != 0 else {
          zeroCount += 1
          continue
        }
        guard element.isFinite else { continue }
        let position = Double(element) * scale
        let towardZero = Int(position)
        let index = towardZero - (Double(towardZero) > position ? 1 : 0) + Histogram.halfCount
        counts[index] += 1
      }
    }
  }

  public mutating func merge(_ other: Histogram) {
    zeroCount += other.zeroCount
    guard let otherExponent = other.exponent else { return }
    widen(to: otherExponent)
    var other = other
    if let exponent { other.widen(to: exponent) }
    for index in counts.indices { counts[index] += other.counts[index] }
  }

  /// The smallest width exponent whose bins hold ±magnitude.
  static func exponent(holding magnitude: Float) -> Int {
    // magnitude < 2^(exponent + 1) = halfCount · 2^(exponent − 9)
    Int(magnitude.exponent) - 9
  }

  private mutating func widen(to newExponent: Int) {
    guard let exponent else {
      self.exponent = newExponent
      return
    }
    guard newExponent > exponent else { return }
    let shift = min(newExponent - exponent, 12)
    var merged = [UInt64](repeating: 0, count: counts.count)
    for (index, count) in counts.enumerated() where count > 0 {
      merged[((index - Histogram.halfCount) >> shift) + Histogram.halfCount] += count
    }
    counts = merged
    self.exponent = newExponent
  }
}
