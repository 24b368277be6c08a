/// What `qconvert` made of a network.
public struct ConversionReport: Report {
  /// A value that stays float32 where others have fixed ranges, and why.
  public struct FloatValue: Codable, Hashable, Sendable {
    public let value: String
    public let reason: String

    public init(value: String, reason: String) {
      self.value = value
      self.reason = reason
    }
  }

  public let source: FileSize
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
  public let source: FileSize
  public let output: FileSize
  /// Bytes of the source over bytes of the output.
  public let ratio: Double
  /// Bits of a weight that were asked for; 32 where arrays stay float32.
  public let bits: Int
  public let arrays: [ArrayReport]
  /// Time of the whole conversion.
  public let seconds: Double

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
  public let name: String
  public let shape: [Int]
  /// How the elements are stored: `4-bit per channel`, `float32`.
  public let form: String
  /// The bytes that it takes in the file, scales included.
  public let bytes: Int
  /// Signal to quantization noise in dB; nil where the elements are the numbers given.
  public let signalToNoiseDecibels: Double?
  /// Largest magnitude of a difference; nil where the elements are the numbers given.
  public let largestDifference: Double?

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
