import Foundation
import QMFormat
import QMGraph
import QMReport
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
  /// Bytes that sums over samples may take at a time. Less memory takes more runs over the samples,
  /// and changes no byte of the result.
  public let memoryBudget: Int

  /// The steps of every conversion, in their order.
  private static let steps: [any ConversionStep] = [
    RoundWeights(), CorrectBiasesOfWeights(), FixRanges(),
    MeasureSensitivity(), FixRanges(), AdoptStoredCodes(), CorrectBiasesOfActivations(),
  ]

  /// - Parameters:
  ///   - recipe: what is asked for.
  ///   - options: threads, kernels and memory of the runs over samples.
  ///   - memoryBudget: bytes that sums over samples may take at a time; a quarter of the machine's
  ///     memory unless given.
  public init(
    recipe: Recipe = Recipe(), options: Model.Options = Model.Options(), memoryBudget: Int? = nil
  ) {
    self.recipe = recipe
    self.options = options
    self.memoryBudget =
      memoryBudget ?? Int(clamping: ProcessInfo.processInfo.physicalMemory / 4)
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
    let graph = try DefaultPasses.run(on: source)
    let reference = try samples.flatMap { $0.count > 0 ? $0 : nil }.map {
      (samples) throws(QMError) in
      try ReferenceRuns(graph, over: samples, options: options, memoryBudget: memoryBudget)
    }
    return try convert(graph, reference, metadata, progress)
  }

  /// Converts a graph as it was read, with what it showed on samples before.
  /// - Parameters:
  ///   - observations: of this very graph.
  ///   - metadata: for the file; what the conversion measures is added.
  ///   - progress: called with what is being done.
  /// - Returns: what ``convert(_:samples:metadata:progress:)`` gives for all those samples.
  /// - Throws: `invalidInput` if the observations are of another graph; `usage` if a pattern of the
  ///   recipe fits no node; what passes and runs throw.
  public func convert(
    _ source: Graph, observations: Observations, metadata: Program.Metadata = .init(),
    progress: (Conversion.Phase) -> Void = { _ in }
  ) throws(QMError) -> Conversion {
    progress(.simplifying)
    let graph = try DefaultPasses.run(on: source)
    try observations.require(of: graph)
    let reference = try ReferenceRuns(graph, observations, options: options)
    return try convert(graph, reference, metadata, progress)
  }

  /// Runs a graph as it was read on samples, and writes what it shows there: everything that any
  /// recipe may ask for. ``Observations`` reads it.
  /// - Parameters:
  ///   - samples: all, or a part of them.
  ///   - path: of the file, which appears whole or not at all.
  ///   - progress: called with what is being done.
  /// - Throws: `usage` without samples; `cannotWrite`; what passes and runs throw.
  public func observe(
    _ source: Graph, samples: any SampleSource, to path: String,
    progress: (Conversion.Phase) -> Void = { _ in }
  ) throws(QMError) {
    guard samples.count > 0 else { throw .usage("no samples", remedies: .giveSamples) }
    progress(.simplifying)
    let graph = try DefaultPasses.run(on: source)
    let reference = try ReferenceRuns(
      graph, over: samples, options: options, memoryBudget: memoryBudget)
    var writer = try StatisticsFile.Writer(path: path, network: StatisticsFile.network(of: graph))
    let statistics = try reference.statistics(
      of: graph.allObservations,
      take: { (place, moments) throws(QMError) in try writer.append(moments, of: place) },
      progress: progress)
    try writer.finish(statistics, reference.kept, sampleCount: samples.count)
  }

  private func convert(
    _ graph: Graph, _ reference: ReferenceRuns?, _ metadata: Program.Metadata,
    _ progress: (Conversion.Phase) -> Void
  ) throws(QMError) -> Conversion {
    let recipe = recipe.resolved(hasSamples: reference != nil)
    if recipe.needsSamples, reference == nil {
      throw .usage(
        "fixed activation ranges need samples", remedies: .giveSamples, .useDynamicActivations)
    }
    if let size = recipe.groupSize, size < 1 { throw .usage("a group of \(size) channels") }
    var state = try ConversionState(graph, recipe, reference: reference)
    if let reference {
      let observations = Converter.steps.reduce(into: Set()) {
        $0.formUnion($1.observations(state))
      }
      state.statistics = try reference.statistics(of: observations, progress: progress)
    }
    for step in Converter.steps { try step.apply(to: &state, progress: progress) }
    return try finish(state, metadata: metadata, progress: progress)
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
        try reference.measure(
          &candidates, onSamples: state.recipe.thresholds.measuredSamples, progress: progress)
        comparisons = candidates[0].comparisons
      }
      program.metadata.entries.append(.init("samples", "\(reference.sampleCount)"))
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
      floatReasons: state.floatReasons)
    conversion.program.metadata.entries += conversion.floatValues.map {
      .init("float32 \($0.value)", $0.reason)
    }
    return conversion
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
