import Synchronization

/// Whether a run is in progress, and whether it is to end early.
///
/// One word holds both, so that a request to end never outlasts the run in whose time it came.
package struct RunState: ~Copyable, Sendable {
  private enum Phase: UInt8, AtomicRepresentable { case idle, running, cancelled }

  private let phase = Atomic(Phase.idle)

  package init() {}

  /// Begins a run.
  /// - Returns: false if another one is in progress.
  package func begin() -> Bool {
    phase.compareExchange(
      expected: .idle, desired: .running, successOrdering: .acquiring, failureOrdering: .relaxed
    ).exchanged
  }

  /// Ends the run.
  package func end() { phase.store(.idle, ordering: .releasing) }

  /// Asks the run in progress to end early; without one, does nothing. From any thread.
  package func cancel() {
    _ = phase.compareExchange(expected: .running, desired: .cancelled, ordering: .relaxed)
  }

  /// Whether the run in progress is to end early. Once a thread has seen it, so does every thread
  /// that the same run synchronizes with afterwards.
  package var isCancelled: Bool { phase.load(ordering: .relaxed) == .cancelled }
}
