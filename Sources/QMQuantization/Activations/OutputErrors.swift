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
  /// `[part][sample]`. The parts are in the order of the outputs' names.
  let errors: [[Double]]
  /// Whether each part is the log odds of probabilities.
  let areLogOdds: [Bool]

  /// Error of a part that is wrong altogether, such as NaN.
  static let largest = 1e6

  init(_ comparisons: [String: OutputComparison]) {
    var errors: [[Double]] = []
    var areLogOdds: [Bool] = []
    for (_, comparison) in comparisons.sorted(by: { $0.key < $1.key }) where !comparison.isState {
      let parts = comparison.parts.filter { $0.comparison.sampleCount > 0 }
      errors += (parts.isEmpty ? [comparison.whole] : parts.map(\.comparison))
        .map(\.normalizedErrors)
      areLogOdds += parts.isEmpty ? [false] : parts.map { $0.part.form != .elements }
    }
    self.areLogOdds = areLogOdds
    self.errors = errors.map { $0.map { $0 < OutputErrors.largest ? $0 : OutputErrors.largest } }
  }

  /// The median over the samples of each part; the higher one of two in the middle.
  var medians: [Double] { errors.map { $0.sorted()[$0.count / 2] } }

  /// The largest error of a sample in any part.
  var worst: Double { errors.joined().max() ?? 0 }

  /// Mean over parts and samples of the logarithm of the error; less is better. Errors far below
  /// 50 dB count alike.
  var meanLogarithm: Double {
    let all = errors.joined().map { naturalLogarithm($0 + 1e-6) }
    return all.isEmpty ? 0 : all.reduce(0, +) / Double(all.count)
  }

  /// The errors of the first samples, part by part.
  func flat(samples count: Int) -> [Double] { errors.flatMap { $0.prefix(count) } }
}

extension ReferenceRuns {
  /// The errors of programs against the float network.
  /// - Parameter places: of the samples among the kept ones.
  func errors(of programs: [Program], at places: Range<Int>) throws(QMError) -> [OutputErrors] {
    var candidates = programs.map { Candidate(program: $0) }
    try measure(&candidates, at: places, progress: { _ in })
    return candidates.map { OutputErrors($0.comparisons) }
  }
}
