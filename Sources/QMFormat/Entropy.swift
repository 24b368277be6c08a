/// The order-0 entropy: the size below which no code comes that gives each symbol a word of its own.
public enum Entropy {
  /// Σ n · log₂(N / n) over symbols that occur n times of N, in bits, rounded down. Computed in
  /// integers, so that every machine gets the same.
  public static func bits(_ counts: [Int]) -> Int {
    let total = counts.reduce(0, +)
    guard total > 0 else { return 0 }
    let sum = counts.reduce(total * logarithm(total)) { $1 > 0 ? $0 - $1 * logarithm($1) : $0 }
    return sum >> fractionBits
  }

  private static let fractionBits = 16

  /// log₂ in units of 2⁻¹⁶, by repeated squaring.
  private static func logarithm(_ number: Int) -> Int {
    let power = Int.bitWidth - 1 - number.leadingZeroBitCount
    // The number over its power of two, with 31 bits after the point.
    var mantissa = (UInt64(number) << UInt64(62 - power)) >> 31
    var result = power
    for _ in 0..<fractionBits {
      mantissa = (mantissa * mantissa) >> 31
      let isTwo = mantissa >> 32
      result = result << 1 | Int(isTwo)
      mantissa >>= isTwo
    }
    return result
  }
}
