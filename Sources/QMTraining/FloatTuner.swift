import QMFormat
import QMGraph
import QMOperations
import QMReport
import QMRuntime
import QMTensor

/// Trains a float network on labels.
public struct FloatTuner: Sendable {
  /// How the network is trained.
  public let options: TrainingOptions
  /// Threads and kernels.
  public let model: Model.Options

  /// A tuner. Without a teacher, the options need labels.
  public init(_ options: TrainingOptions, model: Model.Options = Model.Options()) {
    self.options = options
    self.model = model
  }

  /// The trained constants of the network by their names, and the loss on the samples that were held
  /// out, before and after training.
  public struct Result: Sendable {
    /// In the order of the graph, in the shapes of the graph.
    public let parameters: [(name: String, tensor: Tensor)]
    /// Mean loss.
    public let heldOutLoss: (before: Double, after: Double)
    /// The task's metric on the same samples.
    public let metric: (before: MetricReport, after: MetricReport)
    /// Number of samples that were trained on, and held out.
    public let sampleCounts: (trained: Int, heldOut: Int)
  }

  /// Trains the constants of a graph.
  /// - Parameters:
  ///   - source: the graph as it was read.
  ///   - samples: with labels.
  ///   - start: how the constants start.
  ///   - checkpoints: where the state is kept; nil for nowhere.
  ///   - progress: called after each step, with the number of all.
  /// - Returns: nil if the run was interrupted.
  /// - Throws: `usage` without labels; `unsupported` for a node without gradient; errors of runs.
  public func tune(
    _ source: Graph, samples: any SampleSource, start: Initialization = .network,
    checkpoints: Tuner.Checkpoints? = nil,
    progress: (StepReport, _ stepCount: Int) -> Void = { _, _ in }
  ) throws(QMError) -> Result? {
    guard options.labels != nil else {
      throw .usage("float training needs labels: the float network would be its own teacher")
    }
    var options = options
    (options.teacherShare, options.featureShare) = (0, 0)
    let program = try DefaultPasses.run(on: source).flattened().program
    let form = options.batchNormalization ?? (start == .network ? .frozen : .trained)
    options.batchNormalization = form
    var graph = source
    try graph.makeTrainable(statistics: form == .trained)
    guard !graph.parameters.isEmpty else {
      throw .unsupported("the network has no weights that training could change")
    }
    let network = try TrainingNetwork(
      AssignLayouts().run(on: DefaultPasses.runExact(on: graph)), training: .parameters,
      batchNormalization: form)
    let threads = ThreadPool(threadCount: model.threadCount)
    let parameters = try Parameters(of: network, threads: threads, largestCode: { _ in 0 })
    parameters.initialize(start, network, seed: options.seed)
    let trainer = try Trainer(
      network, parameters, teacher: program, samples, judging: [], options, threads: threads)
    guard
      let outcome = try trainer.run(
        parameters, options, checkpoints, report: { (step) in progress(step, trainer.stepCount) })
    else { return nil }
    var values: [String: Graph.Value] = [:]
    for value in graph.parameters { values[graph[value].name] = graph[value] }
    let trained = try network.parameters.indices.map { (index) throws(QMError) in
      let (name, numbers) = (network.parameters[index].name, try parameters.numbers(of: index))
      return (name: name, tensor: try values[name]?.inFile(numbers) ?? numbers)
    }
    return Result(
      parameters: trained, heldOutLoss: outcome.loss, metric: outcome.metric,
      sampleCounts: trainer.sampleCounts)
  }
}

extension Trainer {
  /// A run with checkpoints.
  func run(
    _ parameters: Parameters, _ options: TrainingOptions, _ checkpoints: Tuner.Checkpoints?,
    report: (StepReport) throws(QMError) -> Void
  ) throws(QMError) -> Outcome? {
    var resuming: TrainingState?
    if let checkpoints, checkpoints.resumes {
      resuming = try TrainingState(
        contentsOf: checkpoints.path, for: parameters, options, steps: stepCount)
    }
    let clock = ContinuousClock()
    var written = clock.now
    return try run(
      resuming: resuming, report: report,
      keep: { (state) throws(QMError) in
        guard let checkpoints else { return true }
        let isInterrupted = checkpoints.isInterrupted()
        if isInterrupted || clock.now - written >= checkpoints.interval {
          try state.write(to: checkpoints.path)
          written = clock.now
        }
        return !isInterrupted
      })
  }
}
