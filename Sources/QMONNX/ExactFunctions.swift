/// Functions in double precision for constants that are made while a network is read: of `+ − × ÷` alone,
/// so that every machine makes the same ones.
enum ExactFunctions {
  /// Cosine and sine of `numerator` / `denominator` turns.
  /// - Parameters:
  ///   - numerator: at least 0 and below 2⁵⁹.
  ///   - denominator: 1 to 2³¹.
  static func turn(_ numerator: Int, of denominator: Int) -> (cosine: Double, sine: Double) {
    let reduced = numerator % denominator
    // The nearest quarter, and what remains, at most an eighth of a turn.
    let quarter = (8 * reduced + denominator) / (2 * denominator)
    let rest = 4 * reduced - quarter * denominator
    let x = Double(rest) / Double(denominator) * 1.5707963267948966
    var (sine, cosine, power) = (0.0, 0.0, 1.0)
    for order in 0..<20 {
      if order % 2 == 0 {
        cosine += order % 4 == 0 ? power : -power
      } else {
        sine += order % 4 == 1 ? power : -power
      }
      power *= x / Double(order + 1)
    }
    switch quarter % 4 {
    case 0: return (cosine, sine)
    case 1: return (-sine, cosine)
    case 2: return (-cosine, -sine)
    default: return (sine, -cosine)
    }
  }

  private static let logarithmOfTwo = 0.6931471805599453

  /// The natural logarithm of a positive number.
  static func logarithm(_ x: Double) -> Double {
    let m = x.significand
    let t = (m - 1) / (m + 1)
    var (sum, power) = (0.0, t)
    for order in stride(from: 1, to: 61, by: 2) {
      sum += power / Double(order)
      power *= t * t
    }
    return 2 * sum + Double(x.exponent) * logarithmOfTwo
  }

  /// The exponential of a number of magnitude below 700.
  static func exponential(_ x: Double) -> Double {
    let count = (x / logarithmOfTwo).rounded()
    let rest = x - count * logarithmOfTwo
    var (sum, power) = (0.0, 1.0)
    for order in 0..<22 {
      sum += power
      power *= rest / Double(order + 1)
    }
    return Double(sign: .plus, exponent: Int(count), significand: sum)
  }
}
