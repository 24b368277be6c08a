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
    /// What the result loses against the float network; nil if that was not asked.
    public let drop: Double?

    /// A trial from its parts.
    public init(
      bits: Double, predictedBytes: Int?, bytes: Int, predictedDecibels: Double?,
      signalToNoiseDecibels: Double?, drop: Double?
    ) {
      self.bits = bits
      self.predictedBytes = predictedBytes
      self.bytes = bytes
      self.predictedDecibels = predictedDecibels
      self.signalToNoiseDecibels = signalToNoiseDecibels
      self.drop = drop
    }

    enum CodingKeys: String, CodingKey {
      case bits, bytes, drop
      case predictedBytes = "predicted_bytes"
      case predictedDecibels = "predicted_sqnr_db"
      case signalToNoiseDecibels = "sqnr_db"
    }
  }

  /// Most bytes that the file may have; nil if that was not asked.
  public let targetBytes: Int?
  /// The bits that were chosen.
  public let bits: Double
  /// What was tried, in its order.
  public let trials: [Trial]

  /// A report from its parts.
  public init(targetBytes: Int? = nil, bits: Double, trials: [Trial]) {
    self.targetBytes = targetBytes
    self.bits = bits
    self.trials = trials
  }

  enum CodingKeys: String, CodingKey {
    case bits, trials
    case targetBytes = "target_bytes"
  }
}
