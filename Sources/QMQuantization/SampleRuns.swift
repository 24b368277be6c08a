import QMFormat
import QMOperations
import QMRuntime
import QMTensor

/// Runs a program on samples, several samples at a time.
///
/// The result of a run does not depend on its thread, and results are passed on in the order of the
/// samples. So nothing depends on the number of threads.
final class SampleRuns {
  /// Bytes that the values of all concurrent runs may take together; a single run may take more.
  private static let valueByteLimit = 512 << 20

  private let options: Model.Options
  /// One per thread of ``workers``.
  private let sessions: [Session]
  private let workers: ThreadPool

  var workerCount: Int { sessions.count }

  /// The program, ready to run.
  var model: Model { sessions[0].model }

  /// - Parameters:
  ///   - samples: the first one is loaded to find how much memory a run takes.
  ///   - options: its number of threads is divided among the concurrent runs.
  /// - Throws: errors of preparing the program and of loading the first sample.
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
      let shapes = try within(.sample(samples.name(of: 0))) { () throws(QMError) in
        let inputs = try samples.inputs(of: 0)
        return model.inputs.compactMap { inputs[$0.name]?.shape }
      }
      // Shapes that do not fit are an error of the run itself, which names the sample.
      try? first.prepare(shapes)
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

  /// A session of another program, for one worker.
  func session(of program: Program) throws(QMError) -> Session {
    Session(try Model(program, options: options))
  }

  /// Sessions of another program, one per worker, for runs on the same samples.
  func sessions(of program: Program) throws(QMError) -> [Session] {
    let model = try Model(program, options: options)
    return sessions.map { _ in Session(model) }
  }

  /// Starts `run` for `0..<count` in index order, on any thread; calls `take` with the results
  /// serially, in index order. At most one run's worth of finished results waits.
  /// - Parameters:
  ///   - run: receives a session that no other thread uses at the same time, and the number of the
  ///     thread, below ``workerCount``.
  ///   - take: receives the result of a run.
  /// - Throws: the error of the least index for which `run` or `take` throws.
  func forEach<Result>(
    _ count: Int,
    run: (_ index: Int, _ session: Session, _ worker: Int) throws(QMError) -> Result,
    take: (_ index: Int, _ result: Result) throws(QMError) -> Void
  ) throws(QMError) {
    let results = Locked(OrderedResults<Result>())
    // The index is not the chunk's number, because a pool hands out chunks from both ends.
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

/// Passes on results, which arrive in any order, in the order of their indices.
private struct OrderedResults<Result> {
  private var begun = 0
  private var waiting: [Int: Result] = [:]
  private var next = 0
  private var failedIndex = Int.max
  private(set) var failure: QMError?

  init() {}

  /// The next index to run; nil after a failure, because all smaller indices have been started.
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
