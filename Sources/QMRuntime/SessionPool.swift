import QMOperations
import QMTensor

/// Runs a ``Model`` for many tasks at the same time, on at most a fixed number of sessions, so that
/// memory and load stay bounded however many tasks there are.
///
/// ```swift
/// let pool = SessionPool(model, limit: 2)
/// let outputs = try await pool.run(["x": image])
/// ```
public final class SessionPool: Sendable {
  /// A task that waits for a session; nil is its answer when it is cancelled.
  private typealias Waiter = (number: Int, continuation: CheckedContinuation<Session?, Never>)

  private struct State {
    var idle: [Session]
    /// In the order in which they came.
    var waiters: [Waiter] = []
    var nextNumber = 0
  }

  /// The model that the sessions run.
  public let model: Model
  /// Number of runs at the same time.
  public let limit: Int
  private let state: Locked<State>

  /// - Parameters:
  ///   - model: what all runs run.
  ///   - limit: number of runs at the same time; at least 1. Each takes the memory of a session, and a
  ///     thread of Swift's concurrency while it lasts.
  public init(_ model: Model, limit: Int = 1) {
    self.model = model
    self.limit = max(1, limit)
    state = Locked(State(idle: (0..<max(1, limit)).map { _ in Session(model) }))
  }

  /// Runs the model once, when a session is free: tasks get one in the order in which they come. The
  /// run does not occupy the caller's actor. When the task is cancelled, it no longer waits, and its
  /// run ends within a few milliseconds.
  /// - Throws: as ``Model/run(_:)``; `cancelled` if the task is cancelled.
  public func run(_ inputs: [String: Tensor]) async throws(QMError) -> [String: Tensor] {
    guard let session = await takeSession() else { throw .cancelled() }
    defer { giveBack(session) }
    return try await session.runUnlessCancelled(inputs)
  }

  /// - Returns: nil if the task is cancelled.
  private func takeSession() async -> Session? {
    let number = state.withLock { state in
      state.nextNumber += 1
      return state.nextNumber
    }
    return await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        state.withLock { state in
          // The handler below runs after the task is marked, so that either this sees the mark or
          // the handler finds the waiter.
          if Task.isCancelled {
            continuation.resume(returning: nil)
          } else if let session = state.idle.popLast() {
            continuation.resume(returning: session)
          } else {
            state.waiters.append((number, continuation))
          }
        }
      }
    } onCancel: {
      state.withLock { state in
        guard let index = state.waiters.firstIndex(where: { $0.number == number }) else { return }
        state.waiters.remove(at: index).continuation.resume(returning: nil)
      }
    }
  }

  private func giveBack(_ session: Session) {
    state.withLock { state in
      if state.waiters.isEmpty {
        state.idle.append(session)
      } else {
        state.waiters.removeFirst().continuation.resume(returning: session)
      }
    }
  }
}

extension Session {
  /// A run that is cancelled when the task is, on a thread of Swift's concurrency.
  @concurrent
  fileprivate func runUnlessCancelled(
    _ inputs: [String: Tensor]
  ) async throws(QMError) -> [String: Tensor] {
    // Before the handler is there: it may be called at once, and ends only a run that has begun.
    try begin()
    defer { end() }
    return try await withTaskCancellationHandler {
      Result { () throws(QMError) in try outputs(for: inputs, .none) }
    } onCancel: {
      cancel()
    }.get()
  }
}
