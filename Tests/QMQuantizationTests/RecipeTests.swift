import QMFormat
import QMQuantization
import QMTensor
import Testing

@Suite struct RecipeTests {
  /// One recipe with every field unlike its default.
  private func unlikeTheDefaults() throws -> Recipe {
    let (three, seven) = (try #require(BitWidth(3)), try #require(BitWidth(7)))
    var recipe = Recipe(
      weights: .codes(3), activations: .dynamic, granularity: .perTensor,
      rangeEstimator: .percentile(99.5))
    recipe.groupSize = 16
    recipe.effort = .best
    recipe.floatNodes = [try NodePattern("head/.*")]
    recipe.widths = [.init(try NodePattern("\"first\""), seven)]
    recipe.network.inputs = ["x=1,3,height,width"]
    recipe.network.outputs = ["logits"]
    recipe.network.settings = ["rate=16000"]
    recipe.thresholds.belowPlateauDecibels = 1.5
    recipe.thresholds.sufficientDecibels = 31.5
    recipe.thresholds.sufficientDecibelsOfLogOdds = 21.5
    recipe.prices.int8 = 0.5
    recipe.prices.dynamic = 0.75
    recipe.prices.int16 = 1.5
    recipe.prices.float = 2.5
    recipe.thresholds.leastDecibels = 18
    return recipe
  }

  @Test func jsonGivesTheRecipeBack() throws {
    for recipe in [Recipe(), try unlikeTheDefaults(), Recipe(weights: .float32)] {
      #expect(try Recipe(json: Array(recipe.json.utf8)) == recipe)
    }
  }

  @Test func aFileKeepsWhatDiffersFromTheDefaults() throws {
    #expect(Recipe().entries.map(\.key) == ["version"])
    var recipe = Recipe()
    recipe.rangeEstimator = .meanSquaredError
    #expect(
      recipe.entries == [
        .init("version", "1"), .init("ranges", "\"mse\""),
      ])
    for recipe in [recipe, try unlikeTheDefaults()] {
      #expect(try Recipe(entries: recipe.entries) == recipe)
    }
  }

  @Test(arguments: [
    (#"{"bit": 4}"#, "unknown key 'bit'"),
    (#"{"bits": 9}"#, "bits 9"),
    (#"{"bits": "4"}"#, "'bits'"),
    (#"{"ranges": "best"}"#, "ranges 'best'"),
    (#"{"thresholds": {"tolerated": 3}}"#, "unknown key 'tolerated'"),
    (#"{"prices": {"int16": 0}}"#, "int16 is 0.0, expected a positive number"),
    (#"{"keep_float": ["("]}"#, "'(' is not a regular expression"),
    (#"{"bits_for": [{"nodes": "a", "bits": 1}]}"#, "bits 1"),
    ("[]", "not a recipe"), ("{", "not a recipe"), ("", "not a recipe"),
  ])
  func badJSONIsToldInOneLine(json: String, words: String) {
    do {
      _ = try Recipe(json: Array(json.utf8))
      Issue.record("\(json) was read")
    } catch {
      #expect(error.message.contains(words), "\(error)")
      #expect(!error.message.contains("\n"))
    }
  }

  @Test func anotherVersionIsUnsupported() {
    #expect(throws: QMError.unsupported("")) { try Recipe(json: Array(#"{"version": 2}"#.utf8)) }
  }

  @Test func activationsFollowFromTheSamples() {
    #expect(Recipe().resolved(hasSamples: true).activations == .int8)
    #expect(Recipe().resolved(hasSamples: false).activations == .dynamic)
    #expect(Recipe(weights: .float32).resolved(hasSamples: true).activations == .float)
    #expect(Recipe(activations: .float).resolved(hasSamples: true).activations == .float)
  }
}
