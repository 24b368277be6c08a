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
  /// every network has, and sums on their way.
  public let kept: [Kept]

  private static func kept(by plan: Plan, in graph: Graph) -> [Kept] {
    plan.kept.sorted { $0.key < $1.key }.compactMap { (value, reason) in
      switch reason {
      case .outputTail, .partialSum: nil
      case .signalFront: Kept(value: graph[value].name, reason: "in front of a power spectrum")
      case .unseen: Kept(value: graph[value].name, reason: "no sample computes it")
      case .nonFinite: Kept(value: graph[value].name, reason: "holds NaN or infinities")
      case .damage(let ratio):
        Kept(
          value: graph[value].name,
          reason: "int8 alone leaves an output \(Comparison.decibels(ratio)) dB")
      }
    }
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
  ///   - samples: needed where the recipe fixes the grids of activations.
  ///   - options: of the runs over samples.
  /// - Throws: `usage` if samples are needed and missing; what passes and runs throw.
  public init(
    _ source: Graph, recipe: Recipe, samples: (any SampleSource)?,
    metadata: Program.Metadata = .init(), options: Model.Options = Model.Options(),
    progress: (Phase) -> Void = { _ in }
  ) throws(QMError) {
    progress(.simplifying)
    let whole = try DefaultPasses.run(on: source)
    let split = try Conversion.split(whole, for: recipe)
    graph = split?.graph ?? whole
    let partialSums = Dictionary(
      uniqueKeysWithValues: (split?.partialSums ?? []).map { ($0, Plan.Kept.partialSum) })

    let planner = try Planner(graph, recipe, keeping: partialSums)
    var statistics = Statistics()
    let observations = planner.observations
    if recipe.needsSamples, samples.map({ $0.count == 0 }) ?? true {
      throw .usage("fixed activation ranges need samples; give --samples, or --activations dynamic")
    }
    if !observations.isEmpty, let samples, samples.count > 0 {
      statistics = try Conversion.statistics(
        of: observations, in: graph, over: samples, options: options, progress: progress)
    }
    progress(.rounding)
    var plan = try planner.plan(with: statistics)
    if recipe.activations == .int8, let samples {
      let test = try DamageTest(planner, plan, over: samples, options: options)
      let damaging = try test.damagingGroups { done in
        progress(.testing(done: done, of: test.groups.count))
      }
      progress(.rounding)
      let final = try Planner(graph, recipe, keeping: planner.kept(damaging).merging(partialSums) { $1 })
      plan = try final.plan(with: statistics)
      let rounded = final.observations(of: plan)
      if !rounded.isEmpty {
        statistics.merge(
          try Conversion.statistics(
            of: rounded, in: graph, over: samples, options: options, progress: progress))
        // What rounding activations does to the means is worth correcting on most networks only.
        let corrected = try final.plan(with: statistics)
        let before = try Conversion.worst(plan, of: graph, on: samples, options, progress)
        let after = try Conversion.worst(corrected, of: graph, on: samples, options, progress)
        if after > before { plan = corrected }
      }
    }
    plan.absorb(graph)
    self.plan = plan
    let kept = Conversion.kept(by: plan, in: graph)
    self.kept = kept
    simulation = try graph.inserting(plan)
    var program = try simulation.lowered().flattened(metadata: metadata).program
    program.metadata.entries += kept.map { .init("float32 \($0.value)", $0.reason) }

    var comparisons: [String: Comparison] = [:]
    if let samples, samples.count > 0 {
      comparisons = try Conversion.measure(
        program, against: graph.flattened().program, on: samples, options: options,
        progress: progress)
      for (index, output) in program.outputs.enumerated() {
        guard let comparison = comparisons[output.name] else { continue }
        program.metadata.measurements += comparison.measurements(output: index)
      }
    }
    self.program = program
    self.comparisons = comparisons
  }

  /// The graph with a product for each group of channels, if groups are asked for.
  private static func split(_ graph: Graph, for recipe: Recipe) throws(QMError) -> SplitProducts? {
    guard let size = recipe.groupSize, case .codes = recipe.weights else { return nil }
    guard size >= 1 else { throw .usage("a group of \(size) channels") }
    var kept: Set<Int> = []
    for pattern in recipe.floatNodes { kept.formUnion(try pattern.nodes(of: graph)) }
    return try SplitProducts(graph, size: size, keeping: kept)
  }

  private static func statistics(
    of observations: Set<Observation>, in graph: Graph, over samples: any SampleSource,
    options: Model.Options, progress: (Phase) -> Void
  ) throws(QMError) -> Statistics {
    guard !observations.isEmpty else { return Statistics() }
    let calibrator = try Calibrator(graph, observing: observations, options: options)
    return try calibrator.run(over: samples) { done in
      progress(.calibrating(done: done, of: samples.count))
    }
  }

  /// Signal to noise of the worst output of what a plan makes of a graph, in dB.
  private static func worst(
    _ plan: Plan, of graph: Graph, on samples: any SampleSource, _ options: Model.Options,
    _ progress: (Phase) -> Void
  ) throws(QMError) -> Double {
    try measure(
      graph.inserting(plan).lowered().flattened().program, against: graph.flattened().program,
      on: samples, options: options, progress: progress
    ).values.map(\.signalToNoise).min() ?? 0
  }

  private static func measure(
    _ program: Program, against reference: Program, on samples: any SampleSource,
    options: Model.Options, progress: (Phase) -> Void
  ) throws(QMError) -> [String: Comparison] {
    let measured = Session(try Model(program, options: options))
    let float = Session(try Model(reference, options: options))
    var comparisons: [String: Comparison] = [:]
    // Evenly over the samples, the first included.
    let count = min(samples.count, measuredSampleLimit)
    for step in 0..<count {
      let index = step * samples.count / count
      try within(.sample(samples.name(of: index))) { () throws(QMError) in
        let inputs = try samples.inputs(of: index)
        let expected = try float.run(inputs)
        let found = try measured.run(inputs)
        for (name, tensor) in expected {
          guard let other = found[name] else { continue }
          try comparisons[name, default: Comparison()].add(reference: tensor, measured: other)
        }
      }
      progress(.measuring(done: step + 1, of: count))
    }
    return comparisons
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
