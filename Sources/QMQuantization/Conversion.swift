import QMFormat
import QMGraph
import QMOperations
import QMRuntime
import QMTensor

/// A float network made small: the program for the file, and what is known of how it came about.
public struct Conversion: Sendable {
  /// The float graph after the passes; the plan speaks of its values.
  public let graph: Graph
  public let plan: Plan
  /// The float graph with the plan's rounding in it.
  public let simulation: Graph
  /// What goes into the file.
  public let program: Program
  /// The program against the float graph, by output name; empty where there were no samples.
  public let comparisons: [String: Comparison]

  /// A value that stays float32 where others have a fixed grid, and why.
  public struct Kept: Sendable {
    public let value: String
    public let reason: String
  }
  /// In the order in which they are computed; left out are the tails in front of outputs, which
  /// every network has.
  public let kept: [Kept]

  private static func kept(by plan: Plan, in graph: Graph) -> [Kept] {
    plan.kept.sorted { $0.key < $1.key }.compactMap { (value, reason) in
      switch reason {
      case .outputTail: nil
      case .signalFront: Kept(value: graph[value].name, reason: "in front of a power spectrum")
      case .unseen: Kept(value: graph[value].name, reason: "no sample computes it")
      case .nonFinite: Kept(value: graph[value].name, reason: "holds NaN or infinities")
      case .damage(let ratio):
        Kept(
          value: graph[value].name,
          reason: "int8 alone leaves an output \(wholeDecibels(ratio)) dB")
      }
    }
  }

  private static func wholeDecibels(_ ratio: Double) -> Int {
    let decibels = Comparison.decibels(ratio)
    return decibels.isFinite ? Int(decibels.rounded()) : decibels > 0 ? 999 : -999
  }

  /// What a conversion is doing.
  public enum Phase: Hashable, Sendable {
    case simplifying
    case calibrating(done: Int, of: Int)
    /// Finding the activations that int8 damages.
    case testing(done: Int, of: Int)
    case rounding
    case measuring(done: Int, of: Int)
  }

  /// Samples that the result is measured on, at most.
  public static let measuredSampleLimit = 32

  /// Converts a graph as it was read.
  /// - Parameters:
  ///   - source: the float graph, before any pass.
  ///   - recipe: what is asked for.
  ///   - samples: needed where the recipe fixes the ranges of activations.
  ///   - metadata: for the file; reasons and measurements are added.
  ///   - options: of the runs over samples.
  ///   - progress: told what is being done.
  /// - Throws: `usage` if samples are needed and missing; what passes and runs throw.
  public init(
    _ source: Graph, recipe: Recipe, samples: (any SampleSource)?,
    metadata: Program.Metadata = .init(), options: Model.Options = Model.Options(),
    progress: (Phase) -> Void = { _ in }
  ) throws(QMError) {
    progress(.simplifying)
    graph = try DefaultPasses.run(on: source)
    if let size = recipe.groupSize, size < 1 { throw .usage("a group of \(size) channels") }

    let planner = try Planner(graph, recipe)
    var statistics = Statistics()
    if recipe.needsSamples, samples.map({ $0.count == 0 }) ?? true {
      throw .usage(
        "fixed activation ranges need samples", remedies: .giveSamples, .useDynamicActivations)
    }
    var reference: ReferenceRuns?
    if let samples, samples.count > 0 {
      reference = try ReferenceRuns(graph, over: samples, options: options)
    }
    if let reference {
      statistics = try reference.statistics(of: planner.observations, progress: progress)
    }
    progress(.rounding)
    var plan = try planner.plan(with: statistics)
    var measured: ReferenceRuns.Candidate?
    if recipe.activations == .int8, let reference {
      let test = try reference.damageTest(planner, plan)
      let damaging = try test.damagingGroups { done in
        progress(.testing(done: done, of: test.groups.count))
      }
      progress(.rounding)
      let final = try Planner(graph, recipe, keeping: planner.kept(damaging))
      plan = try final.plan(with: statistics, rounded: plan.weights)
      let rounded = final.observations(of: plan)
      if !rounded.isEmpty {
        statistics.merge(try reference.statistics(of: rounded, progress: progress))
        // What rounding activations does to the means is worth correcting on most networks only.
        let corrected = try final.plan(with: statistics, rounded: plan.weights)
        var candidates: [ReferenceRuns.Candidate] = []
        for plan in [plan, corrected] {
          candidates.append(.init(program: try graph.inserting(plan).lowered().flattened().program))
        }
        try reference.measure(&candidates, progress: progress)
        let isBetter = candidates[1].worstSignalToNoise > candidates[0].worstSignalToNoise
        if isBetter { plan = corrected }
        measured = candidates[isBetter ? 1 : 0]
      }
    }
    plan.absorb(graph)
    self.plan = plan
    let kept = Conversion.kept(by: plan, in: graph)
    self.kept = kept
    simulation = try graph.inserting(plan)
    var program = try simulation.lowered().flattened(metadata: metadata).program

    var comparisons: [String: Comparison] = [:]
    if let reference {
      measured?.program.metadata = program.metadata
      if let measured, measured.program == program {
        comparisons = measured.comparisons
      } else {
        var candidates = [ReferenceRuns.Candidate(program: program)]
        try reference.measure(&candidates, progress: progress)
        comparisons = candidates[0].comparisons
      }
    }
    program.metadata.entries += kept.map { .init("float32 \($0.value)", $0.reason) }
    for (index, output) in program.outputs.enumerated() {
      guard let comparison = comparisons[output.name] else { continue }
      program.metadata.measurements += comparison.measurements(output: index)
    }
    self.program = program
    self.comparisons = comparisons
  }
}

extension Comparison {
  /// The figures as a file keeps them.
  func measurements(output: Int) -> [Program.Metadata.Measurement] {
    var measurements: [Program.Metadata.Measurement] = [
      .init(
        output: output, .signalToNoise, Float(signalToNoise), sampleCount: sampleCount),
      .init(
        output: output, .largestDifference, Float(largestDifference), sampleCount: sampleCount),
      .init(output: output, .cosine, Float(cosine), sampleCount: sampleCount),
    ]
    if let topOneAgreement {
      measurements.append(
        .init(
          output: output, .topOneAgreement, Float(topOneAgreement), sampleCount: sampleCount))
    }
    return measurements
  }
}
