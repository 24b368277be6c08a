import QMGraph
import QMOperations
import QMRuntime
import QMTensor

/// Runs a float graph over samples and collects statistics. Memory does not grow with the number of
/// samples.
struct Calibrator {
  private let graph: Graph
  private let numbers: [Graph.ValueID: Int]
  private let samples: any SampleSource
  private let runs: SampleRuns
  private let kernels: KernelSet
  private let memoryBudget: Int

  /// - Parameters:
  ///   - runs: runs of the graph's program.
  ///   - numbers: number of each of the graph's values in that program.
  ///   - memoryBudget: bytes that second moments may take at a time; if they need more, the samples
  ///     are run several times.
  init(
    _ graph: Graph, numbers: [Graph.ValueID: Int], over samples: any SampleSource,
    _ runs: SampleRuns, kernels: KernelSet, memoryBudget: Int
  ) {
    self.graph = graph
    self.numbers = numbers
    self.samples = samples
    self.runs = runs
    self.kernels = kernels
    self.memoryBudget = memoryBudget
  }

  /// The statistics over all samples.
  /// - Parameters:
  ///   - take: receives the second moments, one place at a time in ascending order. They are not
  ///     part of the result, because those of all places may not fit into memory together.
  ///   - progress: called with the number of finished runs.
  func statistics(
    of observations: Set<Observation>,
    take: (_ place: OperandPlace, _ moments: SecondMoments) throws(QMError) -> Void,
    progress: (_ done: Int, _ total: Int) -> Void
  ) throws(QMError) -> Statistics {
    guard !observations.isEmpty else { return Statistics() }
    let moments = observations.filter { $0.kind == .secondMoments }.map(\.place).sorted()
    let rounds = Calibrator.rounds(moments.compactMap(accumulator), within: memoryBudget)
    var statistics = Statistics()
    for (number, round) in rounds.enumerated() {
      let others = observations.filter { number == 0 && $0.kind != .secondMoments }
      let run = try Run(graph, others, round, numbers, runs.workerCount, kernels)
      try runs.forEach(
        samples.count,
        run: { (index, session, worker) throws(QMError) in
          try within(.sample(samples.name(of: index))) { () throws(QMError) in
            try session.run(
              samples.inputs(of: index),
              observing: { (value, view) throws(QMError) in
                try run.add(view, ofValue: value, worker)
              })
          }
        },
        take: { (index, _) in
          progress(number * samples.count + index + 1, rounds.count * samples.count)
        })
      for part in run.parts { statistics.merge(part.statistics) }
      for accumulator in round {
        if let moments = accumulator.finish() { try take(accumulator.place, moments) }
      }
    }
    return statistics
  }

  // MARK: Rounds

  /// The second moments of one place during the runs. The sums are integers, so their result does
  /// not depend on the order in which threads add.
  final class Accumulator: Sendable {
    let place: OperandPlace
    let windows: InputWindows
    /// nil until the round begins.
    let sums: Locked<SecondMoments?>
    let byteCount: Int

    init(_ place: OperandPlace, _ windows: InputWindows) {
      self.place = place
      self.windows = windows
      byteCount = SecondMoments.byteCount(groupCount: windows.groupCount, length: windows.length)
      sums = Locked(nil)
    }

    /// Allocates the sums.
    /// - Throws: `outOfMemory`.
    func begin() throws(QMError) {
      let zeros = try SecondMoments(groupCount: windows.groupCount, length: windows.length)
      sums.withLock { $0 = zeros }
    }

    /// The sums; frees this copy.
    func finish() -> SecondMoments? {
      sums.withLock { sums in
        defer { sums = nil }
        return sums
      }
    }

    func add(
      _ source: InputWindows.Source, _ view: ValueView, kernels: KernelSet
    ) throws(QMError) {
      let clippedCount = try SecondMoments.forEachPart(
        of: view.elements(as: Float.self), view.shape, windows, source, kernels: kernels
      ) { part in sums.withLock { $0?.add(part) } }
      sums.withLock { $0?.clippedCount += clippedCount }
    }
  }

  private func accumulator(of place: OperandPlace) -> Accumulator? {
    graph.inputWindows(ofWeightsAt: place).map { Accumulator(place, $0) }
  }

  /// Splits the accumulators, in their order, into rounds that fit the budget; each round has at
  /// least one.
  static func rounds(_ accumulators: [Accumulator], within budget: Int) -> [[Accumulator]] {
    var rounds: [[Accumulator]] = [[]]
    var byteCount = 0
    for accumulator in accumulators {
      if byteCount > 0, byteCount + accumulator.byteCount > budget {
        rounds.append([])
        byteCount = 0
      }
      rounds[rounds.count - 1].append(accumulator)
      byteCount += accumulator.byteCount
    }
    return rounds
  }

  // MARK: One run over the samples

  private final class Run: @unchecked Sendable {
    /// Statistics of the samples that one thread ran. The merged result does not depend on which
    /// thread ran a sample.
    final class Part {
      var statistics = Statistics()
    }

    let parts: [Part]
    private let kernels: KernelSet
    /// Observations, by number of the value in the program.
    private var observed: [Int: [Observation]] = [:]
    /// What second moments read of a value, by its number in the program.
    private var accumulators: [Int: [(accumulator: Accumulator, source: InputWindows.Source)]] = [:]

    init(
      _ graph: Graph, _ observations: Set<Observation>, _ round: [Accumulator],
      _ numbers: [Graph.ValueID: Int], _ workerCount: Int, _ kernels: KernelSet
    ) throws(QMError) {
      parts = (0..<workerCount).map { _ in Part() }
      self.kernels = kernels
      for observation in observations {
        guard let number = graph.value(at: observation.place).flatMap({ numbers[$0] }) else {
          continue
        }
        observed[number, default: []].append(observation)
      }
      for accumulator in round {
        try accumulator.begin()
        for source in accumulator.windows.sources {
          guard
            let number = graph.value(of: source, at: accumulator.place.node)
              .flatMap({ numbers[$0] })
          else { continue }
          accumulators[number, default: []].append((accumulator, source))
        }
      }
    }

    func add(_ view: ValueView, ofValue number: Int, _ worker: Int) throws(QMError) {
      guard view.elementType == .float32 else { return }
      if let observations = observed[number] {
        let elements = view.elements(as: Float.self)
        for observation in observations {
          let place = observation.place
          switch observation.kind {
          case .range, .histogram:
            let withHistogram = observation.kind == .histogram
            parts[worker].statistics.values[
              place, default: ValueStatistics(withHistogram: withHistogram)
            ].add(elements)
          case .means:
            parts[worker].statistics.means[
              place, default: ChannelMeans(channelCount: view.shape.last ?? 1)
            ].add(elements)
          case .secondMoments: break
          }
        }
      }
      for (accumulator, source) in accumulators[number] ?? [] {
        try accumulator.add(source, view, kernels: kernels)
      }
    }
  }
}
