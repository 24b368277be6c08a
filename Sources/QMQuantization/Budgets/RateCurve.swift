/// What conversions with several numbers of bits a weight have shown of a quantity that grows with the
/// bits: the size of the file, or the SQNR of an output.
///
/// Between two known points the curve is a line; beyond them it goes on as between the two nearest,
/// or with the given slope where that would not grow. While no point is known, a guess takes its place.
package struct RateCurve: Sendable {
  /// Growth per bit of a weight where nothing else is known.
  private let slope: Double
  /// In ascending order of their bits.
  private var points: [Point] = []
  private let guess: Point?

  package typealias Point = (bits: Double, value: Double)

  /// - Parameters:
  ///   - slope: growth per bit of a weight where nothing else is known; above 0.
  ///   - guess: a point that is not measured.
  package init(slope: Double, guess: Point? = nil) {
    self.slope = slope
    self.guess = guess
  }

  /// Adds a point; a known one with the same bits is replaced.
  package mutating func add(bits: Double, value: Double) {
    points.removeAll { $0.bits == bits }
    let place = points.firstIndex { $0.bits > bits } ?? points.count
    points.insert((bits, value), at: place)
  }

  /// The value with so many bits; nil while no point is known.
  package func value(at bits: Double) -> Double? {
    guard let line = line(where: { $0.bits >= bits }) else { return nil }
    return line.start.value + (bits - line.start.bits) * line.slope
  }

  /// The bits at which the curve has this value; nil while no point is known.
  package func bits(at value: Double) -> Double? {
    guard let line = line(where: { $0.value >= value }) else { return nil }
    return line.start.bits + (value - line.start.value) / line.slope
  }

  /// The line that ends at the first point that satisfies `isBeyond`.
  private func line(where isBeyond: (Point) -> Bool) -> (start: Point, slope: Double)? {
    guard points.count > 1 else { return (points.last ?? guess).map { ($0, slope) } }
    let beyond = points.firstIndex(where: isBeyond) ?? points.count
    let place = min(max(beyond, 1), points.count - 1)
    let (left, right) = (points[place - 1], points[place])
    let growth = (right.value - left.value) / (right.bits - left.bits)
    return growth > 0 ? (left, growth) : (beyond == points.count ? right : left, slope)
  }
}
