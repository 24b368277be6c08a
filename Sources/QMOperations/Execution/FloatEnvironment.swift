import CQMThreads
import QMTensor

/// Runs `body` on the calling thread with the float arithmetic that the definitions require:
/// rounding to nearest, subnormal numbers kept, no trapping exceptions. The thread's own settings
/// are restored afterwards; audio hosts, for example, flush subnormal numbers to zero.
///
/// The workers of a ``ThreadPool`` apply the same settings when they start.
/// - Throws: what `body` throws.
public func withStandardFloatEnvironment<R>(_ body: () throws(QMError) -> R) throws(QMError) -> R {
  let saved = qm_float_environment_enter()
  defer { qm_float_environment_leave(saved) }
  return try body()
}
