import QMQuantization
import QMReport
import QMTensor

/// Whether a conversion is as good as its recipe requires.
struct QualityCheck {
  private let recipe: Recipe
  /// The file that was converted.
  private let input: String
  /// Whether more bits are a remedy.
  private let canChooseBits: Bool

  init(_ recipe: Recipe, of input: String, canChooseBits: Bool = true) {
    self.recipe = recipe
    self.input = input
    self.canChooseBits = canChooseBits
  }

  /// Checks the error of each output against the quality that the recipe requires. Made inputs say
  /// less than samples: at 8 bits and more, the default requirement on them is a remark only.
  /// - Throws: `qualityTooLow` if an output does not reach it; `usage` if the user requires a quality
  ///   and nothing was measured.
  func require(_ conversion: Conversion, _ console: Console) throws(QMError) {
    let required = recipe.thresholds.leastDecibels ?? Recipe.Thresholds.leastDecibelsOfNetwork
    guard required > 0 else { return }
    let reports = conversion.outputReports
    if reports.isEmpty, recipe.thresholds.leastDecibels != nil {
      throw QMError.usage(
        "--min-sqnr needs --samples on which to measure the network"
          + (conversion.notMeasured.map { "; no made input serves: \($0)" } ?? ""))
    }
    guard
      let worst = reports.flatMap(\.decidingFigures).min(by: {
        $0.signalToNoiseDecibels < $1.signalToNoiseDecibels
      }),
      !(worst.signalToNoiseDecibels >= required)
    else { return }
    let bits = recipe.weights.bits
    if conversion.areSamplesMade, recipe.thresholds.leastDecibels == nil, bits >= 8 {
      console.note(
        "SQNR of '\(worst.name.abbreviated)' on made inputs is only "
          + "\(Units.decibels(worst.signalToNoiseDecibels)); give --samples")
      return
    }
    var remedies: [Remedy] = conversion.areSamplesMade ? [.giveSamples] : []
    if bits < 8, canChooseBits { remedies.append(.useBits(min(Int(bits) + 2, 8))) }
    if recipe.activations == .int8 {
      remedies.append(.useRanges(recipe.rangeEstimator == .minMax ? "mse" : "minmax"))
    }
    if recipe.granularity == .perTensor { remedies.append(.useScalesPerChannel) }
    let tried = conversion.alternatives.map {
      "\($0.name) activations \(Units.decibels($0.signalToNoiseDecibels))"
    }
    throw tooLow(
      worst.signalToNoiseDecibels, of: worst.name, required: required, tried: tried,
      remedies: remedies)
  }

  /// The error for a value whose SQNR is lower than required, both in dB.
  /// - Parameter tried: what was measured, each with its result.
  func tooLow(
    _ signalToNoise: Double, of value: String, required: Double, tried: [String] = [],
    remedies: [Remedy]
  ) -> QMError {
    QMError(
      .qualityTooLow,
      "SQNR \(Units.decibels(signalToNoise)) is under --min-sqnr \(Units.decibels(required)), "
        + "nothing was written"
        + (tried.isEmpty ? "" : "; tried: " + tried.joined(separator: ", ")),
      remedies: remedies + [.acceptQuality], context: [.file(input), .value(value)])
  }
}
