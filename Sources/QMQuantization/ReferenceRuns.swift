import QMFormat
import QMGraph
import QMOperations
import QMRuntime
import QMTensor

/// The float network on samples, for all that a conversion asks of it: what was seen over all of them,
/// and runs beside candidates over the kept ones.
package final class ReferenceRuns {
  package let kept: KeptSamples
  let sampleCount: Int
  private let flattened: FlattenedGraph
  private let runs: SampleRuns
  private let source: any StatisticsSource
  private let outputs: ReferenceOutputs

  /// Statistics come from runs over the samples.
  /// - Parameter samples: at least one.
  package init(
    _ graph: Graph, over samples: any SampleSource, options: Model.Options, memoryBudget: Int
  ) throws(QMError) {
    flattened = graph.flattened()
    let threads = ThreadPool(threadCount: options.threadCount)
    kept = try KeptSamples(of: samples, threads: threads)
    sampleCount = samples.count
    runs = try SampleRuns(flattened.program, over: samples, options: options)
    let outputs = ReferenceOutputs(of: kept)
    self.outputs = outputs
    source = Calibrator(
      graph, numbers: flattened.numbers, over: samples, runs, kernels: options.kernels,
      memoryBudget: memoryBudget, keep: { outputs.keep($0, $1) })
  }

  /// Statistics come from files.
  init(
    _ graph: Graph, _ observations: Observations, options: Model.Options
  ) throws(QMError) {
    flattened = graph.flattened()
    kept = observations.kept
    sampleCount = observations.sampleCount
    runs = try SampleRuns(flattened.program, over: kept, options: options)
    outputs = ReferenceOutputs(of: kept)
    source = observations
  }

  package func statistics(
    of observations: Set<Observation>,
    take: (_ place: OperandPlace, _ moments: SecondMoments) throws(QMError) -> Void = { _, _ in },
    progress: (Conversion.Phase) -> Void = { _ in }
  ) throws(QMError) -> Statistics {
    try source.statistics(of: observations, take: take) { (done, total) in
      progress(.calibrating(done: done, of: total))
    }
  }

  func sensitivity(_ state: ConversionState) throws(QMError) -> SensitivityAnalysis {
    try SensitivityAnalysis(
      state, numbers: flattened.numbers, runs, over: kept, outputs: outputs)
  }

  // MARK: Over the kept samples

  /// Means of values over the kept samples, as they are and as their codes stand for them.
  package func means(
    of values: [Graph.ValueID: QuantizationParameters]
  ) throws(QMError) -> [Graph.ValueID: (exact: ChannelMeans, rounded: ChannelMeans)] {
    var wanted: [Int: (value: Graph.ValueID, rounding: FakeQuantize)] = [:]
    for (value, parameters) in values {
      if let number = flattened.numbers[value] { wanted[number] = (value, .init(parameters)) }
    }
    /// What one thread sees.
    final class Part {
      var means: [Graph.ValueID: (exact: ChannelMeans, rounded: ChannelMeans)] = [:]
    }
    let parts = (0..<runs.workerCount).map { _ in Part() }
    try runs.forEach(
      kept.count,
      run: { [wanted] (index, session, worker) throws(QMError) in
        try within(.sample(kept.name(of: index))) { () throws(QMError) in
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
      }, take: { (index, outputs) in self.outputs.keep(outputs, ofKept: index) })
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

  /// A program that may go into the file, and how far it is from the float network by output name.
  struct Candidate {
    var program: Program
    var comparisons: [String: Comparison] = [:]

    init(program: Program) { self.program = program }

    /// In dB, of the worst output.
    var worstSignalToNoise: Double { comparisons.values.map(\.signalToNoise).min() ?? 0 }
  }

  /// Runs programs on the same kept samples, side by side.
  /// - Parameter count: of the samples, at most.
  func measure(
    _ candidates: inout [Candidate], onSamples count: Int, progress: (Conversion.Phase) -> Void
  ) throws(QMError) {
    let count = min(count, kept.count)
    var sessions: [[Session]] = []
    for candidate in candidates { sessions.append(try runs.sessions(of: candidate.program)) }
    var comparisons = candidates.map(\.comparisons)
    try runs.forEach(
      count,
      run: { (index, session, worker) throws(QMError) in
        try within(.sample(kept.name(of: index))) { () throws(QMError) in
          let inputs = kept.inputs(of: index)
          let expected = if let known = outputs[index] { known } else { try session.run(inputs) }
          var found: [[String: Tensor]] = []
          for sessions in sessions { found.append(try sessions[worker].run(inputs)) }
          return (expected: expected, found: found)
        }
      },
      take: { (index, result) throws(QMError) in
        outputs.keep(result.expected, ofKept: index)
        try within(.sample(kept.name(of: index))) { () throws(QMError) in
          for (candidate, found) in result.found.enumerated() {
            for (name, tensor) in result.expected {
              guard let other = found[name] else { continue }
              try comparisons[candidate][name, default: Comparison()]
                .add(reference: tensor, measured: other)
            }
          }
        }
        progress(.measuring(done: index + 1, of: count))
      })
    for index in candidates.indices { candidates[index].comparisons = comparisons[index] }
  }
}

/// What the float network gives for the kept samples, of as many as fit in little memory.
final class ReferenceOutputs: Sendable {
  /// Memory of all outputs together, in bytes.
  private static let byteLimit = 20 << 20

  private struct Known {
    var outputs: [Int: [String: Tensor]] = [:]
    var byteCount = 0
  }

  /// Place among the kept samples, by index in their source.
  private let places: [Int: Int]
  private let known = Locked(Known())

  init(of kept: KeptSamples) {
    var places: [Int: Int] = [:]
    for (place, sample) in kept.samples.enumerated() {
      if let index = sample.index { places[index] = place }
    }
    self.places = places
  }

  /// The outputs of a kept sample, if they were kept too.
  subscript(place: Int) -> [String: Tensor]? { known.withLock { $0.outputs[place] } }

  /// - Parameter index: in the source that the kept samples were loaded from.
  func keep(_ index: Int, _ outputs: [String: Tensor]) {
    if let place = places[index] { keep(outputs, ofKept: place) }
  }

  func keep(_ outputs: [String: Tensor], ofKept place: Int) {
    let byteCount = outputs.values.reduce(0) { $0 + $1.byteCount }
    known.withLock { known in
      guard known.outputs[place] == nil,
        known.byteCount + byteCount <= ReferenceOutputs.byteLimit
      else { return }
      known.outputs[place] = outputs
      known.byteCount += byteCount
    }
  }
}
