/// Finds, among widths in ascending order, where a quantity that grows with the width crosses a limit:
/// the last width below it and the first one that is not, with few measurements.
///
/// The next width to measure is where the curve through the measured ones crosses the limit. A curve
/// that is bent or noisy is better halved now and then: then every third width is the middle of what is
/// left.
package struct CrossingSearch {
  /// In ascending order.
  package let widths: [Double]
  private let limit: Double
  private let isNoisy: Bool
  private var curve: RateCurve
  /// Index of the largest width that is known to be below the limit.
  package private(set) var below: Int?
  /// Index of the smallest width that is known not to be below the limit.
  package private(set) var above: Int?
  /// Index of the smallest width that is possible.
  private var first = 0
  private var measuredCount = 0

  /// - Parameters:
  ///   - widths: in ascending order.
  ///   - limit: the value that the quantity crosses.
  ///   - curve: what is known of the quantity.
  ///   - isNoisy: whether lines between measurements say little.
  package init(_ widths: [Double], limit: Double, curve: RateCurve, isNoisy: Bool) {
    self.widths = widths
    self.isNoisy = isNoisy
    self.limit = limit
    self.curve = curve
  }

  /// Adds a measurement.
  package mutating func add(_ value: Double, at index: Int, isBelow: Bool) {
    measuredCount += 1
    curve.add(bits: widths[index], value: value)
    if isBelow { below = max(below ?? index, index) } else { setAbove(index) }
  }

  /// Says that a width is not below the limit, by how much is unknown.
  package mutating func setAbove(_ index: Int) { above = min(above ?? index, index) }

  /// Excludes a width, and all smaller ones, as impossible.
  package mutating func exclude(_ index: Int) { first = max(first, index + 1) }

  /// The index of the width to measure next; nil if the crossing is known.
  /// - Parameter towardsAbove: whether the first width above the limit is sought.
  package func next(towardsAbove: Bool) -> Int? {
    let lowest = max(below.map { $0 + 1 } ?? first, first)
    let highest = (above ?? widths.count) - 1
    guard lowest <= highest else { return nil }
    let middle = (lowest + highest) / 2
    guard !isNoisy || measuredCount % 3 != 2 || below == nil || above == nil,
      let bits = curve.bits(at: limit)
    else { return middle }
    let place =
      towardsAbove
      ? widths.firstIndex { $0 >= bits } ?? widths.count
      : (widths.lastIndex { $0 <= bits } ?? -1)
    return min(max(place, lowest), highest)
  }
}
