/// What `qverify` found of a network.
public struct VerificationReport: Report {
  /// What outputs were compared with.
  public enum Truth: String, Codable, Sendable {
    /// The expected outputs of the samples.
    case besideSamples = "outputs beside the samples"
    /// A reference network on the same inputs.
    case reference
    /// Nothing was known.
    case none
  }

  /// A value, and the share of its elements that met an end of their range, 0 to 1.
  public struct SaturatedValue: Codable, Hashable, Sendable {
    /// Name of the value.
    public let name: String
    /// Of its elements, 0 to 1.
    public let share: Double

    /// A value and its share.
    public init(name: String, share: Double) {
      self.name = name
      self.share = share
    }
  }

  /// How close a value within the network is to that of the reference.
  public struct Value: Codable, Hashable, Sendable {
    /// Name of the value in both networks.
    public let name: String
    /// Name of the operation that computes it; empty for an input.
    public let operation: String
    /// Signal to quantization noise in dB.
    public let signalToNoiseDecibels: Double

    /// A value with all its figures.
    public init(name: String, operation: String, signalToNoiseDecibels: Double) {
      self.name = name
      self.operation = operation
      self.signalToNoiseDecibels = signalToNoiseDecibels
    }

    enum CodingKeys: String, CodingKey {
      case name, operation
      case signalToNoiseDecibels = "sqnr_db"
    }
  }

  /// Path of the file.
  public let file: String
  /// Its size in bytes.
  public let bytes: Int
  /// Number of nodes.
  public let nodes: Int
  /// Number of tensors in the file.
  public let constants: Int
  /// Inputs that were run: samples, or seeded ones.
  public var samples = 0
  /// What ``outputs`` were compared with.
  public var truth = Truth.none
  /// Empty where there was nothing to compare with.
  public var outputs: [OutputReport] = []
  /// Share of the activations with fixed ranges that met an end of their range, 0 to 1; nil where
  /// there are none, or no samples.
  public var saturation: Double?
  /// The values that met it most often.
  public var saturated: [SaturatedValue] = []
  /// Kernel sets that gave the same bits; nil where that was not tested.
  public var identicalKernels: [String]?
  /// Inputs that the kernel sets were compared on; nil where that was not tested.
  public var selfTestSamples: Int?
  /// Why nothing was run; nil where something was.
  public var notRun: String?
  /// Value by value; nil where that was not asked for.
  public var values: [Value]?
  /// Whether the file is as good as it says, or as was asked for.
  public var passed = true

  /// A report of nothing that was compared yet.
  public init(file: String, bytes: Int, nodes: Int, constants: Int) {
    self.file = file
    self.bytes = bytes
    self.nodes = nodes
    self.constants = constants
  }

  enum CodingKeys: String, CodingKey {
    case file, bytes, nodes, constants, samples, truth, outputs, saturation, saturated, values
    case passed
    case identicalKernels = "identical_kernels"
    case selfTestSamples = "self_test_samples"
    case notRun = "not_run"
  }
}

/// What `qverify` found of a file of weights.
public struct CheckpointVerificationReport: Report {
  /// Path of the file.
  public let file: String
  /// Its size in bytes.
  public let bytes: Int
  /// Each array against the one it was made of.
  public let arrays: [OutputReport]
  /// Whether every array is as good as the file says, or as was asked for.
  public let passed: Bool

  /// A report with all its figures.
  public init(file: String, bytes: Int, arrays: [OutputReport], passed: Bool) {
    self.file = file
    self.bytes = bytes
    self.arrays = arrays
    self.passed = passed
  }
}
