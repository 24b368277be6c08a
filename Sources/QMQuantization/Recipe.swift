import QMGraph
import QMTensor

/// What a conversion is asked for.
public struct Recipe: Hashable, Sendable {
  /// How activations feed the integer products.
  public enum Activations: String, Hashable, Sendable, CaseIterable {
    /// int8 on grids fixed by calibration; needs samples.
    case int8
    /// int8 on grids found in each run.
    case dynamic
    /// float32; the weights alone are codes.
    case float
  }

  /// How the weights are stored: as codes, or as the numbers they are.
  public enum WeightWidth: Hashable, Sendable {
    case codes(BitWidth)
    /// No quantization at all: a float program.
    case float32
  }

  public var weights: WeightWidth
  public var activations: Activations
  public var granularity: Granularity
  public var rangeEstimator: RangeEstimator
  /// Channels of a product's input whose weights share a scale; nil for all. Depthwise, grouped and
  /// transposed convolutions keep one scale per output channel.
  public var groupSize: Int?
  /// Nodes that run in float32, weights included.
  public var floatNodes: [NodePattern] = []
  /// Widths of the weights of nodes, where they are not ``weights``; of several that fit, the last.
  public var widths: [WidthRule] = []

  /// A width for the weights of some nodes.
  public struct WidthRule: Hashable, Sendable {
    public let nodes: NodePattern
    public let width: BitWidth

    public init(_ nodes: NodePattern, _ width: BitWidth) {
      self.nodes = nodes
      self.width = width
    }
  }

  public init(
    weights: WeightWidth, activations: Activations,
    granularity: Granularity = .perChannel(axis: 0), rangeEstimator: RangeEstimator = .minMax
  ) {
    self.weights = weights
    self.activations = activations
    self.granularity = granularity
    self.rangeEstimator = rangeEstimator
  }

  /// Whether a conversion must see samples.
  var needsSamples: Bool {
    if case .codes = weights { activations == .int8 } else { false }
  }
}
