import QMQuantization
import QMReport
import QMTensor

extension ConvertCommand {
  /// The recipe of the conversion: that of the recipe file, or else the default one, with the given
  /// options applied.
  /// - Throws: `usage` for an invalid recipe file or pattern, or for options that contradict each
  ///   other.
  func recipe() throws(QMError) -> Recipe {
    var recipe = Recipe()
    if let recipeFile {
      let file = try Buffer.reading(path: recipeFile)
      recipe = try within(.file(recipeFile)) { () throws(QMError) in
        try Recipe(json: withExtendedLifetime(file) { Array(file.bytes) })
      }
    }
    if let bits, let width = Recipe.WeightWidth(bits: bits) { recipe.weights = width }
    if let grid { recipe.grid = grid }
    if let effort { recipe.effort = effort }
    if let activations { recipe.activations = activations }
    if let ranges { recipe.rangeEstimator = ranges }
    if perTensor { recipe.granularity = .perTensor }
    if let groupSize { recipe.groupSize = groupSize }
    if !keepFloat.isEmpty {
      recipe.floatNodes = []
      for pattern in keepFloat { recipe.floatNodes.append(try NodePattern(pattern)) }
    }
    if !bitsFor.isEmpty {
      recipe.widths = []
      for rule in bitsFor { recipe.widths.append(try ConvertCommand.widthRule(rule)) }
    }
    if !network.network.isEmpty { recipe.network = network.network }
    if let leastSignalToNoise { recipe.thresholds.leastDecibels = leastSignalToNoise }
    try check(recipe)
    return recipe
  }

  private static func widthRule(_ text: String) throws(QMError) -> Recipe.WidthRule {
    guard let equals = text.lastIndex(of: "="),
      let width = Int(text[text.index(after: equals)...]).flatMap(BitWidth.init)
    else {
      throw .usage(
        "--bits-for '\(text.abbreviated)': expected REGEX=BITS with 2 to 8 bits")
    }
    return .init(try NodePattern(String(text[..<equals])), width)
  }

  /// - Throws: `usage` if parts of the recipe contradict each other.
  private func check(_ recipe: Recipe) throws(QMError) {
    let isFloat = recipe.weights.bits > 8
    if recipe.grid == .free, recipe.groupSize != nil {
      throw .usage("--grid free has no groups of channels; leave out --group-size")
    }
    if recipe.activations == .int8, !hasSamples, !isFloat {
      throw .usage("--activations int8 needs --samples")
    }
    if isFloat {
      guard recipe.activations ?? .float == .float, recipe.granularity != .perTensor,
        recipe.groupSize == nil, recipe.widths.isEmpty, recipe.floatNodes.isEmpty
      else {
        throw .usage(
          "--bits 16 and 32 run the network in float; leave out --activations, --per-tensor, "
            + "--group-size, --bits-for and --keep-float")
      }
    }
    if let size = recipe.groupSize, size < 1 || recipe.granularity == .perTensor {
      throw .usage(
        "group size \(size): expected at least 1, and no scales per tensor in the same recipe")
    }
  }

  // MARK: Quality

  /// Checks the error of each output against the quality that the recipe requires. Made inputs say
  /// less than samples: at 8 bits and more, the default requirement on them is a remark only.
  /// - Throws: `qualityTooLow` if an output does not reach it; `usage` if the user requires a quality
  ///   and nothing was measured.
  func requireQuality(
    of conversion: Conversion, _ recipe: Recipe, _ console: Console
  ) throws(QMError) {
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
    if bits < 8, !budget.isSearch { remedies.append(.useBits(min(Int(bits) + 2, 8))) }
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
