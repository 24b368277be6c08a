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
  public internal(set) var program: Program
  /// The program against the float graph, by output name; empty where there were no samples.
  public let comparisons: [String: Comparison]
  /// Samples that the float graph was observed on.
  public let sampleCount: Int

  /// Why values stay float32 that integer operations could read as codes.
  public let floatReasons: [Graph.ValueID: FloatReason]

  /// A value that stays float32 where others have fixed parameters, and why, in words.
  public struct FloatValue: Sendable {
    public let value: String
    public let reason: String
  }

  /// In the order in which they are computed; left out are the tails in front of outputs, which
  /// every network has.
  public var floatValues: [FloatValue] {
    floatReasons.sorted { $0.key < $1.key }.compactMap { (value, reason) in
      let words: String
      switch reason {
      case .outputTail: return nil
      case .spectralFrontEnd: words = "in front of a power spectrum"
      case .unseen: words = "no sample computes it"
      case .nonFinite: words = "holds NaN or infinities"
      case .sensitive(let ratio):
        words = "int8 alone leaves an output \(Conversion.wholeDecibels(ratio)) dB"
      }
      return FloatValue(value: graph[value].name, reason: words)
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
    /// Finding the activations that int8 costs an output too much.
    case testing(done: Int, of: Int)
    case rounding
    case measuring(done: Int, of: Int)
  }

  init(
    graph: Graph, plan: Plan, simulation: Graph, program: Program,
    comparisons: [String: Comparison], sampleCount: Int,
    floatReasons: [Graph.ValueID: FloatReason]
  ) {
    self.graph = graph
    self.plan = plan
    self.simulation = simulation
    self.program = program
    self.comparisons = comparisons
    self.sampleCount = sampleCount
    self.floatReasons = floatReasons
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
