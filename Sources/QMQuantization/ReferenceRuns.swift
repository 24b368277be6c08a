import QMFormat
import QMGraph
import QMOperations
import QMRuntime
import QMTensor

/// The float network on the samples, for all that a conversion asks of it.
final class ReferenceRuns {
  private let flattened: FlattenedGraph
  private let options: Model.Options
  private let runs: SampleRuns
  /// Of the samples that candidates are measured on.
  private let indices: [Int]
  private var outputs: ReferenceOutputs

  /// - Parameters:
  ///   - samples: at least one.
  ///   - measuredSamples: how many of them candidates are measured on, at most.
  init(
    _ graph: Graph, over samples: any SampleSource, measuredSamples: Int, options: Model.Options
  ) throws(QMError) {
    flattened = graph.flattened()
    self.options = options
    runs = try SampleRuns(flattened.program, over: samples, options: options)
    // Evenly over the samples, the first included.
    let count = min(samples.count, measuredSamples)
    indices = (0..<count).map { $0 * samples.count / count }
    outputs = ReferenceOutputs(of: indices)
  }

  func statistics(
    of observations: Set<Observation>, progress: (Conversion.Phase) -> Void
  ) throws(QMError) -> Statistics {
    guard !observations.isEmpty else { return Statistics() }
    let count = runs.samples.count
    return try Calibrator(flattened, observing: observations, options: options)
      .run(runs) { (index, outputs) in
        self.outputs.keep(outputs, of: index)
        progress(.calibrating(done: index + 1, of: count))
      }
  }

  func sensitivity(_ state: ConversionState) throws(QMError) -> SensitivityAnalysis {
    try SensitivityAnalysis(state, numbers: flattened.numbers, runs, outputs: outputs)
  }

  /// A program that may go into the file, and how far it is from the float network by output name.
  struct Candidate {
    var program: Program
    var comparisons: [String: Comparison] = [:]

    init(program: Program) { self.program = program }

    /// In dB, of the worst output.
    var worstSignalToNoise: Double { comparisons.values.map(\.signalToNoise).min() ?? 0 }
  }

  /// Runs programs on the same samples, side by side.
  func measure(
    _ candidates: inout [Candidate], progress: (Conversion.Phase) -> Void
  ) throws(QMError) {
    let samples = runs.samples
    var sessions: [[Session]] = []
    for candidate in candidates { sessions.append(try runs.sessions(of: candidate.program)) }
    var comparisons = candidates.map(\.comparisons)
    try runs.forEach(
      indices.count,
      run: { (step, session, worker) throws(QMError) in
        let index = indices[step]
        return try within(.sample(samples.name(of: index))) { () throws(QMError) in
          let inputs = try samples.inputs(of: index)
          let expected = if let known = outputs[index] { known } else { try session.run(inputs) }
          var found: [[String: Tensor]] = []
          for sessions in sessions { found.append(try sessions[worker].run(inputs)) }
          return (expected: expected, found: found)
        }
      },
      take: { (step, result) throws(QMError) in
        try within(.sample(samples.name(of: indices[step]))) { () throws(QMError) in
          for (candidate, found) in result.found.enumerated() {
            for (name, tensor) in result.expected {
              guard let other = found[name] else { continue }
              try comparisons[candidate][name, default: Comparison()]
                .add(reference: tensor, measured: other)
            }
          }
        }
        progress(.measuring(done: step + 1, of: indices.count))
      })
    for index in candidates.indices { candidates[index].comparisons = comparisons[index] }
  }
}
