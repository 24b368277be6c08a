/// What `qconvert` made of a network.
public struct ConversionReport: Report {
  /// A value that stays float32 where others have fixed ranges, and why.
  public struct FloatValue: Codable, Hashable, Sendable {
    /// Name of the value.
    public let value: String
    /// Why, as a phrase: `no sample computes it`.
    public let reason: String

    /// A value and its reason.
    public init(value: String, reason: String) {
      self.value = value
      self.reason = reason
    }
  }

  /// The network's file.
  public let source: FileSize
  /// The file that was written.
  public let output: FileSize
  /// Bytes of the source over bytes of the output.
  public let ratio: Double
  /// Bits of a weight that were asked for; 32 for a float program.
  public let bits: Int
  /// How activations feed the products: `int8`, `dynamic` or `float`.
  public let activations: String
  /// How fixed ranges were found: `minmax`; nil where there are none.
  public let ranges: String?
  /// Samples that were given.
  public let samples: Int
  /// Empty where nothing was measured.
  public let outputs: [OutputReport]
  /// Values that stay float32.
  public let kept: [FloatValue]
  /// How every node runs; nil where that was not asked for.
  public let nodes: [NodeReport]?
  /// Time of the whole conversion.
  public let seconds: Double

  /// A report with all its figures; the ratio follows from the files.
  public init(
    source: FileSize, output: FileSize, bits: Int, activations: String, ranges: String?,
    samples: Int, outputs: [OutputReport], kept: [FloatValue], nodes: [NodeReport]?,
    seconds: Double
  ) {
    self.source = source
    self.output = output
    ratio = Double(source.bytes) / Double(output.bytes)
    self.bits = bits
    self.activations = activations
    self.ranges = ranges
    self.samples = samples
    self.outputs = outputs
    self.kept = kept
    self.nodes = nodes
    self.seconds = seconds
  }
}

/// What `qconvert` made of arrays without a network.
public struct CheckpointReport: Report {
  /// The file of the arrays.
  public let source: FileSize
  /// The file that was written.
  public let output: FileSize
  /// Bytes of the source over bytes of the output.
  public let ratio: Double
  /// Bits of a weight that were asked for; 32 where arrays stay float32.
  public let bits: Int
  /// In the order of the source.
  public let arrays: [ArrayReport]
  /// Time of the whole conversion.
  public let seconds: Double

  /// A report with all its figures; the ratio follows from the files.
  public init(
    source: FileSize, output: FileSize, bits: Int, arrays: [ArrayReport], seconds: Double
  ) {
    self.source = source
    self.output = output
    ratio = Double(source.bytes) / Double(output.bytes)
    self.bits = bits
    self.arrays = arrays
    self.seconds = seconds
  }
}

/// One array of a file of weights.
public struct ArrayReport: Codable, Hashable, Sendable {
  /// Its name in the file.
  public let name: String
  /// Extents, outermost axis first.
  public let shape: [Int]
  /// How the elements are stored: `4-bit per channel`, `float32`.
  public let form: String
  /// The bytes that it takes in the file, scales included.
  public let bytes: Int
  /// Signal to quantization noise in dB; nil where the elements are the numbers given.
  public let signalToNoiseDecibels: Double?
  /// Largest magnitude of a difference; nil where the elements are the numbers given.
  public let largestDifference: Double?

  /// A report with all its figures.
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
