import QMFormat
import QMGraph
import QMOperations
import QMReport
import QMRuntime
import QMTensor

/// The result of a conversion: the program for the file, and how it was made.
public struct Conversion: Sendable {
  /// The float graph after the passes, for which the plan was made.
  public let graph: Graph
  /// The codes of weights and the quantization parameters of activations.
  public let plan: Plan
  /// The float graph with the plan's rounding in it.
  public let simulation: Graph
  /// The program for the file.
  public internal(set) var program: Program
  /// The program compared with the float graph, by output name; empty if nothing was measured.
  public let comparisons: [String: OutputComparison]
  /// The names of the samples behind ``comparisons``, in their order.
  public internal(set) var judgingSamples: [String] = []
  /// Number of samples, given or made, on which the float graph was observed.
  public let sampleCount: Int
  /// Whether the conversion made the samples itself, because it got none.
  public let areSamplesMade: Bool
  /// Why no made sample could be run, so that nothing was measured; nil if nothing failed.
  public internal(set) var notMeasured: String?
  /// Whether the samples behind ``comparisons`` are also those that ranges were fitted to: there were
  /// too few to tell them apart.
  public let isJudgedOnFittedSamples: Bool

  /// The values that stay float32 although integer operations could read them as codes, each with
  /// the reason.
  public let floatReasons: [Graph.ValueID: FloatReason]

  /// The choices of activations that were measured on samples that chose nothing else; empty without
  /// samples.
  public let alternatives: [Alternative]

  /// What the weights of each node cost, in the order of the nodes; empty if their codes all have the
  /// same width.
  public internal(set) var weightCosts: [WeightCost] = []

  /// What the weights of a node cost in bytes and in quality.
  public struct WeightCost: Hashable, Sendable {
    /// Name of the node.
    public let node: String
    /// Name of the weights.
    public let weights: String
    /// Number of weights.
    public let count: Int
    /// Estimated bytes in the file, scales included.
    public let byteCount: Int
    /// Share of the error that the rounding of all weights causes at the outputs, 0 to 1.
    public let errorShare: Double

    /// What the outputs lose, in dB, for each 1000 bytes that these weights give up: with one bit less
    /// the error of a tensor is four times as large.
    public var decibelsPerKilobyte: Double {
      // The derivative of 10 · log10(1 − s + s · 4^(8 · x / count)) at x = 0 bytes.
      20 * 0.30103 * errorShare * 8000 / Double(count)
    }
  }

  /// A choice of the types of activations.
  public struct Alternative: Hashable, Sendable {
    /// `int8`, `dynamic` or `int16` for the same type everywhere, as far as possible; `search` for
    /// single choices; `float` for rounded weights with float activations.
    public let name: String
    /// SQNR in dB of the worst part of an output, the median over the samples.
    public let signalToNoiseDecibels: Double
    /// The assumed cost of a run relative to that of `int8`.
    public let price: Double
    /// Whether the file holds this choice.
    public let isChosen: Bool
  }

  /// A value that stays float32 although integer operations could read it as codes.
  public struct FloatValue: Sendable {
    /// Name of the value.
    public let value: String
    /// The reason, in words.
    public let reason: String
  }

  /// The values of ``floatReasons`` in the order in which they are computed, except those between
  /// the last products and the outputs, which every network has.
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

  /// A phase of a conversion, for the display of progress.
  public enum Phase: Hashable, Sendable {
    /// The passes simplify the graph.
    case simplifying
    /// The float graph is observed on samples; counted in runs.
    case calibrating(done: Int, of: Int)
    /// The sensitivity of activations to rounding is measured; counted in groups of activations.
    case testing(done: Int, of: Int)
    /// Weights and ranges are rounded.
    case rounding
    /// The result is compared with the float graph; counted in samples.
    case measuring(done: Int, of: Int)
  }

  init(
    graph: Graph, plan: Plan, simulation: Graph, program: Program,
    comparisons: [String: OutputComparison], sampleCount: Int, areSamplesMade: Bool,
    isJudgedOnFittedSamples: Bool, floatReasons: [Graph.ValueID: FloatReason],
    alternatives: [Alternative]
  ) {
    self.alternatives = alternatives
    self.graph = graph
    self.plan = plan
    self.simulation = simulation
    self.program = program
    self.comparisons = comparisons
    self.sampleCount = sampleCount
    self.areSamplesMade = areSamplesMade
    self.isJudgedOnFittedSamples = isJudgedOnFittedSamples
    self.floatReasons = floatReasons
  }
}
