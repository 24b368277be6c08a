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
  /// Samples that the float graph was observed on.
  public let sampleCount: Int

  /// A value that stays float32 where others have a fixed grid, and why.
  public struct Kept: Sendable {
    public let value: String
    public let reason: String
  }
  /// In the order in which they are computed; left out are the tails in front of outputs, which
  /// every network has.
  public let kept: [Kept]

  static func kept(by plan: Plan, in graph: Graph) -> [Kept] {
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

  init(
    graph: Graph, plan: Plan, simulation: Graph, program: Program,
    comparisons: [String: Comparison], sampleCount: Int
  ) {
    self.graph = graph
    self.plan = plan
    self.simulation = simulation
    self.program = program
    self.comparisons = comparisons
    self.sampleCount = sampleCount
    kept = Conversion.kept(by: plan, in: graph)
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
