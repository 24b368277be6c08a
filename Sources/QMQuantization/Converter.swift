import QMFormat
import QMGraph
import QMReport
import QMRuntime
import QMTensor

/// Quantizes a float network as a recipe says.
///
/// ```swift
/// let graph = try ONNXReader.read(path: "in.onnx")
/// let samples = try SampleFolder(
///   path: "calib", inputs: graph.inputs.map { SampleInput(graph[$0].name, graph[$0].type) })
/// let conversion = try Converter(recipe: Recipe(weights: .codes(8)))
///   .convert(graph, samples: samples)
/// try AtomicFile.write(conversion.program.encoded(), to: "out.qm")
/// ```
public struct Converter: Sendable {
  /// What to quantize, and how.
  public let recipe: Recipe
  /// Threads, kernels and memory of the runs over samples.
  public let options: Model.Options
  /// Bytes that sums over samples may take at a time. Less memory means more runs over the samples;
  /// the result has the same bytes.
  public let memoryBudget: Int

  /// The steps of every conversion, in their order.
  private static let steps: [any ConversionStep] = [
    RoundWeights(), CorrectBiasesOfWeights(), AdoptStoredCodes(), ChooseActivations(),
    CorrectBiasesOfActivations(), ShortenNormalizations(),
  ]

  /// A converter for one recipe.
  /// - Parameters:
  ///   - recipe: what to quantize, and how.
  ///   - options: threads, kernels and memory of the runs over samples.
  ///   - memoryBudget: bytes that sums over samples may take at a time; by default a quarter of the
  ///     machine's memory.
  public init(
    recipe: Recipe = Recipe(), options: Model.Options = Model.Options(), memoryBudget: Int? = nil
  ) {
    self.recipe = recipe
    self.options = options
    self.memoryBudget =
      memoryBudget ?? Int(clamping: ProcessInfo.processInfo.physicalMemory / 4)
  }

  /// Converts a graph. Without samples, the network is observed and measured on inputs that the
  /// conversion makes from noise. They fix no ranges of activations.
  /// - Parameters:
  ///   - source: the graph as it was read, before the passes.
  ///   - samples: required if the recipe has fixed ranges of activations.
  ///   - metadata: for the file; the measurements of the conversion are added.
  ///   - progress: called with the current phase.
  /// - Throws: `usage` if samples are required and missing, or if a pattern of the recipe matches
  ///   no node; errors of passes and runs.
  public func convert(
    _ source: Graph, samples: (any SampleSource)? = nil, metadata: Program.Metadata = .init(),
    progress: (Conversion.Phase) -> Void = { _ in }
  ) throws(QMError) -> Conversion {
    try prepare(source, samples: samples, progress: progress)
      .convert(metadata: metadata, progress: progress)
  }

  /// Observes a graph for conversions with several numbers of bits a weight. Without samples, it is
  /// observed on inputs that the conversion makes from noise.
  /// - Parameters:
  ///   - source: the graph as it was read, before the passes.
  ///   - samples: required if the recipe has fixed ranges of activations.
  ///   - progress: called with the current phase.
  /// - Throws: as ``convert(_:samples:metadata:progress:)``.
  public func prepare(
    _ source: Graph, samples: (any SampleSource)? = nil,
    progress: (Conversion.Phase) -> Void = { _ in }
  ) throws(QMError) -> PreparedConversion {
    progress(.simplifying)
    let graph = try simplified(source, recipe.weights)
    guard let samples, samples.count > 0 else {
      return try prepareWithoutSamples(graph, asRead: source, progress)
    }
    let reference = try ReferenceRuns(
      graph, over: samples, options: options, memoryBudget: memoryBudget)
    return PreparedConversion(try observed(graph, reference, progress))
  }

  /// Prepares with made samples; if the network does not run on them, with its weights alone.
  /// - Throws: `usage` as with samples; `outOfMemory`.
  private func prepareWithoutSamples(
    _ graph: Graph, asRead source: Graph, _ progress: (Conversion.Phase) -> Void
  ) throws(QMError) -> PreparedConversion {
    let withoutSamples = try observed(graph, nil, progress)
    // A network that is quantized already keeps its codes, so there is nothing to fit.
    guard recipe.weights != .float32, !recipe.needsSamples, !graph.isQuantized,
      graph.nodes.contains(where: {
        !$0.operation.body.weightOperands(of: graph.operands(of: $0)).isEmpty
      })
    else { return PreparedConversion(withoutSamples) }
    do throws(QMError) {
      guard graph.productsOfUnknownMeans.isEmpty else {
        throw .unsupported("channels of an input have units of their own, of unknown means")
      }
      let samples = try MadeSamples(
        for: graph.flattened().program, asRead: source.flattened().program, options)
      let reference = try ReferenceRuns(
        graph, over: samples, areMade: true, options: options, memoryBudget: memoryBudget)
      return PreparedConversion(
        try observed(graph, reference, progress), withoutSamples: withoutSamples)
    } catch {
      guard !error.stopsConversion else { throw error }
      return PreparedConversion(withoutSamples, failure: error)
    }
  }

  /// Converts a graph with observations from files, without running it on all samples again.
  /// - Parameters:
  ///   - source: the graph as it was read, before the passes.
  ///   - observations: of the same graph.
  ///   - metadata: for the file; the measurements of the conversion are added.
  ///   - progress: called with the current phase.
  /// - Returns: the same as ``convert(_:samples:metadata:progress:)`` with all observed samples.
  /// - Throws: `invalidInput` if the observations are of another graph; `usage` if a pattern of the
  ///   recipe matches no node; errors of passes and runs.
  public func convert(
    _ source: Graph, observations: Observations, metadata: Program.Metadata = .init(),
    progress: (Conversion.Phase) -> Void = { _ in }
  ) throws(QMError) -> Conversion {
    try prepare(source, observations: observations, progress: progress)
      .convert(metadata: metadata, progress: progress)
  }

  /// Takes observations from files for conversions with several numbers of bits a weight.
  /// - Parameters:
  ///   - source: the graph as it was read, before the passes.
  ///   - observations: of the same graph.
  ///   - progress: called with the current phase.
  /// - Throws: as ``convert(_:observations:metadata:progress:)``.
  public func prepare(
    _ source: Graph, observations: Observations,
    progress: (Conversion.Phase) -> Void = { _ in }
  ) throws(QMError) -> PreparedConversion {
    progress(.simplifying)
    try observations.require(of: simplified(source))
    let graph = try simplified(source, recipe.weights)
    let reference = try ReferenceRuns(
      graph, observations, options: options, memoryBudget: memoryBudget)
    return PreparedConversion(try observed(graph, reference, progress))
  }

  /// Runs a graph on samples and writes all statistics that any recipe can need to a file, which
  /// ``Observations`` reads.
  /// - Parameters:
  ///   - source: the graph as it was read, before the passes.
  ///   - samples: all samples, or one part of them.
  ///   - entries: what the metadata of a converted file is to say of the samples, such as how pictures
  ///     were preprocessed; see ``Observations/entries``.
  ///   - path: path of the file, which is written completely or not at all.
  ///   - progress: called with the current phase.
  /// - Throws: `usage` without samples; `cannotWrite`; errors of passes and runs.
  public func observe(
    _ source: Graph, samples: any SampleSource, entries: [Program.Metadata.Entry] = [],
    to path: String, progress: (Conversion.Phase) -> Void = { _ in }
  ) throws(QMError) {
    guard samples.count > 0 else { throw .usage("no samples", remedies: .giveSamples) }
    progress(.simplifying)
    let graph = try simplified(source)
    let reference = try ReferenceRuns(
      graph, withoutKeptOf: samples, options: options, memoryBudget: memoryBudget)
    var writer = try StatisticsFile.Writer(
      path: path, network: StatisticsFile.network(of: graph), entries: entries)
    let statistics = try reference.statistics(
      of: graph.allObservations,
      take: { (place, moments) throws(QMError) in try writer.append(moments, of: place) },
      progress: progress)
    try writer.finish(statistics, reference.kept, sampleCount: samples.count)
  }

  /// The graph that is observed and quantized. Statistics are of the one for codes.
  private func simplified(
    _ source: Graph, _ weights: Recipe.WeightWidth = .codes(8)
  ) throws(QMError) -> Graph {
    var graph = try DefaultPasses.run(on: source)
    if case .codes = weights { graph = try EqualizeColumns().run(on: graph) }
    // Most weights were copied in another order.
    for value in source.values { value.constant?.buffer.returnPages() }
    return graph
  }

  /// The state before the first step, with what the steps must observe.
  private func observed(
    _ graph: Graph, _ reference: ReferenceRuns?, _ progress: (Conversion.Phase) -> Void
  ) throws(QMError) -> ConversionState {
    let recipe = recipe.resolved(
      for: graph, hasSamples: reference.map { !$0.areMade } ?? false)
    if recipe.needsSamples, reference == nil {
      throw .usage(
        "fixed activation ranges need samples", remedies: .giveSamples, .useDynamicActivations)
    }
    if let size = recipe.groupSize, size < 1 {
      throw .usage("a group of \(size) channels; expected 1 or more")
    }
    var state = try ConversionState(graph, recipe, reference: reference, options)
    if let reference {
      let observations = Converter.steps.reduce(into: Set()) {
        $0.formUnion($1.observations(state))
      }
      state.statistics = try reference.statistics(
        of: observations,
        take: { (place, moments) throws(QMError) in try state.take(moments, at: place) },
        progress: progress)
    }
    return state
  }

  /// Applies all steps.
  static func convert(
    _ state: ConversionState, metadata: Program.Metadata, progress: (Conversion.Phase) -> Void
  ) throws(QMError) -> Conversion {
    var state = state
    for step in Converter.steps { try step.apply(to: &state, progress: progress) }
    return try finish(state, metadata: metadata, progress: progress)
  }

  /// Makes the program of the plan, and measures it if there are samples.
  static func finish(
    _ state: ConversionState, metadata: Program.Metadata, progress: (Conversion.Phase) -> Void
  ) throws(QMError) -> Conversion {
    let simulation = try state.graph.inserting(state.plan)
    var program = try simulation.lowered().flattened(metadata: metadata).program
    var comparisons: [String: OutputComparison] = [:]
    if let reference = state.reference {
      comparisons = try reference.measure(program, at: reference.roles.judge, progress: progress)
      program.metadata.entries.append(
        .init(
          reference.areMade ? Program.Metadata.madeInputsKey : "samples",
          "\(reference.sampleCount)"))
      if !reference.areMade {
        program.metadata.entries.append(
          .init(
            Program.Metadata.sampleSetKey, reference.kept.source.bytes.hexadecimal))
      }
      let example = reference.kept.inputs(of: 0)
      for input in state.graph.inputs {
        let name = state.graph[input].name
        guard let tensor = example[name] else { continue }
        program.metadata.entries.append(try InputExample(tensor).entry(for: name))
      }
    }
    for (index, output) in program.outputs.enumerated() {
      guard let comparison = comparisons[output.name] else { continue }
      program.metadata.measurements += comparison.measurements(output: index)
    }
    var conversion = Conversion(
      graph: state.graph, plan: state.plan, simulation: simulation, program: program,
      comparisons: comparisons, sampleCount: state.reference?.sampleCount ?? 0,
      areSamplesMade: state.reference?.areMade ?? false,
      isJudgedOnFittedSamples: state.reference?.roles.areAllOne ?? false,
      floatReasons: state.floatReasons, alternatives: state.alternatives)
    if let reference = state.reference {
      conversion.judgingSamples = reference.roles.judge.map(reference.kept.name)
    }
    let roundedWeights = state.roundedWeights.filter { state.plan.weights[$0.value] != nil }
    let outputError = roundedWeights.reduce(0) { $0 + $1.outputError }
    conversion.weightCosts = roundedWeights.map { weights in
      .init(
        node: state.graph.nodes[weights.node].name, weights: state.graph[weights.value].name,
        count: weights.count, byteCount: (weights.bits + 7) / 8,
        errorShare: outputError > 0 ? weights.outputError / outputError : 0)
    }
    conversion.program.metadata.entries += conversion.floatValues.map {
      .init("float32 \($0.value)", $0.reason)
    }
    return conversion
  }
}

/// Keeps the stored codes of an already quantized network.
struct AdoptStoredCodes: ConversionStep {
  func apply(
    to state: inout ConversionState, progress: (Conversion.Phase) -> Void
  ) throws(QMError) {
    try state.plan.adoptStoredCodes(of: state.graph)
  }
}
