import QMFormat
import QMGraph
import QMRuntime
import QMTensor

/// Makes a float network small, by the steps of a recipe.
///
/// ```swift
/// let graph = try ONNXReader.read(path: "in.onnx")
/// let samples = try SampleFolder(
///   path: "calib", inputs: graph.inputs.map { SampleInput(graph[$0].name, graph[$0].type) })
/// let conversion = try Converter(recipe: Recipe(weights: .codes(.eight)))
///   .convert(graph, samples: samples)
/// try AtomicFile.write(conversion.program.encoded(), to: "out.qm")
/// ```
public struct Converter: Sendable {
  public let recipe: Recipe
  /// Of the runs over samples.
  public let options: Model.Options

  /// The steps of every conversion, in their order.
  private static let steps: [any ConversionStep] = [
    RoundWeights(), CorrectBiasesOfWeights(), FixRanges(),
    MeasureSensitivity(), FixRanges(), AdoptStoredCodes(), CorrectBiasesOfActivations(),
  ]

  /// - Parameters:
  ///   - recipe: what is asked for.
  ///   - options: threads, kernels and memory of the runs over samples.
  public init(recipe: Recipe, options: Model.Options = Model.Options()) {
    self.recipe = recipe
    self.options = options
  }

  /// Converts a graph as it was read.
  /// - Parameters:
  ///   - samples: needed where the recipe fixes the ranges of activations.
  ///   - metadata: for the file; what the conversion measures is added.
  ///   - progress: called with what is being done.
  /// - Throws: `usage` if samples are needed and missing, or a pattern of the recipe fits no node;
  ///   what passes and runs throw.
  public func convert(
    _ source: Graph, samples: (any SampleSource)? = nil, metadata: Program.Metadata = .init(),
    progress: (Conversion.Phase) -> Void = { _ in }
  ) throws(QMError) -> Conversion {
    progress(.simplifying)
    let samples = samples.flatMap { $0.count > 0 ? $0 : nil }
    let recipe = recipe.resolved(hasSamples: samples != nil)
    if recipe.needsSamples, samples == nil {
      throw .usage(
        "fixed activation ranges need samples", remedies: .giveSamples, .useDynamicActivations)
    }
    let graph = try DefaultPasses.run(on: source)
    if let size = recipe.groupSize, size < 1 { throw .usage("a group of \(size) channels") }
    let reference = try samples.map { (samples) throws(QMError) in
      try ReferenceRuns(
        graph, over: samples, measuredSamples: recipe.thresholds.measuredSamples, options: options)
    }
    var state = try ConversionState(graph, recipe, reference: reference)
    try run(Converter.steps[...], on: &state, progress: progress)
    return try finish(state, metadata: metadata, progress: progress)
  }

  /// Applies the steps one after the other. What they want to observe is observed in as few runs
  /// over the samples as possible.
  private func run(
    _ steps: ArraySlice<any ConversionStep>, on state: inout ConversionState,
    progress: (Conversion.Phase) -> Void
  ) throws(QMError) {
    for (index, step) in zip(steps.indices, steps) {
      if let reference = state.reference {
        var wanted = step.observations(state)
        for later in steps[(index + 1)...] where !later.observesPlan {
          wanted.formUnion(later.observations(state))
        }
        wanted.subtract(state.observed)
        if !wanted.isEmpty {
          state.statistics.merge(try reference.statistics(of: wanted, progress: progress))
          state.observed.formUnion(wanted)
        }
      }
      try step.apply(to: &state, progress: progress)
    }
  }

  /// The program of the plan, measured if there are samples.
  private func finish(
    _ state: ConversionState, metadata: Program.Metadata, progress: (Conversion.Phase) -> Void
  ) throws(QMError) -> Conversion {
    let simulation = try state.graph.inserting(state.plan)
    var program = try simulation.lowered().flattened(metadata: metadata).program
    var comparisons: [String: Comparison] = [:]
    if let reference = state.reference {
      var measured = state.measured
      measured?.program.metadata = program.metadata
      if let measured, measured.program == program {
        comparisons = measured.comparisons
      } else {
        var candidates = [ReferenceRuns.Candidate(program: program)]
        try reference.measure(&candidates, progress: progress)
        comparisons = candidates[0].comparisons
      }
    }
    for (index, output) in program.outputs.enumerated() {
      guard let comparison = comparisons[output.name] else { continue }
      program.metadata.measurements += comparison.measurements(output: index)
    }
    let kept = Conversion.kept(by: state.plan, in: state.graph)
    program.metadata.entries += kept.map { .init("float32 \($0.value)", $0.reason) }
    return Conversion(
      graph: state.graph, plan: state.plan, simulation: simulation, program: program,
      comparisons: comparisons)
  }
}

/// Leaves to an already quantized network the codes that it came with.
struct AdoptStoredCodes: ConversionStep {
  func apply(
    to state: inout ConversionState, progress: (Conversion.Phase) -> Void
  ) throws(QMError) {
    try state.plan.adoptStoredCodes(of: state.graph)
  }
}
