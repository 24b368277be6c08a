/// The results of `qconvert` on a network.
public struct ConversionReport: Report {
  /// A value that stays float32 although the conversion fixes ranges, and why.
  public struct FloatValue: Codable, Hashable, Sendable {
    /// Name of the value.
    public let value: String
    /// The reason, as a phrase: `no sample computes it`.
    public let reason: String

    /// A value and its reason.
    public init(value: String, reason: String) {
      self.value = value
      self.reason = reason
    }
  }

  /// A choice of the types of activations that was measured.
  public struct Alternative: Codable, Hashable, Sendable {
    /// `int8`, `dynamic` or `int16` for the same type everywhere, as far as possible; `search` for
    /// single choices; `float` for rounded weights with float activations.
    public let name: String
    /// SQNR in dB of the worst part of an output, the median over the samples that choose.
    public let signalToNoiseDecibels: Double
    /// The assumed cost of a run relative to that of `int8`.
    public let price: Double
    /// Whether the file holds this choice.
    public let isChosen: Bool

    /// A choice from its parts.
    public init(name: String, signalToNoiseDecibels: Double, price: Double, isChosen: Bool) {
      self.name = name
      self.signalToNoiseDecibels = signalToNoiseDecibels
      self.price = price
      self.isChosen = isChosen
    }

    enum CodingKeys: String, CodingKey {
      case name, price
      case signalToNoiseDecibels = "sqnr_db"
      case isChosen = "chosen"
    }
  }

  /// The network's file.
  public let source: FileSize
  /// The file that was written.
  public let output: FileSize
  /// Size of the source divided by the size of the output.
  public let ratio: Double
  /// Requested number of bits per weight; 32 for a float program.
  public let bits: Double
  /// How much the conversion tried: `fast`, `default` or `best`.
  public let effort: String
  /// How activations are quantized for convolutions and matrix products: `int8`, `dynamic` or
  /// `float`.
  public let activations: String
  /// The range estimator of fixed ranges: `minmax`; nil without fixed ranges.
  public let ranges: String?
  /// Number of samples.
  public let samples: Int
  /// Number of inputs that the conversion made from noise, because it got no samples.
  public let madeInputs: Int
  /// How close each output is to the float network; empty if nothing was measured.
  public let outputs: [OutputReport]
  /// Why nothing was measured, if made inputs could not be run; else nil.
  public let notMeasured: String?
  /// Whether ranges were fitted to the samples behind ``outputs``, because there are too few.
  public let isJudgedOnFittedSamples: Bool
  /// Number of probes in the file; nil if there are none.
  public let probes: Int?
  /// Values that stay float32.
  public let kept: [FloatValue]
  /// The choices of activations that were measured; empty without samples.
  public let alternatives: [Alternative]
  /// How the bits were chosen; nil if they were given.
  public let budget: BudgetReport?
  /// What other numbers of bits would give, predicted from the conversion; nil if not requested.
  public let predictions: [BudgetReport.Prediction]?
  /// How each node runs; nil if not requested.
  public let nodes: [NodeReport]?
  /// How close each inner value is to that of the float network, in the order in which they are
  /// computed; nil if not requested.
  public let values: [ValueReport]?
  /// The weights of the file and their codes; nil if not requested.
  public let weights: [WeightReport]?
  /// Time of the whole conversion.
  public let seconds: Double

  /// A report from its parts; the ratio is computed from the file sizes.
  public init(
    source: FileSize, output: FileSize, bits: Double, effort: String = "default",
    activations: String, ranges: String?,
    samples: Int, madeInputs: Int = 0, outputs: [OutputReport], notMeasured: String? = nil,
    probes: Int? = nil, isJudgedOnFittedSamples: Bool = false, kept: [FloatValue],
    alternatives: [Alternative] = [],
    budget: BudgetReport? = nil, predictions: [BudgetReport.Prediction]? = nil,
    nodes: [NodeReport]?, values: [ValueReport]? = nil, weights: [WeightReport]? = nil,
    seconds: Double
  ) {
    self.source = source
    self.output = output
    ratio = Double(source.bytes) / Double(output.bytes)
    self.bits = bits
    self.effort = effort
    self.activations = activations
    self.ranges = ranges
    self.samples = samples
    self.madeInputs = madeInputs
    self.outputs = outputs
    self.notMeasured = notMeasured
    self.probes = probes
    self.isJudgedOnFittedSamples = isJudgedOnFittedSamples
    self.kept = kept
    self.alternatives = alternatives
    self.budget = budget
    self.predictions = predictions
    self.nodes = nodes
    self.values = values
    self.weights = weights
    self.seconds = seconds
  }

  enum CodingKeys: String, CodingKey {
    case source, output, ratio, bits, effort, activations, ranges, samples, outputs, kept, nodes,
      seconds
    case alternatives, budget, predictions, values, weights, probes
    case madeInputs = "made_inputs"
    case notMeasured = "not_measured"
    case isJudgedOnFittedSamples = "judged_on_fitted_samples"
  }
}

/// The results of `qconvert` on a checkpoint: arrays without a network.
public struct CheckpointReport: Report {
  /// The file of the arrays.
  public let source: FileSize
  /// The file that was written.
  public let output: FileSize
  /// Size of the source divided by the size of the output.
  public let ratio: Double
  /// Number of bits per weight; 32 if arrays stay float32.
  public let bits: Double
  /// How the bits were found; nil if they were asked for.
  public let budget: BudgetReport?
  /// The arrays, in the order of the source.
  public let arrays: [ArrayReport]
  /// Time of the whole conversion.
  public let seconds: Double

  /// A report from its parts; the ratio is computed from the file sizes.
  public init(
    source: FileSize, output: FileSize, bits: Double, budget: BudgetReport? = nil,
    arrays: [ArrayReport], seconds: Double
  ) {
    self.source = source
    self.output = output
    ratio = Double(source.bytes) / Double(output.bytes)
    self.bits = bits
    self.budget = budget
    self.arrays = arrays
    self.seconds = seconds
  }
}

/// One array of a checkpoint.
public struct ArrayReport: Codable, Hashable, Sendable {
  /// Its name in the file.
  public let name: String
  /// The extent of each axis, outermost first.
  public let shape: [Int]
  /// How the elements are stored: `4-bit per channel`, `float32`.
  public let form: String
  /// Size in the file, in bytes, including scales.
  public let bytes: Int
  /// Signal-to-quantization-noise ratio in dB; nil if the array is stored exactly.
  public let signalToNoiseDecibels: Double?
  /// Largest absolute difference of two elements; nil if the array is stored exactly.
  public let largestDifference: Double?

  /// A report from its parts.
  public init(
    name: String, shape: [Int], form: String, bytes: Int, signalToNoiseDecibels: Double?,
    largestDifference: Double?
  ) {
    self.name = name
    self.shape = shape
    self.form = form
    self.bytes = bytes
    self.signalToNoiseDecibels = signalToNoiseDecibels
    self.largestDifference = largestDifference
  }

  enum CodingKeys: String, CodingKey {
    case name, shape, form, bytes
    case signalToNoiseDecibels = "sqnr_db"
    case largestDifference = "largest_difference"
  }
}
