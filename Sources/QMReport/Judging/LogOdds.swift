import QMOperations
import QMTensor

/// The log odds that are compared in place of probabilities.
///
/// A confident network answers 0 or 1 for most samples. There the probabilities of the float network
/// and of a damaged one agree to many digits, and their ratio of signal to noise says 50 dB and more
/// of a network that is wrong for one sample in twenty. The numbers in front of the softmax or
/// sigmoid show the damage on every sample. They are computed from the probabilities, so that
/// outputs of any origin can be compared, and however a conversion fuses the last nodes.
///
/// - Class probabilities: ln p minus its mean over the row (the centred log-ratio of Aitchison, "The
///   Statistical Analysis of Compositional Data", 1986). This is the row in front of the softmax but
///   for a constant, which the softmax ignores. p counts as at least 2⁻¹²⁶, the least normal float.
///   Classes below it in both networks, such as masked ones, are left out.
/// - Independent probabilities: ln(p / (1 − p)), which is the number in front of the sigmoid. p
///   counts as at least 2⁻²⁴ and at most 1 − 2⁻²⁴, where floats below 1 end. The signal is about its
///   mean over all samples, which is only the rarity of what the network looks for.
enum LogOdds {
  private static let leastClass: Float = 0x1p-126
  private static let least: Float = 0x1p-24

  /// Log odds of independent probabilities.
  static func independent(_ probabilities: [Float]) throws(QMError) -> [Float] {
    try logarithms(
      probabilities.map { probability in
        let inside =
          probability < least ? least : probability > 1 - least ? 1 - least : probability
        return inside / (1 - inside)
      })
  }

  /// Log odds of the classes in each row of both networks, without those that are left out.
  /// - Parameters:
  ///   - extent: number of classes.
  ///   - inner: distance of two classes in the elements.
  static func ofClasses(
    _ reference: [Float], _ measured: [Float], extent: Int, inner: Int
  ) throws(QMError) -> (reference: [Float], measured: [Float]) {
    var rows: [Int] = []
    var kept: (reference: [Float], measured: [Float]) = ([], [])
    for start in 0..<(extent > 0 ? reference.count / extent : 0) {
      let first = start / inner * inner * extent + start % inner
      let before = kept.reference.count
      for index in stride(from: first, to: first + extent * inner, by: inner) {
        let (left, right) = (reference[index], measured[index])
        if left < leastClass, right < leastClass { continue }
        kept.reference.append(left < leastClass ? leastClass : left)
        kept.measured.append(right < leastClass ? leastClass : right)
      }
      rows.append(kept.reference.count - before)
    }
    return (
      try centred(logarithms(kept.reference), rows), try centred(logarithms(kept.measured), rows)
    )
  }

  /// Subtracts the mean of each row.
  private static func centred(_ numbers: [Float], _ rowLengths: [Int]) -> [Float] {
    var (numbers, start) = (numbers, 0)
    for length in rowLengths {
      let range = start..<start + length
      let mean = numbers[range].reduce(0) { $0 + Double($1) } / Double(length)
      for index in range { numbers[index] = Float(Double(numbers[index]) - mean) }
      start += length
    }
    return numbers
  }

  private static func logarithms(_ numbers: [Float]) throws(QMError) -> [Float] {
    try Operation.unary(Unary(.logarithm)).evaluate([Tensor([numbers.count], numbers)])[0]
      .elements()
  }
}
