import QMFormat
import QMGraph
import QMOperations
import QMQuantization
import QMReport
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// `bits` is what a weight takes in the file on average, whatever the steps.
@Suite struct FreeGridTests {
  /// Three products, one of them with weights of very unlike size per channel.
  private func graph(_ shapes: [(outputs: Int, inputs: Int)] = [(96, 48), (64, 96), (10, 64)])
    throws
    -> Graph
  {
    var generator = SeededGenerator(seed: 7)
    var graph = Graph()
    var value = try graph.addInput(
      name: "x", ValueType(.float32, Shape([.free("rows"), .fixed(48)])))
    for (number, (outputs, inputs)) in shapes.enumerated() {
      let weights = try Tensor(
        [outputs, inputs],
        (0..<outputs * inputs).map { index in
          let channel = index / inputs
          return gaussian(&generator) / Float(inputs).squareRoot()
            * (number == 1 ? Float(1 + channel % 8) : 1)
        })
      value = try graph.append(
        .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: "product \(number)",
        [value, graph.addConstant(name: "w\(number)", weights)])[0]
      if number < 2 {
        value = try graph.append(.unary(Unary(.relu)), name: "relu \(number)", [value])[0]
      }
    }
    try graph.addOutput(name: "y", value)
    return graph
  }

  /// About normally distributed, with variance 1.
  private func gaussian(_ generator: inout SeededGenerator) -> Float {
    (0..<12).reduce(-6) { sum, _ in sum + Float.random(in: 0..<1, using: &generator) }
  }

  private func samples() throws -> TensorSamples {
    var generator = SeededGenerator(seed: 8)
    return TensorSamples(
      try (0..<24).map { _ in
        ["x": try Tensor([40, 48], (0..<40 * 48).map { _ in gaussian(&generator) })]
      })
  }

  private func convert(_ bits: Double, _ grid: Recipe.Grid = .free) throws -> Conversion {
    var recipe = Recipe(weights: .codes(bits), activations: .float)
    recipe.grid = grid
    return try Converter(recipe: recipe, options: Model.Options(threadCount: 2))
      .convert(graph(), samples: samples())
  }

  /// Codes and scales in the file.
  private func bitsPerWeight(_ conversion: Conversion) throws -> Double {
    let (tensors, file) = (conversion.plan.weights.values, conversion.program)
    let scaleBits = tensors.reduce(0) {
      $0
        + DataLayout.best(for: Array($1.scales.bytes), .float32, width: nil).bitCount
    }
    let codes = WeightSummary(try QMFile(file.encoded().withUnsafeBytes(Buffer.copying)))
      .storedByteCount
    let count = tensors.reduce(0) { $0 + $1.codes.elementCount }
    return Double(8 * codes + scaleBits) / Double(count)
  }

  @Test(arguments: [1.5, 2, 2.5, 3, 4, 5.5, 6.5, 7]) func theBudgetIsUsedAndKept(bits: Double)
    throws
  {
    let used = try bitsPerWeight(convert(bits))
    #expect(used <= bits)
    #expect(used > 0.93 * bits)
  }

  @Test func moreBitsGiveASmallerErrorAndFreeStepsASmallerOneThanFixedOnes() throws {
    func error(_ conversion: Conversion) -> Double {
      conversion.comparisons["y"]?.signalToNoise ?? 0
    }
    let free = try [2, 3, 4, 5].map { try error(convert($0)) }
    #expect(free == free.sorted())
    // Two bits more are about 12 dB.
    #expect(free[2] > free[0] + 8)
    // So are one and a half from 5.5 bits, where codes of 7 bits end, to 7.
    #expect(try error(convert(7)) > error(convert(5.5)) + 6)
    let fixed = try convert(3, .fixed)
    #expect(try error(convert(bitsPerWeight(fixed))) > error(fixed))
  }

  @Test func aWidthOfItsOwnCountsInsideTheBudget() throws {
    var recipe = Recipe(weights: .codes(3), activations: .float)
    recipe.widths = [.init(try NodePattern("product 2"), .eight)]
    let conversion = try Converter(recipe: recipe).convert(graph(), samples: samples())
    #expect(try bitsPerWeight(conversion) <= 3)
    let ranges = conversion.plan.weights.values.map(\.codeRange)
    #expect(ranges.contains { $0.upperBound > 100 })

    recipe.widths = [.init(try NodePattern("product .*"), .eight)]
    #expect(throws: QMError.self) {
      try Converter(recipe: recipe).convert(graph(), samples: samples())
    }
  }

  /// The effort is what is tried, and all of it keeps the budget.
  @Test(arguments: Recipe.Effort.allCases) func everyEffortKeepsTheBudget(effort: Recipe.Effort)
    throws
  {
    var recipe = Recipe(weights: .codes(2.5), activations: .float)
    recipe.effort = effort
    var tests = 0
    let conversion = try Converter(recipe: recipe).convert(
      graph(), samples: samples(),
      progress: { if case .testing = $0 { tests += 1 } })
    #expect((tests > 0) == (effort != .fast))
    let used = try bitsPerWeight(conversion)
    #expect(used <= 2.5 && used > 2.3)
  }

  /// Below the rate of steps of two standard deviations, the few weights of the first product once got
  /// the coarsest steps as well.
  @Test func aLargeTensorLeavesBitsForASmallOne() throws {
    let recipe = Recipe(weights: .codes(1.25), activations: .float)
    let conversion = try Converter(recipe: recipe).convert(
      graph([(8, 48), (320, 8), (10, 320)]), samples: samples())
    let small = try #require(conversion.plan.weights.values.first { $0.codes.elementCount == 384 })
    #expect(small.codeRange.upperBound >= 4)
    #expect(try bitsPerWeight(conversion) <= 1.25)
  }

  @Test func aFixedGridTakesNoFractions() throws {
    #expect(throws: QMError.self) { try convert(2.5, .fixed) }
  }
}
