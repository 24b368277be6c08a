/// What users judge a network by, as a number.
public struct MetricReport: Codable, Hashable, Sendable {
  /// Which figure.
  public enum Name: String, Codable, Sendable {
    /// Share of the decisions that are as the labels say, 0 to 1.
    case accuracy
    /// Share of the decisions that are as those of the float network, 0 to 1.
    case agreement
    /// Signal-to-noise ratio against labels or the float network, in dB.
    case signalToNoise = "sqnr_db"
  }

  /// Which values are better.
  public enum Direction: String, Codable, Sendable {
    case higher, lower
  }

  /// Which figure.
  public let name: Name
  /// The output that it is of.
  public let output: String
  /// Which values are better.
  public let better: Direction
  /// The figure.
  public let value: Double

  /// A figure of an output.
  public init(name: Name, output: String, better: Direction = .higher, value: Double) {
    self.name = name
    self.output = output
    self.better = better
    self.value = value
  }
}

/// The results of `qtune`.
public struct TuningReport: Report {
  /// The network's file.
  public let source: FileSize
  /// The file that was written.
  public let output: FileSize
  /// Size of the file that the conversion alone gives, in bytes.
  public let bytesBefore: Int
  /// Requested number of bits per weight.
  public let bits: Double
  /// Steps that were taken.
  public let steps: Int
  /// Largest learning rate; relative with adam and adamw.
  public let rate: Float
  /// Samples that were trained on.
  public let samples: Int
  /// Samples that were held out.
  public let heldOutSamples: Int
  /// Mean loss on the samples that were held out, before training.
  public let lossBefore: Double
  /// Mean loss on the same samples after training.
  public let lossAfter: Double
  /// The task's metric on the same samples, before training.
  public let metricBefore: MetricReport
  /// The metric after training.
  public let metricAfter: MetricReport
  /// Share of the trained codes that are 0, 0 to 1.
  public let zeroShare: Double
  /// Share of the steps whose gradients were clipped, 0 to 1.
  public let clippedShare: Double
  /// Where training went back to its best state, and why.
  public let divergences: [String]
  /// Comparison of each output with the float network, before training.
  public let outputsBefore: [OutputReport]
  /// Comparison of each output after training.
  public let outputs: [OutputReport]
  /// Number of probes in the file; nil if there are none.
  public let probes: Int?
  /// What each step did; nil if not requested.
  public let history: [StepReport]?
  /// How each node runs; nil if not requested.
  public let nodes: [NodeReport]?
  /// How close each inner value is to that of the float network, in the order in which they are
  /// computed; nil if not requested.
  public let values: [ValueReport]?
  /// The weights of the file and their codes; nil if not requested.
  public let weights: [WeightReport]?
  /// Time of the whole command, in seconds.
  public let seconds: Double

  /// A report from its parts.
  public init(
    source: FileSize, output: FileSize, bytesBefore: Int, bits: Double, steps: Int, rate: Float,
    samples: Int, heldOutSamples: Int, lossBefore: Double, lossAfter: Double,
    metricBefore: MetricReport, metricAfter: MetricReport, zeroShare: Double, clippedShare: Double,
    divergences: [String], outputsBefore: [OutputReport], outputs: [OutputReport],
    probes: Int? = nil, history: [StepReport]? = nil, nodes: [NodeReport]? = nil,
    values: [ValueReport]? = nil,
    weights: [WeightReport]? = nil, seconds: Double
  ) {
    self.source = source
    self.output = output
    self.bytesBefore = bytesBefore
    self.bits = bits
    self.steps = steps
    self.rate = rate
    self.samples = samples
    self.heldOutSamples = heldOutSamples
    self.lossBefore = lossBefore
    self.lossAfter = lossAfter
    self.metricBefore = metricBefore
    self.metricAfter = metricAfter
    self.zeroShare = zeroShare
    self.clippedShare = clippedShare
    self.divergences = divergences
    self.outputsBefore = outputsBefore
    self.outputs = outputs
    self.probes = probes
    self.history = history
    self.nodes = nodes
    self.values = values
    self.weights = weights
    self.seconds = seconds
  }

  enum CodingKeys: String, CodingKey {
    case source, output, bits, steps, rate, samples, divergences, outputs, seconds
    case history, nodes, values, weights, probes
    case bytesBefore = "bytes_before"
    case heldOutSamples = "held_out_samples"
    case lossBefore = "loss_before"
    case lossAfter = "loss_after"
    case metricBefore = "metric_before"
    case metricAfter = "metric_after"
    case zeroShare = "zero_share"
    case clippedShare = "clipped_share"
    case outputsBefore = "outputs_before"
  }
}

/// The results of `qtune --float`.
public struct FloatTuningReport: Report {
  /// The archive that was written.
  public let output: String
  /// Number of its arrays.
  public let arrays: Int
  /// Samples that were trained on.
  public let samples: Int
  /// Samples that were held out.
  public let heldOutSamples: Int
  /// Mean loss on the samples that were held out, before training.
  public let lossBefore: Double
  /// Mean loss on the same samples after training.
  public let lossAfter: Double
  /// The task's metric on the same samples, before training.
  public let metricBefore: MetricReport
  /// The metric after training.
  public let metricAfter: MetricReport
  /// What each step did; nil if not requested.
  public let history: [StepReport]?
  /// Time of the whole command, in seconds.
  public let seconds: Double

  /// A report from its parts.
  public init(
    output: String, arrays: Int, samples: Int, heldOutSamples: Int, lossBefore: Double,
    lossAfter: Double, metricBefore: MetricReport, metricAfter: MetricReport,
    history: [StepReport]? = nil, seconds: Double
  ) {
    self.output = output
    self.arrays = arrays
    self.samples = samples
    self.heldOutSamples = heldOutSamples
    self.lossBefore = lossBefore
    self.lossAfter = lossAfter
    self.metricBefore = metricBefore
    self.metricAfter = metricAfter
    self.history = history
    self.seconds = seconds
  }

  enum CodingKeys: String, CodingKey {
    case output, arrays, samples, history, seconds
    case heldOutSamples = "held_out_samples"
    case lossBefore = "loss_before"
    case lossAfter = "loss_after"
    case metricBefore = "metric_before"
    case metricAfter = "metric_after"
  }
}
