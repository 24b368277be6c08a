import QMRuntime

/// How close one output is to what is right.
public struct OutputReport: Codable, Hashable, Sendable {
  /// Name of the output.
  public let name: String
  /// Signal to quantization noise in dB; infinite where nothing differs.
  public let signalToNoiseDecibels: Double
  /// Largest magnitude of a difference.
  public let largestDifference: Double
  /// Cosine of the angle between the two.
  public let cosine: Double
  /// Share of the rows whose largest element is at the same place, 0 to 1; nil where rows have fewer
  /// than two elements.
  public let topOneAgreement: Double?
  /// Samples that were compared.
  public let samples: Int

  /// The figures of a comparison.
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
