import QMFormat
import QMGraph
import QMOperations
import QMReport
import QMRuntime
import QMTensor

/// Runs of the float network for a conversion: statistics over all samples, and comparisons with
/// candidate programs over the kept samples.
package final class ReferenceRuns {
  /// Whole samples that can be run again.
  package let kept: KeptSamples
  /// What each kept sample is for.
  let roles: SampleRoles
  /// Number of all samples.
  let sampleCount: Int
  /// Whether the conversion made the samples itself. Ranges of activations are not fixed on them.
  let areMade: Bool
  private let flattened: FlattenedGraph
  private let runs: SampleRuns
  private let calibrator: Calibrator
  /// Statistics of samples that were seen before.
  private let observations: Observations?
  /// The parts of outputs that are judged by themselves.
  let judgedParts: JudgedParts
  private let judgedRun: JudgedRun
  private let known = ReferenceResults()
  private let knownComparisons = KnownComparisons()

  /// Statistics come from runs over the samples.
  /// - Parameters:
  ///   - samples: at least one.
  ///   - areMade: whether the conversion made the samples itself.
  package convenience init(
    _ graph: Graph, over samples: any SampleSource, areMade: Bool = false, options: Model.Options,
    memoryBudget: Int
  ) throws(QMError) {
    let threads = ThreadPool(threadCount: options.threadCount)
    let kept = try KeptSamples(of: samples, threads: threads)
    let roles = SampleRoles(kept: kept.count, of: samples.count)
    let reserved = Set(kept.samples[roles.reserved].compactMap(\.index))
    let fitting = SampleSubset(
      of: samples, (0..<samples.count).filter { !reserved.contains($0) })
    try self.init(
      graph, kept, sampleCount: samples.count, areMade: areMade, over: fitting, nil, options,
      memoryBudget)
  }

  /// Statistics come from files, and from runs over those of their kept samples that are not reserved
  /// for choices and the final figures.
  convenience init(
    _ graph: Graph, _ observations: Observations, options: Model.Options, memoryBudget: Int
  ) throws(QMError) {
    let kept = observations.kept
    let roles = SampleRoles(kept: kept.count, of: observations.sampleCount)
    let fitting = LoadedSamples(
      observations.keptSamples(without: kept.samples(at: roles.reserved)))
    try self.init(
      graph, kept, sampleCount: observations.sampleCount, over: fitting, observations, options,
      memoryBudget)
  }

  /// Statistics of all samples but the kept ones, for a file of statistics.
  convenience init(
    _ graph: Graph, withoutKeptOf samples: any SampleSource, options: Model.Options,
    memoryBudget: Int
  ) throws(QMError) {
    let threads = ThreadPool(threadCount: options.threadCount)
    let kept = try KeptSamples(of: samples, threads: threads)
    let indices = Set(kept.samples.compactMap(\.index))
    let others = SampleSubset(of: samples, (0..<samples.count).filter { !indices.contains($0) })
    try self.init(
      graph, kept, sampleCount: samples.count, over: others, nil, options, memoryBudget)
  }

  private init(
    _ graph: Graph, _ kept: KeptSamples, sampleCount: Int, areMade: Bool = false,
    over fitting: any SampleSource, _ observations: Observations?, _ options: Model.Options,
    _ memoryBudget: Int
  ) throws(QMError) {
    self.kept = kept
    self.sampleCount = sampleCount
    self.areMade = areMade
    self.observations = observations
    roles = SampleRoles(kept: kept.count, of: sampleCount)
    flattened = graph.flattened()
    runs = try SampleRuns(flattened.program, over: kept, options: options)
    // Of the samples that choose, so that no figure of the judging ones goes into the parts.
    judgedParts = try JudgedParts(
      of: flattened.program, runs.model,
      on: kept.samples[roles.choose].prefix(2).map(\.inputs))
    judgedRun = JudgedRun(flattened.program, judgedParts)
    calibrator = Calibrator(
      graph, numbers: flattened.numbers, over: fitting, runs, kernels: options.kernels,
      memoryBudget: memoryBudget)
  }

  /// The statistics over the samples that fit.
  /// - Parameter take: receives the second moments, one place at a time in ascending order.
  package func statistics(
    of observations: Set<Observation>,
    take: (_ place: OperandPlace, _ moments: SecondMoments) throws(QMError) -> Void = { _, _ in },
    progress: (Conversion.Phase) -> Void = { _ in }
  ) throws(QMError) -> Statistics {
    var statistics = self.observations?.statistics(of: observations) ?? Statistics()
    statistics.merge(
      try calibrator.statistics(
        of: observations,
        take: { (place, live) throws(QMError) in
          var moments = live
          if let stored = try self.observations?.secondMoments(of: place) {
            moments.merge(stored)
          }
          try take(place, moments)
        },
        progress: { progress(.calibrating(done: $0, of: $1)) }))
    return statistics
  }

  /// The shapes of the graph's values in the run of one sample.
  func shapes() throws(QMError) -> [Graph.ValueID: [Int]] {
    let place = roles.choose.lowerBound
    var shapes: [Int: [Int]] = [:]
    try within(.sample(kept.name(of: place))) { () throws(QMError) in
      _ = try Session(runs.model).run(
        kept.inputs(of: place),
        observing: { (number, view) throws(QMError) in shapes[number] = view.shape })
    }
    return flattened.numbers.compactMapValues { shapes[$0] }
  }

  // MARK: Over the kept samples

  /// Channel means of values over the kept samples: of the float values, and of the same values
  /// quantized and dequantized.
  package func means(
    of values: [Graph.ValueID: QuantizationParameters]
  ) throws(QMError) -> [Graph.ValueID: (exact: ChannelMeans, rounded: ChannelMeans)] {
    var wanted: [Int: (value: Graph.ValueID, rounding: FakeQuantize)] = [:]
    for (value, parameters) in values {
      if let number = flattened.numbers[value] { wanted[number] = (value, .init(parameters)) }
    }
    /// The means of the samples that one thread ran.
    final class Part {
      var means: [Graph.ValueID: (exact: ChannelMeans, rounded: ChannelMeans)] = [:]
    }
    let parts = (0..<runs.workerCount).map { _ in Part() }
    try runs.forEach(
      roles.fit.count,
      run: { [wanted] (step, session, worker) throws(QMError) in
        let index = roles.fit.lowerBound + step
        return try within(.sample(kept.name(of: index))) { () throws(QMError) in
          try session.run(
            kept.inputs(of: index),
            observing: { (number, view) throws(QMError) in
              guard let (value, rounding) = wanted[number], view.elementType == .float32 else {
                return
              }
              let none = ChannelMeans(channelCount: view.shape.last ?? 1)
              let elements = view.elements(as: Float.self)
              parts[worker].means[value, default: (none, none)].exact.add(elements)
              parts[worker].means[value, default: (none, none)].rounded
                .add(elements, rounding: rounding)
            })
        }
      }, take: { (_, _) in })
    var means = parts[0].means
    for part in parts.dropFirst() {
      for (value, theirs) in part.means {
        means[value]?.exact.merge(theirs.exact)
        means[value]?.rounded.merge(theirs.rounded)
        if means[value] == nil { means[value] = theirs }
      }
    }
    return means
  }

  /// Compares a program with the float network on kept samples, by output name. Steps of a conversion
  /// measure the same program more than once: what is known is not run again.
  /// - Parameter places: of the samples among the kept ones.
  func measure(
    _ program: Program, at places: Range<Int>, progress: (Conversion.Phase) -> Void = { _ in }
  ) throws(QMError) -> [String: OutputComparison] {
    if let known = knownComparisons.comparisons(of: program, at: places) { return known }
    let sessions = try runs.sessions(of: program)
    let judgedRun = JudgedRun(program, judgedParts)
    var comparisons: [String: OutputComparison] = [:]
    try runs.forEach(
      places.count,
      run: { (step, session, worker) throws(QMError) in
        let place = places.lowerBound + step
        return try within(.sample(kept.name(of: place))) { () throws(QMError) in
          let expected = try outputs(place, session)
          let (session, inputs) = (sessions[worker], kept.inputs(of: place))
          let found = try judgedRun(session, inputs)
          let next = judgedRun.nextStep(session, inputs, reference: expected, measured: found)
          return (expected: expected, found: found, next: next)
        }
      },
      take: { (step, result) throws(QMError) in
        let place = places.lowerBound + step
        try within(.sample(kept.name(of: place))) { () throws(QMError) in
          for name in result.expected.outputs.keys {
            try comparisons[name, default: judgedParts.comparison(of: name)].add(
              name, reference: result.expected, measured: result.found, next: result.next)
          }
        }
        progress(.measuring(done: step + 1, of: places.count))
      })
    knownComparisons.keep(comparisons, of: program, at: places)
    return comparisons
  }

  /// Compares programs with one program, each on the same kept samples. Each exists only while a
  /// thread runs it.
  /// - Parameters:
  ///   - count: number of the programs.
  ///   - base: the program that they are compared with.
  ///   - places: of the samples among the kept ones.
  ///   - program: makes a program; called on any thread.
  func compare(
    _ count: Int, over base: Program, at places: Range<Int>,
    program: (Int) throws(QMError) -> Program, progress: (Conversion.Phase) -> Void
  ) throws(QMError) -> [[String: OutputComparison]] {
    let sessions = try runs.sessions(of: base)
    let baseRun = JudgedRun(base, judgedParts)
    var expected: [JudgedRun.Results] = []
    try runs.forEach(
      places.count,
      run: { (step, _, worker) throws(QMError) in
        try baseRun(sessions[worker], kept.inputs(of: places.lowerBound + step))
      }, take: { expected.append($1) })
    var comparisons: [[String: OutputComparison]] = []
    try runs.forEach(
      count,
      run: { [expected] (index, _, _) throws(QMError) in
        let program = try program(index)
        let run = JudgedRun(program, judgedParts)
        let session = try runs.session(of: program)
        var comparisons: [String: OutputComparison] = [:]
        for (place, expected) in zip(places, expected) {
          let inputs = kept.inputs(of: place)
          let found = try run(session, inputs)
          let next = run.nextStep(session, inputs, reference: expected, measured: found)
          for name in expected.outputs.keys {
            try comparisons[name, default: judgedParts.comparison(of: name)]
              .add(name, reference: expected, measured: found, next: next)
          }
        }
        return comparisons
      },
      take: { (index, result) in
        comparisons.append(result)
        progress(.testing(done: index + 1, of: count))
      })
    return comparisons
  }

  /// What the float network gives for a kept sample.
  func outputs(_ place: Int, _ session: Session) throws(QMError) -> JudgedRun.Results {
    if let known = known[place] { return known }
    let results = try judgedRun(session, kept.inputs(of: place))
    known.keep(results, of: place)
    return results
  }
}

/// Results of the float network for kept samples, stored while they fit into ``byteLimit``.
private final class ReferenceResults: Sendable {
  /// Bytes that all stored results may take together.
  private static let byteLimit = 20 << 20

  private struct Known {
    var results: [Int: JudgedRun.Results] = [:]
    var byteCount = 0
  }

  private let known = Locked(Known())

  /// The results for a kept sample, if they are stored.
  subscript(place: Int) -> JudgedRun.Results? { known.withLock { $0.results[place] } }

  func keep(_ results: JudgedRun.Results, of place: Int) {
    let byteCount = results.byteCount
    known.withLock { known in
      guard known.results[place] == nil,
        known.byteCount + byteCount <= ReferenceResults.byteLimit
      else { return }
      known.results[place] = results
      known.byteCount += byteCount
    }
  }
}

/// Comparisons of the programs that were measured last.
private final class KnownComparisons: Sendable {
  private struct Known {
    let program: Program
    let places: Range<Int>
    let comparisons: [String: OutputComparison]
  }

  /// Programs that are kept, and bytes that their codes may take together. Constants in float32 are
  /// those of the network.
  private static let (most, codeByteLimit) = (4, 64 << 20)

  private let known = Locked<[Known]>([])

  func comparisons(of program: Program, at places: Range<Int>) -> [String: OutputComparison]? {
    let program = KnownComparisons.key(program)
    return known.withLock { known in
      known.last { $0.places == places && $0.program == program }?.comparisons
    }
  }

  func keep(
    _ comparisons: [String: OutputComparison], of program: Program, at places: Range<Int>
  ) {
    let program = KnownComparisons.key(program)
    known.withLock { known in
      known.append(Known(program: program, places: places, comparisons: comparisons))
      while known.count > KnownComparisons.most
        || known.reduce(0, { $0 + KnownComparisons.codeByteCount($1.program) })
          > KnownComparisons.codeByteLimit
      {
        known.removeFirst()
      }
    }
  }

  private static func codeByteCount(_ program: Program) -> Int {
    program.constants.reduce(0) {
      $0 + ($1.quantization == Quantization.none ? 0 : $1.tensor.byteCount)
    }
  }

  /// The program without what changes no result. Inner values are judged by their names.
  private static func key(_ program: Program) -> Program {
    var program = program
    program.metadata = Program.Metadata()
    return program
  }
}
