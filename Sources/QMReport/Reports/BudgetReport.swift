/// How `qconvert` chose the bits of a weight.
public struct BudgetReport: Report {
  /// A conversion that was tried.
  public struct Trial: Codable, Hashable, Sendable {
    /// Bits of a weight in the file.
    public let bits: Double
    /// Size of the file as predicted before the conversion, in bytes; nil if nothing told.
    public let predictedBytes: Int?
    /// Size of the file, in bytes.
    public let bytes: Int
    /// SQNR in dB as predicted from earlier trials; nil for the first.
    public let predictedDecibels: Double?
    /// SQNR in dB of the worst part of an output; nil if nothing was measured.
    public let signalToNoiseDecibels: Double?
    /// What the result loses as predicted from earlier trials of a search; nil if nothing tells.
    public let predictedDrop: Double?
    /// What the result loses against the float network; nil if that was not asked.
    public let drop: Double?

    /// A trial from its parts.
    public init(
      bits: Double, predictedBytes: Int?, bytes: Int, predictedDecibels: Double?,
      signalToNoiseDecibels: Double?, predictedDrop: Double? = nil, drop: Double?
    ) {
      self.bits = bits
      self.predictedBytes = predictedBytes
      self.bytes = bytes
      self.predictedDecibels = predictedDecibels
      self.signalToNoiseDecibels = signalToNoiseDecibels
      self.predictedDrop = predictedDrop
      self.drop = drop
    }

    enum CodingKeys: String, CodingKey {
      case bits, bytes, drop
      case predictedBytes = "predicted_bytes"
      case predictedDrop = "predicted_drop"
      case predictedDecibels = "predicted_sqnr_db"
      case signalToNoiseDecibels = "sqnr_db"
    }
  }

  /// What a conversion with so many bits would give.
  public struct Prediction: Codable, Hashable, Sendable {
    /// Bits of a weight in the file.
    public let bits: Double
    /// Size of the file, in bytes.
    public let bytes: Int
    /// SQNR in dB of the worst part of an output; nil if nothing was measured.
    public let signalToNoiseDecibels: Double?

    /// A prediction from its parts.
    public init(bits: Double, bytes: Int, signalToNoiseDecibels: Double?) {
      self.bits = bits
      self.bytes = bytes
      self.signalToNoiseDecibels = signalToNoiseDecibels
    }

    enum CodingKeys: String, CodingKey {
      case bits, bytes
      case signalToNoiseDecibels = "sqnr_db"
    }
  }

  /// What may be lost.
  public struct Drop: Codable, Hashable, Sendable {
    /// What is measured: `top-1 agreement`, `error power`, `SQNR in dB`, or the metric.
    public let measure: String
    /// The metric of the float network; nil without a metric.
    public let float: Double?
    /// Most that may be lost, in the unit of ``Trial/drop``; nil if nothing was asked.
    public let allowed: Double?

    /// A loss from its parts.
    public init(measure: String, float: Double?, allowed: Double?) {
      self.measure = measure
      self.float = float
      self.allowed = allowed
    }
  }

  /// Most bytes that the file may have; nil if that was not asked.
  public let targetBytes: Int?
  /// What may be lost, or what is measured; nil if nothing was asked.
  public let drop: Drop?
  /// The bits that were chosen or asked for.
  public let bits: Double
  /// What was tried, in its order.
  public let trials: [Trial]

  /// A report from its parts.
  public init(
    targetBytes: Int? = nil, drop: Drop? = nil, bits: Double, trials: [Trial]
  ) {
    self.targetBytes = targetBytes
    self.drop = drop
    self.bits = bits
    self.trials = trials
  }

  enum CodingKeys: String, CodingKey {
    case bits, trials, drop
    case targetBytes = "target_bytes"
  }
}

/// The results of `qconvert --dry-run`: what conversions with several numbers of bits would give.
public struct DryRunReport: Report {
  /// What the weights of a node cost.
  public struct WeightCost: Codable, Hashable, Sendable {
    /// Name of the node.
    public let node: String
    /// Name of the weights.
    public let weights: String
    /// Number of weights.
    public let count: Int
    /// Estimated bytes in the file.
    public let bytes: Int
    /// Share of the error that the rounding of all weights causes at the outputs, 0 to 1.
    public let errorShare: Double
    /// What the outputs lose, in dB, for each 1000 bytes that these weights give up.
    public let decibelsPerKilobyte: Double

    /// A node's costs from their parts.
    public init(
      node: String, weights: String, count: Int, bytes: Int, errorShare: Double,
      decibelsPerKilobyte: Double
    ) {
      self.node = node
      self.weights = weights
      self.count = count
      self.bytes = bytes
      self.errorShare = errorShare
      self.decibelsPerKilobyte = decibelsPerKilobyte
    }

    enum CodingKeys: String, CodingKey {
      case node, weights, count, bytes
      case errorShare = "error_share"
      case decibelsPerKilobyte = "db_per_kb"
    }
  }

  /// The network's file.
  public let source: FileSize
  /// What was tried and, with a budget, chosen.
  public let budget: BudgetReport
  /// What the weights cost with the chosen bits, the dearest first; empty if their codes all have the
  /// same width.
  public let nodes: [WeightCost]
  /// Number of samples.
  public let samples: Int
  /// Number of inputs that the conversion made from noise, because it got no samples.
  public let madeInputs: Int
  /// Time of all conversions.
  public let seconds: Double

  /// A report from its parts.
  public init(
    source: FileSize, budget: BudgetReport, nodes: [WeightCost], samples: Int, madeInputs: Int,
    seconds: Double
  ) {
    self.source = source
    self.budget = budget
    self.nodes = nodes
    self.samples = samples
    self.madeInputs = madeInputs
    self.seconds = seconds
  }

  enum CodingKeys: String, CodingKey {
    case source, budget, nodes, samples, seconds
    case madeInputs = "made_inputs"
  }
}
