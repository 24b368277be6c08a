import QMFormat
import QMOperations
import QMRuntime
import QMTensor

/// Runs a program on samples, several samples at a time.
///
/// A run is the same work on whichever thread it falls, and what comes of the runs is taken in
/// their order: no result depends on the number of threads.
final class SampleRuns {
  /// What the values of all runs at a time may take together, in bytes, where one run takes less.
  private static let valueByteLimit = 512 << 20

  private let options: Model.Options
  /// One per thread of ``workers``.
  private let sessions: [Session]
  private let workers: ThreadPool

  var workerCount: Int { sessions.count }

  /// - Parameters:
  ///   - samples: of which the first is loaded, to see how much memory a run takes.
  ///   - options: the number of threads is that of all runs together.
  /// - Throws: what preparing the program or loading the first sample throws.
  init(
    _ program: Program, over samples: any SampleSource, options: Model.Options
  ) throws(QMError) {
    var options = options
    let threadCount = options.threadCount
    let mostWorkers = max(1, min(threadCount, samples.count))
    options.threadCount = threadCount / mostWorkers
    var model = try Model(program, options: options)
    let first = Session(model)
    var workerCount = mostWorkers
    if mostWorkers > 1 {
      let extents = try within(.sample(samples.name(of: 0))) { () throws(QMError) in
        let inputs = try samples.inputs(of: 0)
        return model.inputs.compactMap { inputs[$0.name]?.shape }
      }
      // What does not fit fails where the sample is run, with the sample's name.
      try? first.prepare(extents)
      let fitting = SampleRuns.valueByteLimit / max(first.arenaByteCount, 1)
      workerCount = max(1, min(mostWorkers, fitting))
    }
    workers = ThreadPool(threadCount: workerCount)
    if threadCount / workerCount > options.threadCount {
      options.threadCount = threadCount / workerCount
      model = try Model(program, options: options)
      sessions = (0..<workerCount).map { _ in Session(model) }
    } else {
      sessions = [first] + (1..<workerCount).map { _ in Session(model) }
    }
    self.options = options
  }

  /// As many sessions of another program, for runs beside those of this one.
  func sessions(of program: Program) throws(QMError) -> [Session] {
    let model = try Model(program, options: options)
    return sessions.map { _ in Session(model) }
  }

  /// Calls `run` for each of `0..<count` on any thread, begun in their order, then `take` with what
  /// it gave, in their order too and never twice at a time. What waits to be taken is what came
  /// while one run lasted.
  /// - Parameters:
  ///   - run: gets a session that no other thread uses meanwhile, and the number of that thread,
  ///     below ``workerCount``.
  /// - Throws: the error of the least index for which `run` or `take` throws.
  func forEach<Result>(
    _ count: Int,
    run: (_ index: Int, _ session: Session, _ worker: Int) throws(QMError) -> Result,
    take: (_ index: Int, _ result: Result) throws(QMError) -> Void
  ) throws(QMError) {
    let results = Locked(OrderedResults<Result>())
    // Not the number of the chunk: a pool hands them out from either end.
    workers.run(chunks: count) { (_, worker) in
      guard let index = results.withLock({ $0.begin() }) else { return }
      let result = Swift.Result { () throws(QMError) in
        try run(index, sessions[worker], worker)
      }
      results.withLock { $0.add(result, index, take: take) }
    }
    if let failure = results.withLock({ $0.failure }) { throw failure }
  }
}

/// Results that come in any order and go in that of their indices.
private struct OrderedResults<Result> {
  private var begun = 0
  private var waiting: [Int: Result] = [:]
  private var next = 0
  private var failedIndex = Int.max
  private(set) var failure: QMError?

  init() {}

  /// The next index to work on; nil once one has failed: those before it are under way or done.
  mutating func begin() -> Int? {
    guard failure == nil else { return nil }
    defer { begun += 1 }
    return begun
  }

  mutating func add(
    _ result: Swift.Result<Result, QMError>, _ index: Int,
    take: (_ index: Int, _ result: Result) throws(QMError) -> Void
  ) {
    do throws(QMError) {
      waiting[index] = try result.get()
    } catch { fail(error, index) }
    while next < failedIndex, let result = waiting.removeValue(forKey: next) {
      do throws(QMError) { try take(next, result) } catch { fail(error, next) }
      next += 1
    }
  }

  private mutating func fail(_ error: QMError, _ index: Int) {
    guard index < failedIndex else { return }
    (failedIndex, failure) = (index, error)
  }
}
