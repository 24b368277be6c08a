import QMFormat
import QMGraph
import QMOperations
import QMRuntime
import QMTensor

/// Runs of the float network for a conversion: statistics over all samples, and comparisons with
/// candidate programs over the kept samples.
package final class ReferenceRuns {
  /// The samples on which candidates are run.
  package let kept: KeptSamples
  let sampleCount: Int
  private let flattened: FlattenedGraph
  private let runs: SampleRuns
  private let source: any StatisticsSource
  private let outputs: ReferenceOutputs

  /// Takes statistics from runs over the samples.
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

  /// Takes statistics from files.
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

  /// The statistics over all samples.
  /// - Parameter take: receives the second moments, one place at a time in ascending order.
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

  /// A program for the file, with its comparison with the float network by output name.
  struct Candidate {
    var program: Program
    var comparisons: [String: Comparison] = [:]

    init(program: Program) { self.program = program }

    /// SQNR of the worst output in dB.
    var worstSignalToNoise: Double { comparisons.values.map(\.signalToNoise).min() ?? 0 }
  }

  /// Compares programs with the float network on the same kept samples.
  /// - Parameter count: largest number of samples.
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

/// Outputs of the float network for kept samples, stored while they fit into ``byteLimit``.
final class ReferenceOutputs: Sendable {
  /// Bytes that all stored outputs may take together.
  private static let byteLimit = 20 << 20

  private struct Known {
    var outputs: [Int: [String: Tensor]] = [:]
    var byteCount = 0
  }

  /// Position among the kept samples, by index in their source.
  private let places: [Int: Int]
  private let known = Locked(Known())

  init(of kept: KeptSamples) {
    var places: [Int: Int] = [:]
    for (place, sample) in kept.samples.enumerated() {
      if let index = sample.index { places[index] = place }
    }
    self.places = places
  }

  /// The outputs of a kept sample, if they are stored.
  subscript(place: Int) -> [String: Tensor]? { known.withLock { $0.outputs[place] } }

  /// Stores the outputs of a sample if the sample is kept.
  /// - Parameter index: index in the source from which the kept samples were loaded.
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
