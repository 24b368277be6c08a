/// Magnitude pruning while training: the smallest weights of each matrix become 0 and stay 0. Their
/// code is 0, which an entropy coder stores in few bits.
///
/// The share of zeros rises from step t₀ over n updates, Δt steps apart, to the final share s:
///
///     sₜ = s − s · (1 − (t − t₀) / (n · Δt))³     for t in t₀, t₀ + Δt, …, t₀ + n · Δt
///
/// fast at first, when many weights are superfluous, and slower the fewer are left.
///
/// Source: Zhu and Gupta 2017, "To prune, or not to prune: exploring the efficacy of pruning for model
/// compression", equation 1, with the initial share 0.
package struct Pruning: Sendable {
  /// s, from 0 to below 1.
  package let finalShare: Float
  /// t₀, Δt and n.
  package let firstStep: Int
  package let interval: Int
  package let updateCount: Int

  /// For each slot, whether each number is pruned; empty for slots without weights.
  package var masks: [[Bool]]

  /// Prunes from the end of the warm-up to three quarters of a run, with time to recover after it.
  package init(_ slots: [Parameters.Slot], share: Float, steps: Int, warmUp: Int) {
    let updateCount = max(min(Pruning.mostUpdates, (steps * 3 / 4 - warmUp)), 1)
    self.init(
      slots, share: share, firstStep: warmUp,
      interval: max((steps * 3 / 4 - warmUp) / updateCount, 1), updateCount: updateCount)
  }

  package init(
    _ slots: [Parameters.Slot], share: Float, firstStep: Int, interval: Int, updateCount: Int
  ) {
    finalShare = share
    self.firstStep = firstStep
    self.interval = interval
    self.updateCount = updateCount
    masks = slots.map { slot in
      slot.kind == .weights ? [Bool](repeating: false, count: slot.count) : []
    }
  }

  private static let mostUpdates = 50

  /// sₜ: the share of zeros after a step, counted from 0.
  package func share(at step: Int) -> Float {
    guard step >= firstStep else { return 0 }
    let update = min((step - firstStep) / interval, updateCount)
    let left = 1 - Float(update) / Float(updateCount)
    return finalShare - finalShare * (left * left * left)
  }

  /// The step after which no more weights are pruned; states before it have fewer zeros than asked for.
  package var lastUpdate: Int { firstStep + updateCount * interval }

  /// Prunes the weights that are smallest now, if an update is due, and sets all pruned weights to 0.
  /// Called after each change of the weights and before they are rounded.
  package mutating func apply(to slots: [Parameters.Slot], step: Int) {
    let share = share(at: step)
    let isDue = step >= firstStep && (step - firstStep) % interval == 0
    for (place, slot) in slots.enumerated() where !masks[place].isEmpty {
      if isDue { prune(slot, place, count: Int((share * Float(slot.count)).rounded())) }
      for index in 0..<slot.count where masks[place][index] { slot.values[index] = 0 }
    }
  }

  /// Of equal weights, the first ones are pruned.
  private mutating func prune(_ slot: Parameters.Slot, _ place: Int, count: Int) {
    let pruned = masks[place].reduce(0) { $0 + ($1 ? 1 : 0) }
    guard count > pruned else { return }
    let left = (0..<slot.count).filter { !masks[place][$0] }
    let order = left.sorted {
      let (first, second) = (abs(slot.values[$0]), abs(slot.values[$1]))
      return first == second ? $0 < $1 : first < second
    }
    for index in order.prefix(count - pruned) { masks[place][index] = true }
  }

  /// Sets the gradients of pruned weights to 0, so that they count in no norm.
  package func clearGradients(of slots: [Parameters.Slot]) {
    for (place, slot) in slots.enumerated() where !masks[place].isEmpty {
      for index in 0..<slot.count where masks[place][index] { slot.gradients[index] = 0 }
    }
  }
}
