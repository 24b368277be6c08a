import Foundation
import QMRuntime
import QMTensor

/// Cancels runs that take long: a program may hold a loop of as many iterations as it likes, which is
/// no hang as long as a caller can end it. One that does not end then is libFuzzer's to report.
final class Watch: Sendable {
  static let shared = Watch()

  private nonisolated(unsafe) var watched: (session: Session, since: Date)?
  private let lock = NSLock()

  private init() {
    Thread.detachNewThread { [self] in
      while true {
        Thread.sleep(forTimeInterval: 0.25)
        lock.withLock {
          guard let watched, watched.since.timeIntervalSinceNow < -1 else { return }
          watched.session.cancel()
        }
      }
    }
  }

  /// Calls `body`, and cancels every run of the session from a second later on.
  func limiting<R>(
    _ session: Session, _ body: () throws(QMError) -> R
  ) throws(QMError) -> R {
    lock.withLock { watched = (session, Date()) }
    defer { lock.withLock { watched = nil } }
    return try body()
  }
}
