import QMFormat
import QMGraph
import QMOperations
import QMQuantization
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

  /// A tuner.
  public init(_ converter: Converter, _ options: TrainingOptions) {
    self.converter = converter
    self.options = options
  }

  /// What tuning gives.
  public struct Result: Sendable {
    /// The conversion before training.
    public let before: Conversion
    /// The conversion with trained weights.
    public let after: Conversion
    /// Mean loss on the samples that were held out, before and after training.
    public let heldOutLoss: (before: Double, after: Double)
  }

  /// A phase of tuning.
  public enum Phase: Sendable {
    /// The network is converted.
    case converting(Conversion.Phase)
    /// A step of training has ended.
    case training(done: Int, of: Int, loss: Double, heldOutLoss: Double?, bits: Double)
  }

  /// Converts and trains.
  /// - Parameters:
  ///   - source: the graph as it was read.
  ///   - samples: of the network's inputs.
  ///   - metadata: for the file.
  ///   - progress: called with the current phase.
  /// - Throws: `usage` without samples, or for a recipe without codes; `unsupported` for a node
  ///   without gradient; errors of the conversion and of runs.
  public func tune(
    _ source: Graph, samples: any SampleSource, metadata: Program.Metadata = .init(),
    progress: (Phase) -> Void = { _ in }
  ) throws(QMError) -> Result {
    guard samples.count > 0 else { throw .usage("no samples", remedies: .giveSamples) }
    let prepared = try converter.prepare(
      source, samples: samples, progress: { progress(.converting($0)) })
    let before = try prepared.convert(
      metadata: metadata, progress: { progress(.converting($0)) })
    guard !before.graph.isQuantized else {
      throw .unsupported("the network is quantized already; training takes a float network")
    }
    let network = try TrainingNetwork(before.simulation, training: .quantized)
    let threads = ThreadPool(threadCount: converter.options.threadCount)
    let isFree = converter.recipe.weights.codeWidth == nil || converter.recipe.grid != .fixed
    let constants = before.graph.constants
    let parameters = try Parameters(
      of: network, threads: threads,
      weights: { parameter in constants[parameter.name].flatMap { before.graph[$0].constant } },
      largestCode: { parameter in
        guard let codes = parameter.codes else { return 0 }
        let width = BitWidth(holding: codes.codeRange) ?? .eight
        return isFree ? 63 : width.symmetricCodes.upperBound
      })
    let trainer = try Trainer(
      network, parameters, teacher: prepared.floatProgram, samples,
      judging: prepared.judgingIndices ?? [], options, threads: threads)
    let lossBefore = try trainer.heldOutLoss()
    try trainer.run { (step) in
      progress(
        .training(
          done: step.step + 1, of: options.steps, loss: step.loss, heldOutLoss: step.heldOutLoss,
          bits: step.bits))
    }
    let lossAfter = try trainer.heldOutLoss()
    let (graph, plan) = try before.replacing(network, parameters)
    let after = try prepared.replacing(
      before, graph: graph, plan: plan, metadata: metadata,
      progress: { progress(.converting($0)) })
    return Result(before: before, after: after, heldOutLoss: (lossBefore, lossAfter))
  }
}

extension Graph {
  /// The constants by name.
  fileprivate var constants: [String: ValueID] {
    var constants: [String: ValueID] = [:]
    for id in valueIDs where self[id].constant != nil { constants[self[id].name] = id }
    return constants
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
      case .constant(let name):
        guard let id = constants[name] else {
          throw .internalFault("the trained constant '\(name)' is not in the graph")
        }
        try graph.makeParameter(id)
        try graph.setParameter(id, to: parameters.numbers(of: index))
      }
    }
    return (graph, plan)
  }
}
