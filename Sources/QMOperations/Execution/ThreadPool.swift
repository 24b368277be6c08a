import CQMThreads

/// The threads that share the work of a run. They spin while a run is in progress and sleep between
/// runs.
///
/// Results do not depend on the number of threads: a chunk is the same work on every thread.
/// Several callers may share a pool; while it is busy, another caller runs its chunks alone.
public final class ThreadPool: Sendable {
  /// Threads that share the work, including the caller's.
  public let threadCount: Int
  /// nil for one thread.
  private nonisolated(unsafe) let pool: OpaquePointer?
  /// The run of the pool's owner. Once it is cancelled, ``run(chunks:_:)`` skips the chunks that have
  /// not begun.
  package let runState = RunState()

  /// - Parameter threadCount: at least 1; more than 1024 counts as 1024.
  public init(threadCount: Int) {
    precondition(threadCount >= 1, "a pool has at least one thread")
    self.threadCount = min(threadCount, 1024)
    pool = self.threadCount > 1 ? qm_pool_create(Int32(self.threadCount)) : nil
  }

  deinit {
    if let pool { qm_pool_destroy(pool) }
  }

  /// Wakes the threads, so that every ``run(chunks:_:)`` before ``endRun()`` starts without delay.
  /// Calls nest.
  public func beginRun() {
    if let pool { qm_pool_begin(pool) }
  }

  /// Lets the threads sleep again.
  public func endRun() {
    if let pool { qm_pool_end(pool) }
  }

  /// Calls `body` once for every chunk in `0..<chunks`, in any order, on `threadCount` threads.
  ///
  /// `thread` is below `threadCount`. Chunks that run at the same time have different `thread`
  /// numbers, so the number may index the caller's scratch memory.
  ///
  /// In a cancelled run, this and every later loop skip the chunks that have not begun: code behind
  /// a loop must bear that what the chunks write is undefined.
  public func run(chunks: Int, _ body: (_ chunk: Int, _ thread: Int) -> Void) {
    guard let pool, chunks > 1 else {
      for chunk in 0..<max(chunks, 0) where !runState.isCancelled { body(chunk, 0) }
      return
    }
    typealias Body = (Int, Int) -> Void
    withoutActuallyEscaping(body) { (body) in
      let unlessCancelled: Body = { (chunk, thread) in
        if !self.runState.isCancelled { body(chunk, thread) }
      }
      withUnsafePointer(to: unlessCancelled) { (pointer: UnsafePointer<Body>) in
        qm_pool_run(
          pool, UInt32(chunks),
          { (context, chunk, thread) in
            context!.assumingMemoryBound(to: Body.self).pointee(Int(chunk), Int(thread))
          }, UnsafeMutableRawPointer(mutating: pointer))
      }
    }
  }
}
