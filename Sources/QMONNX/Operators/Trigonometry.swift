import QMOperations
import QMTensor

// Inverse trigonometric and hyperbolic functions, as chains of elementary functions.

extension NodeReader {
  private func constant(_ value: Double, _ like: Value) throws(QMError) -> Value {
    try number(value, like: like)
  }

  /// The arctangent. Magnitudes above tan(π/8) are reduced by the theorems of addition of π/2 and π/4;
  /// what remains is a polynomial, with a relative error below 10⁻⁸.
  private func arctangent(_ x: Value) throws(QMError) -> Value {
    let size = try call("Abs", x)
    let one = try constant(1, x)
    let isLarge = try call("Greater", size, constant(2.414213562373095, x))
    let isMiddle = try call("Greater", size, constant(0.4142135623730950, x))
    let middle = try call("Div", call("Sub", size, one), call("Add", size, one))
    let small = try call("Where", isMiddle, middle, size)
    let reduced = try call("Where", isLarge, call("Neg", call("Reciprocal", size)), small)
    let offset = try call(
      "Where", isLarge, constant(1.5707963267948966, x),
      call("Where", isMiddle, constant(0.7853981633974483, x), constant(0, x)))
    let square = try call("Mul", reduced, reduced)
    // Fitted to arctan(t) / t over the squares of |t| ≤ tan(π/8).
    var polynomial = try constant(Self.arctangentSeries[4], x)
    for coefficient in Self.arctangentSeries[..<4].reversed() {
      polynomial = try call(
        "Add", call("Mul", polynomial, square), constant(coefficient, x))
    }
    let correction = try call("Mul", call("Mul", polynomial, square), reduced)
    let result = try call("Add", offset, call("Add", reduced, correction))
    return try call("Mul", call("Sign", x), result)
  }

  /// Coefficients of t³, t⁵, ….
  private static let arctangentSeries = [
    -0.33333307, 0.19998189, -0.14239633, 0.10570496, -0.06027852,
  ]

  func atan() throws(QMError) { try finish([arctangent(float(0))]) }

  /// asin x = arctan(x / √((1 − x)(1 + x))).
  func asin() throws(QMError) {
    let x = try float(0)
    let one = try constant(1, x)
    let rest = try call("Sqrt", call("Mul", call("Sub", one, x), call("Add", one, x)))
    try finish([arctangent(call("Div", x, rest))])
  }

  /// acos x = 2 arctan √((1 − x) / (1 + x)).
  func acos() throws(QMError) {
    let x = try float(0)
    let one = try constant(1, x)
    let root = try call("Sqrt", call("Div", call("Sub", one, x), call("Add", one, x)))
    try finish(call("Mul", [arctangent(root), constant(2, x)], outputs: 1))
  }

  /// ln(1 + u) for u ≥ −1, exact near 0: the rounding error of 1 + u cancels.
  private func logarithmOfOnePlus(_ u: Value) throws(QMError) -> Value {
    let one = try constant(1, u)
    let sum = try call("Add", u, one)
    let rounded = try call("Sub", sum, one)
    let isTiny = try call("Equal", rounded, constant(0, u))
    let divisor = try call("Where", isTiny, one, rounded)
    let scaled = try call("Div", call("Mul", call("Log", sum), u), divisor)
    return try call("Where", isTiny, u, scaled)
  }

  /// asinh x = sign x · ln(1 + |x| + x² / (1 + √(1 + x²))); ln 2|x| where x² would overflow.
  func asinh() throws(QMError) {
    let x = try float(0)
    let size = try call("Abs", x)
    let one = try constant(1, x)
    let bounded = try call("Min", [size, constant(1e9, x)], outputs: 1)[0]
    let square = try call("Mul", bounded, bounded)
    let root = try call("Sqrt", call("Add", square, one))
    let rest = try call("Div", square, call("Add", root, one))
    let near = try logarithmOfOnePlus(call("Add", bounded, rest))
    let result = try call(
      "Where", call("Greater", size, constant(1e9, x)), logarithmOfTwice(size), near)
    try finish(call("Mul", [call("Sign", x), result], outputs: 1))
  }

  /// acosh x = ln(1 + t + √(2t + t²)) with t = x − 1; ln 2x where t² would overflow.
  func acosh() throws(QMError) {
    let x = try float(0)
    let t = try call("Sub", x, constant(1, x))
    let bounded = try call("Min", [t, constant(1e9, x)], outputs: 1)[0]
    let root = try call("Sqrt", call("Mul", bounded, call("Add", bounded, constant(2, x))))
    let near = try logarithmOfOnePlus(call("Add", bounded, root))
    try finish(
      call(
        "Where", [call("Greater", x, constant(1e9, x)), logarithmOfTwice(x), near], outputs: 1))
  }

  private func logarithmOfTwice(_ x: Value) throws(QMError) -> Value {
    try call("Add", call("Log", x), constant(0.6931471805599453, x))
  }

  /// atanh x = sign x · ½ ln(1 + 2|x| / (1 − |x|)).
  func atanh() throws(QMError) {
    let x = try float(0)
    let size = try call("Abs", x)
    let ratio = try call(
      "Div", call("Add", size, size), call("Sub", constant(1, x), size))
    let result = try call("Mul", logarithmOfOnePlus(ratio), constant(0.5, x))
    try finish(call("Mul", [call("Sign", x), result], outputs: 1))
  }
}
