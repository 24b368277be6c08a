/// A histogram of the elements of a value. All bins have the same width, a power of two.
///
/// The width depends only on the largest magnitude, and each bin of a larger width is a union of
/// smaller bins. So histograms of parts of the samples merge, in any order, to the histogram of
/// all.
public struct Histogram: Sendable, Hashable {
  /// Bins on either side of zero.
  public static let halfCount = 1024

  /// Bin `i` counts the elements in `[(i − halfCount)·2^e, (i − halfCount + 1)·2^e)`.
  public private(set) var counts = [UInt64](repeating: 0, count: 2 * halfCount)
  /// `e`, the exponent of the bin width; nil as long as every element is 0.
  public private(set) var exponent: Int?
  /// Number of elements equal to 0; they are in no bin.
  public private(set) var zeroCount: UInt64 = 0

  /// A histogram without elements.
  public init() {}

  /// - Returns: nil unless there are `2 · halfCount` bins, with an exponent in range if any is not
  ///   empty, and counts below 2⁴⁸.
  init?(counts: [UInt64], exponent: Int?, zeroCount: UInt64) {
    guard counts.count == 2 * Histogram.halfCount,
      exponent.map({ Histogram.exponents.contains($0) }) ?? counts.allSatisfy({ $0 == 0 }),
      (counts + [zeroCount]).allSatisfy({ $0 < 1 << 48 })
    else { return nil }
    self.counts = counts
    self.exponent = exponent
    self.zeroCount = zeroCount
  }

  /// Number of all elements, zeros included.
  public var totalCount: UInt64 { counts.reduce(zeroCount, +) }

  /// Width of a bin; 0 as long as every element is 0.
  public var binWidth: Float {
    exponent.map { Float(sign: .plus, exponent: $0, significand: 1) } ?? 0
  }

  /// Middle of bin `index`.
  public func center(of index: Int) -> Float {
    (Float(index - Histogram.halfCount) + 0.5) * binWidth
  }

  /// Adds the finite elements; NaN and infinities are skipped.
  /// - Parameters:
  ///   - elements: any number of elements.
  ///   - largestMagnitude: largest magnitude of the finite ones.
  public mutating func add(_ elements: UnsafeBufferPointer<Float>, largestMagnitude: Float) {
    guard largestMagnitude > 0 else {
      zeroCount += UInt64(elements.count { $0 == 0 })
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

  /// Adds the elements of another histogram.
  public mutating func merge(_ other: Histogram) {
    zeroCount += other.zeroCount
    guard let otherExponent = other.exponent else { return }
    widen(to: otherExponent)
    var other = other
    if let exponent { other.widen(to: exponent) }
    for index in counts.indices { counts[index] += other.counts[index] }
  }

  /// The width exponents of the magnitudes that float32 has.
  private static let exponents =
    exponent(holding: .leastNonzeroMagnitude)...exponent(holding: .greatestFiniteMagnitude)

  /// The smallest exponent with which the bins cover ±magnitude.
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
