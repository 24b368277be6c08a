/// The results of `qverify` on a network.
public struct VerificationReport: Report {
  /// The source of the correct outputs.
  public enum Truth: String, Codable, Sendable {
    /// The expected outputs that come with the samples.
    case besideSamples = "outputs beside the samples"
    /// A reference network on the same inputs.
    case reference
    /// What the float network gave for the probes in the file.
    case probes = "the probes in the file"
    /// There were no correct outputs to compare with.
    case none
  }

  /// A value whose elements reached an end of their range.
  public struct SaturatedValue: Codable, Hashable, Sendable {
    /// Name of the value.
    public let name: String
    /// Fraction of its elements that reached an end of their range, 0 to 1.
    public let share: Double

    /// A value and its fraction.
    public init(name: String, share: Double) {
      self.name = name
      self.share = share
    }
  }

  /// What the user's own metric says.
  public struct Metric: Codable, Hashable, Sendable {
    /// The metric's name for its number; nil if it has none.
    public let name: String?
    /// The number for the file.
    public let value: Double
    /// The number for the reference; nil without one.
    public let reference: Double?
    /// How much worse the file is than the reference; nil without one.
    public let drop: Double?

    /// A metric from its parts.
    public init(name: String?, value: Double, reference: Double?, drop: Double?) {
      self.name = name
      self.value = value
      self.reference = reference
      self.drop = drop
    }
  }

  /// What the probes in the file say.
  public struct Probes: Codable, Hashable, Sendable {
    /// Number of probes.
    public let count: Int
    /// Number of those whose outputs have the digest in the file.
    public let agreeing: Int
    /// Whether their inputs were made from noise.
    public let areInputsMade: Bool
    /// SQNR in dB of the worst output, the median over the probes.
    public let medianDecibels: Double
    /// SQNR in dB of the worst probe.
    public let worstDecibels: Double

    enum CodingKeys: String, CodingKey {
      case count, agreeing
      case areInputsMade = "made_inputs"
      case medianDecibels = "median_sqnr_db"
      case worstDecibels = "worst_sqnr_db"
    }
  }

  /// Path of the file.
  public let file: String
  /// Size of the file, in bytes.
  public let bytes: Int
  /// Number of nodes.
  public let nodes: Int
  /// Number of constants in the file.
  public let constants: Int
  /// Number of inputs that were run: samples or seeded inputs.
  public var samples = 0
  /// What ``outputs`` were compared with.
  public var truth = Truth.none
  /// How close each output is; empty if there was nothing to compare with.
  public var outputs: [OutputReport] = []
  /// Fraction of the elements of activations with fixed ranges that reached an end of their range,
  /// 0 to 1; nil without such activations or without samples.
  public var saturation: Double?
  /// The values with the largest fractions.
  public var saturated: [SaturatedValue] = []
  /// What the probes in the file say; nil if there are none.
  public var probes: Probes?
  /// Kernel sets that gave the same bits; nil if not tested.
  public var identicalKernels: [String]?
  /// Number of inputs that the kernel sets were compared on; nil if not tested.
  public var selfTestSamples: Int?
  /// Why nothing was run; nil if something was.
  public var notRun: String?
  /// How close each inner value is, in the order in which they are computed; nil if not requested.
  public var values: [ValueReport]?
  /// The weights of the file and their codes; nil if not requested.
  public var weights: [WeightReport]?
  /// How each node runs, and why; nil if not requested.
  public var execution: [NodeReport]?
  /// The time of each node; nil if not requested.
  public var profile: [RunReport.ProfileEntry]?
  /// What the user's own metric says; nil if not requested.
  public var metric: Metric?
  /// Whether the file is as good as its metadata states, or as requested.
  public var passed = true
  /// Why it is not; nil if it is.
  public var failure: String?

  /// A report without results yet.
  public init(file: String, bytes: Int, nodes: Int, constants: Int) {
    self.file = file
    self.bytes = bytes
    self.nodes = nodes
    self.constants = constants
  }

  enum CodingKeys: String, CodingKey {
    case file, bytes, nodes, constants, samples, truth, outputs, saturation, saturated, values
    case weights, execution, profile, metric, passed, failure, probes
    case identicalKernels = "identical_kernels"
    case selfTestSamples = "self_test_samples"
    case notRun = "not_run"
  }
}

/// The results of `qverify` on a checkpoint.
public struct CheckpointVerificationReport: Report {
  /// Path of the file.
  public let file: String
  /// Size of the file, in bytes.
  public let bytes: Int
  /// How close each array is to the array that it was converted from.
  public let arrays: [OutputReport]
  /// Whether every array is as good as the file's metadata states, or as requested.
  public let passed: Bool

  /// A report from its parts.
  public init(file: String, bytes: Int, arrays: [OutputReport], passed: Bool) {
    self.file = file
    self.bytes = bytes
    self.arrays = arrays
    self.passed = passed
  }
}
