import QMQuantization
import QMReport
import QMTensor

extension ConversionOptions {
  /// The recipe of the conversion: that of the recipe file, or else the default one, with the given
  /// options applied.
  /// - Parameter bits: of a weight; nil for those of the recipe file or the default recipe.
  /// - Throws: `usage` for an invalid recipe file or pattern, or for options that contradict each
  ///   other.
  func recipe(bits: Double?, hasSamples: Bool) throws(QMError) -> Recipe {
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
      for rule in bitsFor { recipe.widths.append(try ConversionOptions.widthRule(rule)) }
    }
    if !network.network.isEmpty { recipe.network = network.network }
    if let leastSignalToNoise { recipe.thresholds.leastDecibels = leastSignalToNoise }
    try check(recipe, hasSamples: hasSamples)
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
  private func check(_ recipe: Recipe, hasSamples: Bool) throws(QMError) {
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
}
