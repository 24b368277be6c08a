/// The threads of a run.
public final class ThreadPool: Sendable {
  public let threadCount: Int
  public init(threadCount: Int) { self.threadCount = threadCount }
}
