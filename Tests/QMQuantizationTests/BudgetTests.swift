import QMFormat
import QMGraph
import QMOperations
import QMQuantization
import QMTensor
import QMTestSupport
import Testing

@Suite("Budgets of bytes and quality") struct BudgetTests {
  // MARK: Curves

  @Test func aCurveIsALineBetweenItsPoints() {
    var curve = RateCurve(slope: 6, guess: (4, 100))
    #expect(curve.value(at: 5) == 106)
    #expect(curve.bits(at: 94) == 3)
    curve.add(bits: 4, value: 20)
    #expect(curve.value(at: 2) == 8)
    curve.add(bits: 8, value: 40)
    curve.add(bits: 2, value: 12)
    #expect(curve.value(at: 3) == 16)
    #expect(curve.value(at: 6) == 30)
    #expect(curve.bits(at: 30) == 6)
    // Beyond the ends as between the nearest two points.
    #expect(curve.value(at: 1) == 8)
    #expect(curve.bits(at: 50) == 10)
    curve.add(bits: 8, value: 44)
    #expect(curve.value(at: 6) == 32)
  }

  @Test func aCurveThatFallsGoesOnWithItsSlope() {
    var curve = RateCurve(slope: 6)
    #expect(curve.value(at: 4) == nil)
    curve.add(bits: 4, value: 20)
    curve.add(bits: 5, value: 19)
    #expect(curve.value(at: 6) == 25)
  }

  /// For any growing quantity and limit, the search ends at the crossing.
  @Test(arguments: 0..<40) func aSearchFindsTheCrossing(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    let widths = (2...60).map { Double($0) / 4 }
    var values: [Double] = []
    for _ in widths {
      values.append((values.last ?? 0) + Double.random(in: 0...1, using: &generator))
    }
    let limit = Double.random(in: -1...values.last! + 1, using: &generator)
    var search = CrossingSearch(
      widths, limit: limit, curve: RateCurve(slope: 2), isNoisy: seed % 2 == 0)
    var measured: Set<Int> = []
    while let index = search.next(towardsAbove: seed % 3 == 0) {
      #expect(measured.insert(index).inserted, "measured twice")
      search.add(values[index], at: index, isBelow: values[index] < limit)
    }
    #expect(search.below == values.lastIndex { $0 < limit })
    #expect(search.above == values.firstIndex { $0 >= limit })
  }

  @Test func aLineIsFoundAtOnce() {
    let widths = (150...800).map { Double($0) / 100 }
    var search = CrossingSearch(
      widths, limit: 4321, curve: RateCurve(slope: 1000, guess: (1, 1100)), isNoisy: false)
    var count = 0
    while let index = search.next(towardsAbove: false) {
      let value = 1000 * widths[index] + 300
      search.add(value, at: index, isBelow: value <= 4321)
      count += 1
    }
    #expect(widths[search.below!] == 4.02)
    #expect(count <= 3)
  }

  @Test func impossibleWidthsAreLeftOut() {
    var search = CrossingSearch(
      [1, 2, 3, 4], limit: 2, curve: RateCurve(slope: 1, guess: (1, 1)), isNoisy: false)
    search.exclude(1)
    #expect(search.next(towardsAbove: false) == 2)
    search.add(3, at: 2, isBelow: false)
    #expect(search.next(towardsAbove: false) == nil)
    #expect(search.below == nil)
  }

  // MARK: Conversions

  private struct Prepared {
    let graph: Graph
    let samples: TensorSamples
    let conversion: PreparedConversion
  }

  private func prepared(_ recipe: Recipe = Recipe()) throws -> Prepared {
    var network = try TestNetwork([1, 32])
    let hidden = try network.unary(.relu, network.product(network.x, 96, "first"), "hidden")
    let y = try network.product(hidden, 24, "second")
    var graph = network.graph
    try graph.addOutput(name: "y", y)
    let samples = try TensorSamples(
      (0..<40).map { ["x": try Tensor([1, 32], numbers(32, seed: $0, -1...1))] })
    return Prepared(
      graph: graph, samples: samples,
      conversion: try Converter(recipe: recipe).prepare(graph, samples: samples))
  }

  /// What was observed once serves every width.
  @Test(arguments: [8, 4, 2.5]) func aPreparedNetworkGivesTheSameProgram(bits: Double) throws {
    let prepared = try prepared()
    for _ in 0..<2 {
      let program = try prepared.conversion.convert(.codes(bits)).program
      let direct = try Converter(recipe: Recipe(weights: .codes(bits)))
        .convert(prepared.graph, samples: prepared.samples).program
      #expect(try program.encoded() == direct.encoded())
    }
  }

  @Test func theMostBitsWithinASizeAreFound() throws {
    let prepared = try prepared()
    var sizes: [Int] = []
    for bits in [8, 4, 2, 1.5] {
      sizes.append(try prepared.conversion.convert(.codes(bits)).program.encoded().count)
    }
    for limit in [sizes[0] + 100, sizes[1], (sizes[1] + sizes[2]) / 2] {
      var trials = try BudgetTrials(prepared.conversion, recipe: Recipe())
      let result = try trials.mostBits(within: limit)
      #expect(result.file.count <= limit)
      #expect(result.bits == 8 || Double(result.file.count) > 0.97 * Double(limit))
      #expect(trials.trials.count <= 5)
      #expect(try result.conversion.program.encoded() == result.file)
    }
    var all = try BudgetTrials(prepared.conversion, recipe: Recipe())
    #expect(try all.mostBits(within: sizes[0] + 100).bits == 8)
  }

  @Test func aSizeThatNoFileHasNamesTheSmallest() throws {
    var trials = try BudgetTrials(try prepared().conversion, recipe: Recipe())
    let smallest = try trials.convert(bits: 1.5).file.count
    let error = #expect(throws: QMError.self) { try trials.mostBits(within: 200) }
    #expect(error?.code == .usage)
    #expect(error?.message.contains("\(smallest) bytes") == true, "\(String(describing: error))")
  }

  /// Fixed grids have whole numbers of bits only.
  @Test func fixedGridsTakeWholeNumbers() throws {
    var recipe = Recipe()
    recipe.grid = .fixed
    let prepared = try prepared(recipe)
    let four = try prepared.conversion.convert(.codes(4)).program.encoded().count
    var trials = try BudgetTrials(prepared.conversion, recipe: recipe)
    #expect(try trials.mostBits(within: four + 60).bits == 4)
  }

  @Test func theFewestBitsWithinALossAreFound() throws {
    let prepared = try prepared()
    var trials = try BudgetTrials(prepared.conversion, recipe: Recipe())
    // A loss that depends on the bits alone.
    func loss(_ conversion: Conversion) -> Double {
      let entry = conversion.program.metadata.recipe.first { $0.key == "bits" }
      let bits = entry.flatMap { Double($0.value) } ?? 8
      return 1 / (bits * bits)
    }
    let result = try trials.fewestBits(losing: 0.1, drop: loss)
    // 1 / 3.25² = 0.095, 1 / 3² = 0.111.
    #expect(result?.bits == 3.25)
    #expect(trials.trials.count <= 5)
    var none = try BudgetTrials(prepared.conversion, recipe: Recipe())
    #expect(try none.fewestBits(losing: 0.001, drop: loss) == nil)
    #expect(none.trials.last?.bits == 8)
  }
}
