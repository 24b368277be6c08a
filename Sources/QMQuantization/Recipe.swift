import QMGraph
import QMTensor

/// What a conversion is asked for: everything that decides which bytes come out of a network and its
/// samples. Paths, threads and memory are no part of it.
///
/// A recipe is written by the options of `qconvert`, kept in the file that it made as far as it
/// differs from the defaults, and read from JSON (``init(json:)``).
public struct Recipe: Hashable, Sendable {
  /// How activations feed the integer products.
  public enum Activations: String, Hashable, Sendable, CaseIterable, Codable {
    /// int8, with scales and zero points fixed by calibration; needs samples.
    case int8
    /// int8, with scales and zero points found in each run.
    case dynamic
    /// float32; the weights alone are codes.
    case float
  }

  /// How the weights are stored: as codes, or as the numbers they are.
  public enum WeightWidth: Hashable, Sendable {
    case codes(BitWidth)
    /// No quantization at all: a float program.
    case float32

    /// Bits of a weight: 2 to 8, or 32.
    public var bits: Int {
      switch self {
      case .codes(let width): width.bits
      case .float32: 32
      }
    }

    /// - Parameter bits: 2 to 8, or 32; nil for other widths.
    public init?(bits: Int) {
      if bits == 32 {
        self = .float32
      } else {
        guard let width = BitWidth(bits) else { return nil }
        self = .codes(width)
      }
    }
  }

  /// A width for the weights of some nodes.
  public struct WidthRule: Hashable, Sendable {
    public let nodes: NodePattern
    public let width: BitWidth

    public init(_ nodes: NodePattern, _ width: BitWidth) {
      self.nodes = nodes
      self.width = width
    }
  }

  /// Where a network is cut and what is set in it, as the options of the tools write it.
  public struct Network: Hashable, Sendable {
    /// `name`, or `name=1,3,height,width`.
    public var inputs: [String] = []
    /// Names of values.
    public var outputs: [String] = []
    /// `name=value`.
    public var settings: [String] = []

    public init() {}

    /// Whether the network is taken as it is.
    public var isEmpty: Bool { self == Network() }
  }

  /// Where the steps of a conversion draw their lines.
  public struct Thresholds: Hashable, Sendable {
    /// Samples that the sensitivity of activations is measured on, at most.
    public var sensitivitySamples = 4
    /// SQNR in dB that int8 alone must leave at every output; a value that leaves less becomes wider.
    public var toleratedDecibels = 30.0
    /// The same for a value that a product reads where int16 is not possible: below it the product
    /// runs in float32.
    public var toleratedByProductsDecibels = 20.0
    /// Samples that the result is measured on, at most.
    public var measuredSamples = 24
    /// SQNR in dB that every output must reach; 0 accepts anything. nil:
    /// ``leastDecibelsOfNetwork`` for a network, nothing for arrays.
    public var leastDecibels: Double?
    public static let leastDecibelsOfNetwork = 10.0

    public init() {}
  }

  public var weights: WeightWidth
  /// nil: int8 where there are samples, dynamic where there are none.
  public var activations: Activations?
  public var granularity: Granularity
  public var rangeEstimator: RangeEstimator
  /// Channels of a product's input whose weights share a scale; nil for all. Transposed
  /// convolutions keep one scale per output channel.
  public var groupSize: Int?
  /// Nodes that run in float32, weights included.
  public var floatNodes: [NodePattern] = []
  /// Widths of the weights of nodes, where they are not ``weights``; of several that fit, the last.
  public var widths: [WidthRule] = []
  public var network = Network()
  public var thresholds = Thresholds()

  public init(
    weights: WeightWidth = .codes(.eight), activations: Activations? = nil,
    granularity: Granularity = .perChannel(axis: 0), rangeEstimator: RangeEstimator = .minMax
  ) {
    self.weights = weights
    self.activations = activations
    self.granularity = granularity
    self.rangeEstimator = rangeEstimator
  }

  /// The recipe with every choice made that depends on whether there are samples.
  public func resolved(hasSamples: Bool) -> Recipe {
    var recipe = self
    if case .float32 = weights {
      recipe.activations = .float
    } else if activations == nil {
      recipe.activations = hasSamples ? .int8 : .dynamic
    }
    return recipe
  }

  /// Whether a conversion must see samples.
  var needsSamples: Bool {
    if case .codes = weights { activations == .int8 } else { false }
  }
}
