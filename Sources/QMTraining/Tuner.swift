import QMFormat
import QMGraph
import QMOperations
import QMQuantization
import QMReport
import QMRuntime
import QMTensor

/// Converts a network, then trains what the conversion rounded, with the float network as teacher.
///
/// What is trained is the simulation of the conversion's plan, so that the file computes what training
/// saw. Normalizations that the conversion folds into weights stay folded: their statistics are those
/// of the float network.
public struct Tuner: Sendable {
  /// Converts before training; its recipe has codes.
  public let converter: Converter
  /// How the network is trained.
  public let options: TrainingOptions
  /// Number of probes to keep in the file; 0 for none.
  public let probes: Int

  /// A tuner.
  public init(_ converter: Converter, _ options: TrainingOptions, probes: Int = 0) {
    self.converter = converter
    self.options = options
    self.probes = probes
  }

  /// Where the state is kept while training, so that a run can go on after an interruption.
  public struct Checkpoints: Sendable {
    /// The file of the state.
    public var path: String
    /// Whether to go on from the file.
    public var resumes: Bool
    /// Time between two states.
    public var interval = Duration.seconds(60)
    /// Asked after each step; true stops the run, after the state was written.
    public var isInterrupted: @Sendable () -> Bool

    /// States in a file.
    public init(
      path: String, resumes: Bool = false, isInterrupted: @escaping @Sendable () -> Bool = { false }
    ) {
      self.path = path
      self.resumes = resumes
      self.isInterrupted = isInterrupted
    }
  }

  /// What tuning gives.
  public struct Result: Sendable {
    /// The conversion before training.
    public let before: Conversion
    /// The conversion with trained weights.
    public let after: Conversion
    /// Mean loss on the samples that were held out, before and after training.
    public let heldOutLoss: (before: Double, after: Double)
    /// The task's metric on the same samples.
    public let metric: (before: MetricReport, after: MetricReport)
    /// Number of samples that were trained on, and held out.
    public let sampleCounts: (trained: Int, heldOut: Int)
    /// Share of the trained codes that are 0.
    public let zeroShare: Double
    /// The file's bytes, before and after training.
    public let files: (before: [UInt8], after: [UInt8])
    /// Number of probes in the files; nil if there are none.
    public let probeCount: Int?
  }

  /// A phase of tuning.
  public enum Phase: Sendable {
    /// The network is converted.
    case converting(Conversion.Phase)
    /// A step of training has ended.
    case training(StepReport, of: Int)
    /// The trained network is converted, and its size checked.
    case writing
  }

  /// Converts and trains.
  /// - Parameters:
  ///   - source: the graph as it was read.
  ///   - samples: of the network's inputs.
  ///   - metadata: for the file.
  ///   - checkpoints: where the state is kept; nil for nowhere.
  ///   - progress: called with the current phase.
  /// - Returns: nil if the run was interrupted.
  /// - Throws: `usage` without samples, or for a recipe without codes; `unsupported` for a node
  ///   without gradient; errors of the conversion and of runs.
  public func tune(
    _ source: Graph, samples: any SampleSource, metadata: Program.Metadata = .init(),
    checkpoints: Checkpoints? = nil, progress: (Phase) -> Void = { _ in }
  ) throws(QMError) -> Result? {
    guard samples.count > 0 else { throw .usage("no samples", remedies: .giveSamples) }
    let prepared = try converter.prepare(
      source, samples: samples, progress: { progress(.converting($0)) })
    let threads = ThreadPool(threadCount: converter.options.threadCount)
    let probeSamples = try probes > 0 ? prepared.probeSamples(probes) : nil
    let before = try prepared.convert(
      metadata: metadata, progress: { progress(.converting($0)) })
    guard !before.graph.isQuantized else {
      throw .unsupported("the network is quantized already; training takes a float network")
    }
    let network = try TrainingNetwork(before.simulation, training: .quantized)
    guard !network.parameters.isEmpty else {
      throw .unsupported("the conversion rounds no weights, so that there is nothing to train")
    }
    // Of free grids the entropy is bounded, not the width: codes may grow as far as the converter's.
    let bits = converter.recipe.weights.bits
    let isRecipeFree =
      converter.recipe.grid == .free || (converter.recipe.grid == .auto && bits < 8)
    let constants = before.graph.constants
    let widths = try before.graph.weightsWithWidths(converter.recipe)
    func isFree(_ parameter: TrainingNetwork.Parameter) -> Bool {
      isRecipeFree && !widths.contains(parameter.name)
    }
    let parameters = try Parameters(
      of: network, threads: threads, quantizer: options.quantizer,
      weights: { parameter in constants[parameter.name].flatMap { before.graph[$0].constant } },
      hasWidth: { !isFree($0) },
      largestCode: { parameter in
        guard let codes = parameter.codes else { return 0 }
        let width = BitWidth(holding: codes.codeRange) ?? .eight
        let most = codes.codeRange.upperBound
        return isFree(parameter)
          ? max(bits < 6 ? 63 : 127, most) : max(width.symmetricCodes.upperBound, most)
      })
    let trainer = try Trainer(
      network, parameters, teacher: prepared.floatProgram, samples,
      judging: prepared.judgingIndices ?? [], options, threads: threads)
    let outcome = try trainer.run(
      parameters, options, checkpoints,
      report: { (step) in progress(.training(step, of: trainer.stepCount)) })
    guard let outcome else { return nil }
    progress(.writing)
    let file = try before.program.encoded(threads: threads)
    var after = before
    var bytes: [UInt8] = []
    // The entropy is an estimate of what the codes take: the size of the file decides.
    for _ in 0...Tuner.mostCorrections {
      let (graph, plan) = try before.replacing(network, parameters)
      after = try prepared.replacing(
        before, graph: graph, plan: plan, metadata: metadata,
        progress: { progress(.converting($0)) })
      bytes = try after.program.encoded(threads: threads)
      guard Double(bytes.count) > Tuner.sizeTolerance * Double(file.count) else { break }
      parameters.multiplyScales(by: Tuner.correction)
    }
    var files = (before: file, after: bytes)
    if let probeSamples {
      files.before = try before.program.encoded(
        probes: probeSamples.probes(of: before.program), threads: threads)
      files.after = try after.program.encoded(
        probes: probeSamples.probes(of: after.program), threads: threads)
    }
    return Result(
      before: before, after: after, heldOutLoss: outcome.loss, metric: outcome.metric,
      sampleCounts: trainer.sampleCounts, zeroShare: parameters.zeroShare, files: files,
      probeCount: probeSamples?.count)
  }

  /// Growth of the file by training that is let pass, and the factor of all scales that takes back what
  /// is beyond.
  private static let (sizeTolerance, correction, mostCorrections): (Double, Float, Int) = (
    1.01, 1.02, 4
  )
}

extension Graph {
  /// The constants by name.
  fileprivate var constants: [String: ValueID] {
    var constants: [String: ValueID] = [:]
    for id in valueIDs where self[id].constant != nil { constants[self[id].name] = id }
    return constants
  }
}

extension Graph {
  /// Names of the weights of nodes whose width the recipe states.
  fileprivate func weightsWithWidths(_ recipe: Recipe) throws(QMError) -> Set<String> {
    var names: Set<String> = []
    for rule in recipe.widths {
      for node in try rule.nodes.nodes(of: self) {
        names.formUnion(
          nodes[node].inputs.compactMap { $0 }.filter { self[$0].constant != nil }
            .map { self[$0].name })
      }
    }
    return names
  }
}

extension Conversion {
  /// The graph and the plan with trained numbers.
  fileprivate func replacing(
    _ network: TrainingNetwork, _ parameters: Parameters
  ) throws(QMError) -> (Graph, Plan) {
    var (graph, plan) = (graph, plan)
    let constants = graph.constants
    for (index, parameter) in network.parameters.enumerated() {
      switch parameter.role {
      case .codes(let name):
        guard let id = constants[name], let codes = try parameters.codes(of: index) else {
          throw .internalFault("the trained weights '\(name)' are not in the graph")
        }
        plan.weights[id] = codes
      case .bias(let node): plan.biases[node] = try parameters.numbers(of: index)
      case .operand(let node, let position):
        guard let id = graph.nodes[node].input(position) else {
          throw .internalFault("the trained constant '\(parameter.name)' is not in the graph")
        }
        let numbers = try parameters.numbers(of: index)
        if plan.constants[id] != nil {
          plan.constants[id] = numbers
        } else {
          try graph.makeParameter(id)
          try graph.setParameter(id, to: numbers)
        }
      case .constant(let name), .runningMean(let name), .runningVariance(let name):
        throw .internalFault("'\(name)' is a parameter of a float graph")
      }
    }
    let activations = parameters.activationParameters
    for id in graph.valueIDs {
      guard case .fixed = plan.activations[id], let trained = activations[graph[id].name] else {
        continue
      }
      plan.activations[id] = .fixed(trained)
    }
    return (graph, plan)
  }
}
