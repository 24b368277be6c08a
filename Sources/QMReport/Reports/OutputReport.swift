import QMFormat
import QMRuntime

/// How close one output is to the correct one.
public struct OutputReport: Codable, Hashable, Sendable {
  /// A part of the output that was judged by itself.
  public struct Part: Codable, Hashable, Sendable {
    /// Which numbers these are, such as `y[…, 0..<4, :]`, `log odds of y`, or the name of the inner
    /// value from which the output is chosen.
    public let name: String
    /// Signal-to-quantization-noise ratio in dB, the median over the samples; infinite if nothing
    /// differs.
    public let signalToNoiseDecibels: Double
    /// Median absolute deviation of the samples from that, in dB.
    public let deviationDecibels: Double
    /// Whether the numbers are log odds of probabilities.
    public let areLogOdds: Bool

    enum CodingKeys: String, CodingKey {
      case name
      case signalToNoiseDecibels = "sqnr_db"
      case deviationDecibels = "deviation_db"
      case areLogOdds = "log_odds"
    }
  }

  /// One sample, by the part of the output that is worst over all samples.
  public struct Sample: Codable, Hashable, Sendable {
    /// Name of the sample.
    public let name: String
    /// SQNR in dB of the sample alone, of the worst part.
    public let signalToNoiseDecibels: Double

    enum CodingKeys: String, CodingKey {
      case name
      case signalToNoiseDecibels = "sqnr_db"
    }
  }

  /// One sample, with the figures of every part.
  public struct SampleFigures: Codable, Hashable, Sendable {
    /// Name of the sample.
    public let name: String
    /// SQNR in dB of the sample alone, of each of the ``OutputReport/parts`` or, without parts, of the
    /// output; nil for a part that this sample does not have.
    public let signalToNoiseDecibels: [Double?]

    enum CodingKeys: String, CodingKey {
      case name
      case signalToNoiseDecibels = "sqnr_db"
    }
  }

  /// Name of the output.
  public let name: String
  /// Whether the output is an input of the next step. Then its own error does not decide: its effect
  /// on the other outputs does, which have parts after one more step.
  public let isState: Bool
  /// Signal-to-quantization-noise ratio in dB: of each sample by the power of its own signal (of fewer
  /// samples than the file's, at least the usual one that the file states), the median over the
  /// samples, of the worst part. Infinite if nothing differs.
  public let signalToNoiseDecibels: Double
  /// Median absolute deviation of the samples from that, in dB.
  public let deviationDecibels: Double
  /// The parts that were judged by themselves; empty if the output is one part.
  public let parts: [Part]
  /// Number of elements that are infinite or NaN on one side only.
  public let misplaced: Int
  /// Number of samples for which the output has another shape.
  public let otherShapes: Int
  /// Largest absolute difference of two elements.
  public let largestDifference: Double
  /// Cosine similarity of the two, each as one vector.
  public let cosine: Double
  /// Fraction of the elements that are equal, 0 to 1; nil unless the output is chosen from others.
  public let agreement: Double?
  /// Fraction of the rows whose largest element has the same index in both, 0 to 1; nil unless rows
  /// are scores of classes.
  public let topOneAgreement: Double?
  /// Number of samples that were compared.
  public let samples: Int
  /// Name of the sample with the largest error of the worst part; nil if nothing differs.
  public let worstSample: String?
  /// SQNR in dB of that sample alone; nil without one.
  public let worstSampleDecibels: Double?
  /// The samples with the largest errors of the worst part, the worst first; at most ten.
  public let worstSamples: [Sample]
  /// All samples, in the order in which they were compared: a median over several reports needs them.
  public let eachSample: [SampleFigures]

  /// The report of a comparison.
  /// - Parameter samples: the names of the samples, in the order in which they were added.
  public init(_ name: String, _ comparison: OutputComparison, samples names: [String] = []) {
    self.name = name
    isState = comparison.isState
    let worst = comparison.worst.comparison
    signalToNoiseDecibels = worst.medianSignalToNoise
    deviationDecibels = worst.deviation
    parts = comparison.parts.filter { $0.comparison.sampleCount > 0 }.map {
      Part(
        name: $0.part.description(of: name),
        signalToNoiseDecibels: $0.comparison.medianSignalToNoise,
        deviationDecibels: $0.comparison.deviation, areLogOdds: $0.part.form != .elements)
    }
    misplaced = comparison.misplacedCount
    otherShapes = comparison.otherShapeCount
    largestDifference = comparison.whole.largestDifference
    cosine = comparison.whole.cosine
    agreement = comparison.agreement
    topOneAgreement = comparison.topOneAgreement
    samples = comparison.sampleCount
    worstSamples = comparison.samplesByError.lazy.filter { $0.index < names.count }
      .prefix(OutputReport.namedSamples)
      .map { Sample(name: names[$0.index], signalToNoiseDecibels: $0.signalToNoise) }
    eachSample = comparison.figuresOfSamples.enumerated().compactMap { index, figures in
      names.indices.contains(index)
        ? SampleFigures(name: names[index], signalToNoiseDecibels: figures) : nil
    }
    let worstSample = worstSamples.first.flatMap {
      $0.signalToNoiseDecibels < .infinity ? $0 : nil
    }
    self.worstSample = worstSample?.name
    worstSampleDecibels = worstSample?.signalToNoiseDecibels
  }

  /// Samples that a report names.
  private static let namedSamples = 10

  /// The figures that decide: those of the parts or, without parts, of the output; none for a state.
  public var decidingFigures: [Part] {
    guard !isState else { return [] }
    let whole = Part(
      name: name, signalToNoiseDecibels: signalToNoiseDecibels,
      deviationDecibels: deviationDecibels, areLogOdds: false)
    return parts.isEmpty ? [whole] : parts
  }

  /// How far the median over some samples may be from that over all by chance, in dB: the median of m
  /// numbers of a normal distribution has a standard deviation of 1.25 · 1.48 · MAD / √m, and two of
  /// those are 3.75 · MAD / √m.
  public static func chance(deviationDecibels deviation: Double, samples: Int) -> Double {
    3.75 * deviation / Double(max(samples, 1)).squareRoot()
  }

  enum CodingKeys: String, CodingKey {
    case name, parts, misplaced, cosine, agreement, samples
    case isState = "is_state"
    case otherShapes = "other_shapes"
    case worstSample = "worst_sample"
    case worstSamples = "worst_samples"
    case eachSample = "each_sample"
    case worstSampleDecibels = "worst_sample_sqnr_db"
    case signalToNoiseDecibels = "sqnr_db"
    case deviationDecibels = "deviation_db"
    case largestDifference = "largest_difference"
    case topOneAgreement = "top1_agreement"
  }
}
