/// What the samples of a conversion are for. Each serves one purpose, so that nothing is judged on
/// what it was fitted to:
///
/// - *fit*: ranges, means and second moments;
/// - *choose*: candidates are compared;
/// - *judge*: the figures of the result.
///
/// A sample's role follows from the digest of its contents. The kept samples with the least digests
/// judge, those that follow choose, and all others fit. Of fewer than 12 samples the same choose and
/// judge; of fewer than 8 all do everything.
struct SampleRoles: Hashable, Sendable {
  /// Places among the kept samples.
  let judge: Range<Int>
  /// Places among the kept samples.
  let choose: Range<Int>
  /// Places among the kept samples of those that fit and can be run again.
  let fit: Range<Int>

  /// Maximum numbers of samples.
  private static let mostJudges = 12
  private static let mostChoosers = 6

  /// - Parameters:
  ///   - kept: number of kept samples, at least 1.
  ///   - count: number of all samples.
  init(kept: Int, of count: Int) {
    guard count >= 8 else {
      (judge, choose, fit) = (0..<kept, 0..<kept, 0..<kept)
      return
    }
    // Few are kept where they are large.
    let judges = max(1, min(SampleRoles.mostJudges, count < 12 ? count / 3 : count / 4, kept / 2))
    let choosers = min(SampleRoles.mostChoosers, count / 4, (kept - judges) / 2)
    judge = 0..<judges
    choose = count < 12 || choosers == 0 ? judge : judges..<judges + choosers
    let rest = max(judge.upperBound, choose.upperBound)..<kept
    fit = rest.isEmpty ? choose : rest
  }

  /// Whether the samples that judge were fitted to.
  var areAllOne: Bool { judge == fit }

  /// The first of ``choose``, for decisions that run many programs.
  var choosing: Range<Int> { choose.prefix(SampleRoles.mostChoosers) }

  /// Places among the kept samples of those that nothing is fitted to.
  var reserved: Range<Int> {
    areAllOne ? 0..<0 : 0..<max(judge.upperBound, choose.upperBound)
  }
}
