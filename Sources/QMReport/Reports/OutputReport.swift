import QMRuntime

/// How close one output is to the correct one.
public struct OutputReport: Codable, Hashable, Sendable {
  /// Name of the output.
  public let name: String
  /// Signal-to-quantization-noise ratio in dB; infinite if nothing differs.
  public let signalToNoiseDecibels: Double
  /// Largest absolute difference of two elements.
  public let largestDifference: Double
  /// Cosine similarity of the two, each as one vector.
  public let cosine: Double
  /// Fraction of the rows whose largest element has the same index in both, 0 to 1; nil if rows
  /// have fewer than two elements.
  public let topOneAgreement: Double?
  /// Number of samples that were compared.
  public let samples: Int

  /// The report of a comparison.
  public init(_ name: String, _ comparison: Comparison) {
    self.name = name
    signalToNoiseDecibels = comparison.signalToNoise
    largestDifference = comparison.largestDifference
    cosine = comparison.cosine
    topOneAgreement = comparison.topOneAgreement
    samples = comparison.sampleCount
  }

  enum CodingKeys: String, CodingKey {
    case name, cosine, samples
    case signalToNoiseDecibels = "sqnr_db"
    case largestDifference = "largest_difference"
    case topOneAgreement = "top1_agreement"
  }
}
