/// Maps numbers to places along one side of a chart.
package struct Axis {
  /// The smallest number on the axis.
  package let low: Double
  /// The largest number on the axis.
  package let high: Double
  /// Numbers at which the axis has a mark.
  package let ticks: [Double]
  private let isLogarithmic: Bool

  /// An axis that holds all finite numbers, with round ends.
  /// - Parameter includesZero: whether 0 is on the axis, as for bars, which grow from it.
  package static func linear(_ numbers: [Double], includesZero: Bool = false) -> Axis {
    let finite = numbers.filter(\.isFinite) + (includesZero ? [0] : [])
    let (least, greatest) = (finite.min() ?? 0, finite.max() ?? 1)
    let extent = greatest - least
    // Beyond this, differences of numbers are no numbers.
    guard extent.isFinite, abs(least) < 1e300, abs(greatest) < 1e300 else {
      return Axis(low: -1e300, high: 1e300, ticks: [0], isLogarithmic: false)
    }
    guard extent > 1e-200, extent > 1e-12 * max(abs(least), abs(greatest)) else {
      let size = abs(least) > 1e-150 ? abs(least) / 2 : 1
      return linear([least - size, greatest + size])
    }
    let step = roundStep(extent / 4)
    let (first, last) = ((least / step).rounded(.down), (greatest / step).rounded(.up))
    let ticks = stride(from: first, through: last, by: 1).map { $0 * step }
    return Axis(low: first * step, high: last * step, ticks: ticks, isLogarithmic: false)
  }

  /// An axis of powers of ten that holds all finite numbers above 0.
  package static func logarithmic(_ numbers: [Double]) -> Axis {
    let positive = numbers.filter { $0 > 0 && $0.isFinite }
    let first = (log10(positive.min() ?? 1)).rounded(.down)
    var last = (log10(positive.max() ?? 1)).rounded(.up)
    if last == first { last += 1 }
    let step = max(1, ((last - first) / 5).rounded(.up))
    let ticks = stride(from: first, through: last, by: step).map { pow(10, $0) }
    return Axis(low: pow(10, first), high: pow(10, last), ticks: ticks, isLogarithmic: true)
  }

  /// An axis of exactly these ends.
  static func exact(_ low: Double, _ high: Double, ticks: [Double]) -> Axis {
    Axis(low: low, high: high, ticks: ticks, isLogarithmic: false)
  }

  /// 1, 2 or 5 times a power of ten, at least `least`.
  private static func roundStep(_ least: Double) -> Double {
    let power = pow(10, log10(least).rounded(.down))
    return ([1, 2, 5, 10].first { $0 * power >= least } ?? 10) * power
  }

  /// The place of a number, 0 to 1; numbers beyond an end are at that end.
  package func place(_ number: Double) -> Double {
    guard !number.isNaN else { return 0 }
    if isLogarithmic {
      guard number > low else { return 0 }
      return min((log10(number) - log10(low)) / (log10(high) - log10(low)), 1)
    }
    return min(max((number - low) / (high - low), 0), 1)
  }
}
