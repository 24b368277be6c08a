import CQMThreads
import QMTensor

/// Runs `body` with float arithmetic as the definitions ask for it on the calling thread: rounding
/// to nearest, subnormal numbers kept, no exceptions that trap. What the thread had is restored
/// afterwards; hosts that process audio set other modes for good.
///
/// The workers of a ``ThreadPool`` set it when they start.
public func withStandardFloatEnvironment<R>(_ body: () throws(QMError) -> R) throws(QMError) -> R {
  let saved = qm_float_environment_enter()
  defer { qm_float_environment_leave(saved) }
  return try body()
}
