import QMFormat
import QMReport
import QMRuntime
import QMTensor

/// How far the outputs of a program are from those of another: for each part of each output and each
/// sample, the power of the error over the power of the sample's own signal.
///
/// Each sample counts by its own signal, so that one loud sample does not decide; see
/// ``Comparison/normalizedErrors``. States do not count, their effect on the next step does.
struct OutputErrors {
  /// `[part][sample]`, the parts in the order of the outputs' names. Empty for a part of which nothing
  /// was measured.
  private let errors: [[Double]]
  private let isLogOdds: [Bool]

  /// Error of a part that is wrong altogether, such as NaN.
  private static let largest = 1e6

  /// - Parameter base: errors of another program on the same samples. Only what it measured counts; of
  ///   that, what this program has not is wrong altogether.
  init(_ comparisons: [String: OutputComparison], like base: OutputErrors? = nil) {
    var errors: [[Double]] = []
    var isLogOdds: [Bool] = []
    for (_, comparison) in comparisons.sorted(by: { $0.key < $1.key }) where !comparison.isState {
      errors += comparison.parts.map(\.comparison.normalizedErrors)
      isLogOdds += comparison.parts.map { $0.part.form != .elements }
      let hasParts = comparison.parts.contains { $0.comparison.sampleCount > 0 }
      errors.append(hasParts ? [] : comparison.whole.normalizedErrors)
      isLogOdds.append(false)
    }
    errors = errors.map { $0.map { $0 < OutputErrors.largest ? $0 : OutputErrors.largest } }
    if let base {
      let sampleCount = comparisons.values.map(\.sampleCount).max() ?? 0
      for part in errors.indices {
        let count = min(base.errors[part].count, sampleCount)
        errors[part] = Array(errors[part].prefix(count))
        let missing = count - errors[part].count
        errors[part] += [Double](repeating: OutputErrors.largest, count: missing)
      }
    }
    self.errors = errors
    self.isLogOdds = isLogOdds
  }

  private var measured: [[Double]] { errors.filter { !$0.isEmpty } }

  /// The median over the samples of each part.
  var medians: [Double] { measured.map(OutputErrors.median) }

  /// The median; the higher one of two in the middle.
  private static func median(_ errors: [Double]) -> Double { errors.sorted()[errors.count / 2] }

  /// Whether each part of ``medians`` is the log odds of probabilities.
  var areLogOdds: [Bool] { zip(errors, isLogOdds).filter { !$0.0.isEmpty }.map(\.1) }

  /// For each part the decibels by which the error exceeds that of another program: the mean over the
  /// samples, or of the medians if that is more. The median is what is told; it says nothing of a
  /// minority of the samples.
  /// - Parameter sufficient: for each part the error below which all errors count alike.
  func decibels(over base: OutputErrors, sufficient: [Double]) -> [Double] {
    let decibelsOfLogarithm = 4.3429448190325183
    return zip(zip(measured, base.measured), sufficient).map { errors, sufficient in
      func logarithm(_ error: Double, _ base: Double) -> Double {
        naturalLogarithm(max(error, sufficient) / max(base, sufficient))
      }
      let mean = zip(errors.0, errors.1).reduce(0) { $0 + logarithm($1.0, $1.1) }
      return decibelsOfLogarithm
        * max(
          mean / Double(errors.0.count),
          logarithm(OutputErrors.median(errors.0), OutputErrors.median(errors.1)))
    }
  }

  /// Mean over parts and samples of the logarithm of the error; less is better. Errors far below
  /// 50 dB count alike.
  var meanLogarithm: Double {
    let all = errors.joined().map { naturalLogarithm($0 + 1e-6) }
    return all.isEmpty ? 0 : all.reduce(0, +) / Double(all.count)
  }

  /// The errors of the first samples, part by part.
  func flat(samples count: Int) -> [Double] { measured.flatMap { $0.prefix(count) } }

  /// For each number of ``flat(samples:)`` that of its part.
  func flat(_ numbers: [Double], samples count: Int) -> [Double] {
    zip(measured, numbers).flatMap { [Double](repeating: $1, count: min($0.count, count)) }
  }
}

extension ReferenceRuns {
  /// The errors of a program against the float network.
  /// - Parameters:
  ///   - places: of the samples among the kept ones.
  ///   - base: errors of another program on the same samples, whose parts are judged in the same way.
  func errors(
    of program: Program, at places: Range<Int>, like base: OutputErrors? = nil
  ) throws(QMError) -> OutputErrors {
    OutputErrors(try measure(program, at: places), like: base)
  }
}
