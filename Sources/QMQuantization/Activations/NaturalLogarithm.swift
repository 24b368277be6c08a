/// The natural logarithm of a positive normal number, to 9 digits. Its bits are the same on every
/// machine, other than those of the C library's; choices depend on it.
package func naturalLogarithm(_ number: Double) -> Double {
  var (significand, exponent) = (number.significand, Double(number.exponent))
  if significand > 1.4142135623730951 {
    significand /= 2
    exponent += 1
  }
  let ratio = (significand - 1) / (significand + 1)
  let square = ratio * ratio
  var series = 0.0
  for power in stride(from: 11.0, through: 1, by: -2) { series = series * square + 1 / power }
  return exponent * 0.6931471805599453 + 2 * ratio * series
}
