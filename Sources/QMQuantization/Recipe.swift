import QMGraph
import QMTensor

/// All choices of a conversion that change the bytes of its result. Paths, threads and memory are
/// not part of it.
///
/// The options of `qconvert` make a recipe; a `.qm` file stores what differs from the defaults;
/// JSON is read by ``init(json:)``.
public struct Recipe: Hashable, Sendable {
  /// How the activations that integer products read are quantized.
  public enum Activations: String, Hashable, Sendable, CaseIterable, Codable {
    /// int8, with scales and zero points fixed by calibration; needs samples.
    case int8
    /// int8, with scales and zero points computed in each run.
    case dynamic
    /// Not at all: activations are float32, and only the weights are codes.
    case float
  }

  /// How weights are stored.
  public enum WeightWidth: Hashable, Sendable {
    /// As integer codes that take at most this many bits on average, 1.5 to 8, scales included.
    case codes(Double)
    /// As float16, if their range allows; the network runs in float32.
    case float16
    /// As float32. Nothing is quantized.
    case float32

    /// Bits of a weight: 1.5 to 8, 16 or 32.
    public var bits: Double {
      switch self {
      case .codes(let bits): bits
      case .float16: 16
      case .float32: 32
      }
    }

    /// The width of weights with this many bits.
    /// - Parameter bits: 1.5 to 8, 16 or 32; nil for other widths.
    public init?(bits: Double) {
      switch bits {
      case 32: self = .float32
      case 16: self = .float16
      case 1.5...8: self = .codes(bits)
      default: return nil
      }
    }

    /// The width of codes that all have the same number of bits: 2 to 8, nil for fractions.
    public var codeWidth: BitWidth? {
      guard case .codes(let bits) = self, bits == bits.rounded() else { return nil }
      return BitWidth(Int(bits))
    }
  }

  /// Which numbers weights are rounded to.
  public enum Grid: String, Hashable, Sendable, CaseIterable, Codable {
    /// Free where the second moments of the inputs are known and weights have fewer than 8 bits,
    /// otherwise fixed.
    case auto
    /// Codes of the given number of bits.
    case fixed
    /// Codes of up to 8 bits, with steps so large that their entropy is the given number of bits on
    /// average.
    case free

    /// Bits a weight that a search may choose, in ascending order: hundredths of a bit with free steps,
    /// else whole numbers.
    package var widths: [Double] {
      self == .free ? (150...800).map { Double($0) / 100 } : (2...8).map { Double($0) }
    }
  }

  /// How many roundings of the whole network a conversion tries. It is counted in runs, never in
  /// seconds, so that every machine makes the same file.
  public enum Effort: String, Hashable, Sendable, CaseIterable, Codable {
    /// The weights are rounded once, by their own errors. Activations all have the same type where they
    /// can.
    case fast
    /// The effect of single roundings on the outputs is measured, and a few roundings of the whole.
    case standard = "default"
    /// More of both, and outputs within half of ``Thresholds/belowPlateauDecibels``.
    case best
  }

  /// A width for the weights of some nodes.
  public struct WidthRule: Hashable, Sendable {
    /// The nodes to which the rule applies.
    public let nodes: NodePattern
    /// Bits of one code of their weights.
    public let width: BitWidth

    /// The width `width` for the weights of `nodes`.
    public init(_ nodes: NodePattern, _ width: BitWidth) {
      self.nodes = nodes
      self.width = width
    }
  }

  /// Changes to the network before the conversion, in the syntax of the tools' options.
  public struct Network: Hashable, Sendable {
    /// Values that become inputs: `name`, or `name=1,3,height,width`.
    public var inputs: [String] = []
    /// Names of values that become the outputs.
    public var outputs: [String] = []
    /// Constants for values: `name=value`.
    public var settings: [String] = []

    /// No changes.
    public init() {}

    /// Whether there are no changes.
    public var isEmpty: Bool { self == Network() }
  }

  /// Thresholds of the steps of a conversion.
  public struct Thresholds: Hashable, Sendable {
    /// How many dB the SQNR of an output may lie below that of the same weights with float
    /// activations, the median and the mean over samples.
    public var belowPlateauDecibels = 2.0
    /// SQNR in dB from which an output needs no better activations.
    public var sufficientDecibels = 40.0
    /// The same of the log odds of probabilities: 30 dB are a thirtieth of their spread.
    public var sufficientDecibelsOfLogOdds = 30.0
    /// Least SQNR in dB of every output; 0 accepts everything. nil for
    /// ``leastDecibelsOfNetwork`` and ``leastDecibelsOfLogOdds`` if a network is converted, no limit
    /// for arrays.
    public var leastDecibels: Double?
    /// Default of ``leastDecibels`` for a network, in dB: the error has half of the signal's power.
    public static let leastDecibelsOfNetwork = 3.0
    /// The same for log odds, in dB: the error is as strong as the signal. Log odds of rare events may
    /// be nearly so and the task still hold: the onsets of a transcription at 2 bits, at 0.2 dB.
    public static let leastDecibelsOfLogOdds = 0.1

    /// The defaults.
    public init() {}
  }

  /// What a multiply-add costs, and an element that is read, by the type of the activation. Only
  /// ratios matter. The table is the same on every machine.
  public struct Prices: Hashable, Sendable {
    /// int8 codes with fixed parameters.
    public var int8 = 1.0
    /// int8 codes with parameters computed in the run.
    public var dynamic = 1.1
    /// int16 codes.
    public var int16 = 2.0
    /// float32.
    public var float = 4.0

    /// The defaults.
    public init() {}
  }

  /// How weights are stored, unless ``widths`` says otherwise.
  public var weights: WeightWidth
  /// How activations are quantized; nil for int8 with samples, dynamic without.
  public var activations: Activations?
  /// Which numbers weights are rounded to.
  public var grid = Grid.auto
  /// How much a conversion tries.
  public var effort = Effort.standard
  /// Whether a weight tensor has one scale, or one per output channel.
  public var granularity: Granularity
  /// How the ranges of activations are estimated.
  public var rangeEstimator: RangeEstimator
  /// Number of input channels of a product whose weights share a scale; nil for all. Transposed
  /// convolutions always have one scale per output channel.
  public var groupSize: Int?
  /// Nodes that run in float32 with float32 weights.
  public var floatNodes: [NodePattern] = []
  /// Widths of the weights of some nodes; if several rules match a node, the last one applies.
  public var widths: [WidthRule] = []
  /// Changes to the network before the conversion.
  public var network = Network()
  /// Thresholds of the steps.
  public var thresholds = Thresholds()
  /// Prices of the types of activations.
  public var prices = Prices()

  /// A recipe with these choices and the defaults of all others.
  public init(
    weights: WeightWidth = .codes(8), activations: Activations? = nil,
    granularity: Granularity = .perChannel(axis: 0), rangeEstimator: RangeEstimator = .minMax
  ) {
    self.weights = weights
    self.activations = activations
    self.granularity = granularity
    self.rangeEstimator = rangeEstimator
  }

  /// The recipe with ``activations`` set, which by default depend on whether there are samples. A
  /// network that is quantized already keeps its own quantization of activations, and no other is
  /// added.
  public func resolved(for graph: Graph? = nil, hasSamples: Bool) -> Recipe {
    var recipe = self
    if weights == .float16 || weights == .float32 {
      recipe.activations = .float
    } else if graph?.isQuantized == true {
      recipe.activations = .float
    } else if activations == nil {
      recipe.activations = hasSamples ? .int8 : .dynamic
    }
    return recipe
  }

  /// Whether a conversion needs samples.
  var needsSamples: Bool {
    if case .codes = weights { activations == .int8 } else { false }
  }
}
