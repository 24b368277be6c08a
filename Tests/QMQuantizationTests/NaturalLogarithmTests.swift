import Foundation
import QMQuantization
import Testing

@Suite struct NaturalLogarithmTests {
  /// The C library's may differ by machine, but not by so much.
  @Test func itIsTheCLibrarysToNineDigits() {
    var number = 1e-300
    while number < 1e300 {
      let expected = log(number)
      #expect(abs(naturalLogarithm(number) - expected) <= 2e-9 * max(1, abs(expected)), "\(number)")
      number *= 1.37
    }
    #expect(naturalLogarithm(1) == 0)
  }
}
