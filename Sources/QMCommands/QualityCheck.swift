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
    let thresholds = recipe.thresholds
    if let least = thresholds.leastDecibels, least <= 0 { return }
    let reports = conversion.outputReports
    if reports.isEmpty, thresholds.leastDecibels != nil {
      throw QMError.usage(
        "--min-sqnr needs --samples on which to measure the network"
          + (conversion.notMeasured.map { "; no made input serves: \($0)" } ?? ""))
    }
    guard
      let worst = insufficientParts(of: conversion)
        .min(by: { $0.signalToNoiseDecibels < $1.signalToNoiseDecibels })
    else { return }
    let bits = recipe.weights.bits
    if conversion.areSamplesMade, thresholds.leastDecibels == nil, bits >= 8 {
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
      worst.signalToNoiseDecibels, of: worst.name, required: thresholds.required(of: worst),
      tried: tried, remedies: remedies)
  }

  /// The parts of outputs that are worse than required.
  func insufficientParts(of conversion: Conversion) -> [OutputReport.Part] {
    if let least = recipe.thresholds.leastDecibels, least <= 0 { return [] }
    return conversion.outputReports.flatMap(\.decidingFigures).filter {
      !($0.signalToNoiseDecibels >= recipe.thresholds.required(of: $0))
    }
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

extension Recipe.Thresholds {
  /// The required SQNR of a part of an output, in dB.
  func required(of part: OutputReport.Part) -> Double {
    leastDecibels
      ?? (part.areLogOdds
        ? Recipe.Thresholds.leastDecibelsOfLogOdds : Recipe.Thresholds.leastDecibelsOfNetwork)
  }
}
