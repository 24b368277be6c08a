/// Tells when training diverges: a moving average of the losses is ten times the first loss.
///
/// A single loss counts as at most 15 times the first one, so that one hard batch is no divergence,
/// however hard it is; three in a row are one.
package struct DivergenceWatch: Codable, Hashable, Sendable {
  private static let limit = 10.0
  private static let most = 15.0
  /// Weight of a step in the average.
  private static let share = 0.3

  /// Loss of the first step, or before it if that is larger.
  private var first: Double
  private var recent: Double
  private var hasBegun = false

  /// - Parameter lossBefore: the loss before the first step.
  package init(lossBefore: Double) { (first, recent) = (lossBefore, lossBefore) }

  /// Adds the loss of a step.
  /// - Parameter mayRise: whether a higher loss is what was asked for, as while weights are pruned.
  /// - Returns: whether training has diverged.
  package mutating func add(_ loss: Double, mayRise: Bool = false) -> Bool {
    guard loss.isFinite else { return true }
    if !hasBegun { (first, hasBegun) = (max(first, loss), true) }
    recent += Self.share * (min(loss, Self.most * first) - recent)
    if mayRise { first = max(first, recent) }
    return recent > Self.limit * first
  }

  /// Forgets the losses since the first, after a way back.
  package mutating func restart() { recent = first }
}
