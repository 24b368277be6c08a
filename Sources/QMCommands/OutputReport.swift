import QMQuantization
import QMTensor

/// How close one output is, for `--json`.
struct OutputReport: Encodable {
  let name: String
  let signalToNoiseDecibels: Double
  let largestDifference: Double
  let cosine: Double
  let topOneAgreement: Double?
  let samples: Int

  init(_ name: String, _ comparison: Comparison) {
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

extension Console {
  /// The figures of all outputs, one a line.
  func table(of reports: [OutputReport]) {
    table(
      ["output", "SQNR", "largest difference", "cosine", "top-1 agrees", "samples"],
      reports.map { report in
        [
          report.name.abbreviated, Units.decibels(report.signalToNoiseDecibels),
          Units.significant(report.largestDifference), Units.fixed(report.cosine, 6),
          report.topOneAgreement.map { Units.percent($0) } ?? "–", "\(report.samples)",
        ]
      }, trailing: [1, 2, 3, 4, 5])
  }
}
