import QMFormat
import QMGraph
import QMOperations
import QMReport
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// One number over a whole output hides small elements beside large ones.
@Suite struct JudgedPartsTests {
  private typealias Part = Program.Metadata.Part

  private func parts(_ graph: Graph, _ samples: [[String: Tensor]]) throws -> JudgedParts {
    let program = graph.flattened().program
    return try JudgedParts(of: program, Model(program), on: samples)
  }

  /// Concat of `[1, 4, 6]` and `[1, 3, 6]` along axis 1, then what `moves` adds.
  private func concatenation(
    _ moves: (inout Graph, Graph.ValueID) throws -> Graph.ValueID
  ) throws -> JudgedParts {
    var graph = Graph()
    let boxes = try graph.addInput(name: "boxes", ValueType(.float32, [1, 4, 6]))
    let scores = try graph.addInput(name: "scores", ValueType(.float32, [1, 3, 6]))
    let joined = try graph.append(
      .concatenate(Concatenate(axis: 1)), name: "joined", [boxes, scores])[0]
    try graph.addOutput(name: "y", moves(&graph, joined))
    return try parts(
      graph,
      [
        [
          "boxes": Tensor([1, 4, 6], [Float](repeating: 300, count: 24)),
          "scores": Tensor([1, 3, 6], [Float](repeating: 0.5, count: 18)),
        ]
      ])
  }

  @Test func theOperandsOfAConcatAreParts() throws {
    let found = try concatenation { $1 }
    #expect(
      found.parts == ["y": [Part(axis: -2, ranges: [0..<4]), Part(axis: -2, ranges: [4..<7])]])
  }

  @Test func theyAreFollowedThroughTransposeAndReshape() throws {
    let found = try concatenation { graph, joined in
      let turned = try graph.append(
        .transpose(Transpose(permutation: [0, 2, 1])), name: "turned", [joined])[0]
      return try graph.append(
        .reshape(Reshape()), name: "flat",
        [turned, graph.addConstant(name: "s", Tensor([2], [Int64(6), 7]))])[0]
    }
    #expect(
      found.parts == ["y": [Part(axis: -1, ranges: [0..<4]), Part(axis: -1, ranges: [4..<7])]])
  }

  /// Rows of one number have no highest score, so that no loss of agreement could be found.
  @Test(arguments: [1, 3]) func rowsOfSeveralNumbersAreScores(count: Int) throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, Shape([.free("n"), .fixed(2)])))
    let weights = graph.addConstant(
      name: "w", try Tensor([2, count], [Float](repeating: 1, count: 2 * count)))
    let product = try graph.append(
      .matrixMultiply(MatrixMultiply(rightLayout: .depthFirst)), name: "product", [x, weights])[0]
    try graph.addOutput(name: "y", product)
    let found = try parts(graph, [["x": Tensor([1, 2], [1, 2] as [Float])]])
    #expect(found.scores == (count > 1 ? ["y"] : []))
  }

  @Test func aReshapeThatMixesThemLeavesOnePart() throws {
    let found = try concatenation { graph, joined in
      try graph.append(
        .reshape(Reshape()), name: "mixed",
        [joined, graph.addConstant(name: "s", Tensor([2], [Int64(21), 2]))])[0]
    }
    // 24 elements of one operand are 12 rows of two.
    #expect(
      found.parts == ["y": [Part(axis: -2, ranges: [0..<12]), Part(axis: -2, ranges: [12..<21])]])
  }

  @Test func elementsOfUnlikeMagnitudeAreGroups() throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, [100, 5]))
    try graph.addOutput(
      name: "y", graph.append(.unary(Unary(.negate)), name: "y", [x])[0])
    let rows = (0..<50).flatMap { _ in [300, 0.5, 250, 0.2, 0, 310, 0.4, 260, 0.1, 0] as [Float] }
    let found = try parts(graph, [["x": Tensor([100, 5], rows)]])
    #expect(
      found.parts == [
        "y": [
          Part(axis: -1, ranges: [0..<1, 2..<3]), Part(axis: -1, ranges: [1..<2, 3..<4]),
        ]
      ])
  }

  /// The parts of an output `y` that `operations` compute from `x`.
  private func parts(_ shape: [Int], _ operations: [Operation]) throws -> [Part]? {
    var graph = Graph()
    var value = try graph.addInput(name: "x", ValueType(.float32, Shape(shape)))
    for (index, operation) in operations.enumerated() {
      value = try graph.append(operation, name: "\(index)", [value])[0]
    }
    try graph.addOutput(name: "y", value)
    let numbers = (0..<shape.reduce(1, *)).map { Float($0 * 37 % 101) }
    return try parts(graph, [["x": Tensor(shape, numbers)]]).parts["y"]
  }

  @Test func probabilitiesAreJudgedByTheirLogOdds() throws {
    let softmax = Operation.softmax(Softmax(.softmax, axis: 1))
    #expect(try parts([1, 4], [softmax]) == [Part(axis: -1, form: .classLogOdds)])
    let turn = Operation.transpose(Transpose(permutation: [0, 2, 1]))
    #expect(try parts([1, 4, 3], [softmax, turn]) == [Part(axis: -1, form: .classLogOdds)])
    let sigmoid = Operation.unary(Unary(.sigmoid))
    #expect(try parts([1, 4], [sigmoid]) == [Part(form: .logOdds)])
    // These reach 0 and 1, where log odds end.
    #expect(try parts([1, 4], [.unary(Unary(.hardSigmoid(alpha: 0.2, beta: 0.5)))]) == nil)
    #expect(try parts([1, 4], [.unary(Unary(.tanh))]) == nil)
    #expect(try parts([1, 4], [.softmax(Softmax(.logSoftmax, axis: 1))]) == nil)
  }

  @Test func aChoiceIsJudgedByTheNumbersInFrontOfIt() throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, [1, 4]))
    let scores = try graph.append(
      .unary(Unary(.tanh)), name: "scores", [x], outputNames: ["scores"])[0]
    let best = try graph.append(
      .argMinMax(ArgMinMax(.maximum, axis: 1, keepsAxis: true)),
      name: "best", [scores])[0]
    try graph.addOutput(name: "y", best)
    let found = try parts(graph, [["x": Tensor([1, 4], [1, 2, 3, 4] as [Float])]])
    #expect(found.parts == ["y": [Part(value: "scores")]])
    #expect(found.innerValues == ["scores"])
  }

  /// How often values are found again grows as 2⁶⁴ with the depth.
  @Test func manyPathsToOneValueAreFollowedOnce() throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, [1, 4]))
    var value = try graph.append(.unary(Unary(.sigmoid)), name: "sigmoid", [x])[0]
    let bounds = try [0, 1, 0].map { number in
      try graph.addConstant(name: "bound \(number)", Tensor([1], [Int64(number)]))
    }
    for index in 0..<64 {
      let both = try graph.append(
        .concatenate(Concatenate(axis: 0)), name: "both \(index)", [value, value])[0]
      value = try graph.append(.slice(Slice()), name: "half \(index)", [both] + bounds)[0]
    }
    try graph.addOutput(name: "y", value)
    let numbers = try Tensor([1, 4], [1, 2, 3, 4] as [Float])
    #expect(try parts(graph, [["x": numbers]]).parts == ["y": [Part(form: .logOdds)]])

    var sums = Graph()
    let a = try sums.addInput(name: "a", ValueType(.float32, [1, 4]))
    let weights = try sums.addConstant(name: "w", Tensor([4, 4], (0..<16).map { Float($0) }))
    var sum = try sums.append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: "product", [a, weights])[
        0]
    for index in 0..<64 {
      sum = try sums.append(.binary(Binary(.add)), name: "sum \(index)", [sum, sum])[0]
    }
    try sums.addOutput(name: "y", sum)
    let judged = try parts(sums, [["a": numbers]])
    var comparison = judged.comparison(of: "y")
    try comparison.add(reference: numbers, measured: numbers)
    #expect(comparison.topOneAgreement == 1)
  }

  @Test func howManyAreNotZeroIsAChoice() throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, [1, 4]))
    let relu = try graph.append(
      .unary(Unary(.relu)), name: "relu", [x], outputNames: ["relu"])[0]
    try graph.addOutput(
      name: "y", graph.append(.nonZero(NonZero()), name: "places", [relu])[0])
    let found = try parts(graph, [["x": Tensor([1, 4], [1, -2, 3, 4] as [Float])]])
    #expect(found.parts == ["y": [Part(value: "relu")]])
    // Rounding made one of them zero: the numbers in front say how much that is.
    var comparison = found.comparison(of: "y")
    func results(_ numbers: [Float]) throws -> JudgedRun.Results {
      let program = graph.flattened().program
      return try JudgedRun(program, found)(
        Session(Model(program)), ["x": Tensor([1, 4], numbers)])
    }
    try comparison.add(
      "y", reference: results([3, -1, 4, 0.003]), measured: results([3, -1, 4, 0]))
    #expect(comparison.signalToNoise > 60)
    #expect(comparison.otherShapeCount == 1)
    #expect(comparison.misplacedCount == 0)
    #expect(comparison.agreement == 0)
    #expect(OutputReport("y", comparison).otherShapes == 1)
  }

  // MARK: Comparison

  @Test func anOutputOfAnotherShapeIsWrongAltogether() throws {
    var comparison = OutputComparison()
    for _ in 0..<3 {
      try comparison.add(
        reference: Tensor([1, 3], [1, 2, 3] as [Float]),
        measured: Tensor([1, 3], [1, 2, 3.1] as [Float]))
    }
    #expect(comparison.signalToNoise > 20)
    for count in 1...4 {
      try comparison.add(
        reference: Tensor([1, 3], [1, 2, 3] as [Float]),
        measured: Tensor([1, 2], [1, 2] as [Float])
      )
      #expect(comparison.otherShapeCount == count)
      #expect(comparison.misplacedCount == 0)
    }
    // More than half of the samples.
    #expect(comparison.signalToNoise == -.infinity)
  }

  @Test func theWorstPartIsTheFigure() throws {
    var comparison = OutputComparison([
      Part(axis: -1, ranges: [0..<1]), Part(axis: -1, ranges: [1..<3]),
    ])
    for sample in 1...3 {
      let size = Float(sample)
      try comparison.add(
        reference: Tensor([1, 3], [300, 0.5 * size, 0.5 * size]),
        measured: Tensor([1, 3], [300.3, 0.55 * size, 0.5 * size]))
    }
    #expect(comparison.whole.medianSignalToNoise > 59)
    // 2 · 0.25 / 0.0025 of every sample, whatever its size.
    #expect(abs(comparison.signalToNoise - 23.01) < 0.01)
    #expect(comparison.worst.part == Part(axis: -1, ranges: [1..<3]))
    #expect(comparison.worst.comparison.deviation < 0.01)
    #expect(comparison.measurements(output: 0).count { $0.measure == .signalToNoise } == 2)
  }

  private func softmax(_ margins: [Float]) throws -> Tensor {
    let logits = try Tensor([margins.count, 2], margins.flatMap { [$0 / 2, -$0 / 2] })
    return try Operation.softmax(Softmax(.softmax, axis: 1)).evaluate([logits])[0]
  }

  /// Of confident answers, the probabilities are equal to many digits, whatever happened in front.
  @Test func saturatedProbabilitiesHideNoDamage() throws {
    var (plain, judged) = (
      OutputComparison(), OutputComparison([Part(axis: -1, form: .classLogOdds)])
    )
    for margin in [24, -30, 20, -26] as [Float] {
      // Noise of a quarter of the signal.
      let (float, damaged) = (try softmax([margin]), try softmax([margin / 2]))
      try plain.add(reference: float, measured: damaged)
      try judged.add(reference: float, measured: damaged)
    }
    #expect(plain.signalToNoise > 80)
    #expect(abs(judged.signalToNoise - 6.02) < 0.1)
    #expect(judged.whole.largestDifference < 0.01)
    #expect(judged.parts[0].comparison.normalizedErrors.allSatisfy { abs($0 - 0.25) < 0.01 })
  }

  @Test func aShiftOfAllClassesIsNoError() throws {
    var judged = OutputComparison([Part(axis: -2, form: .classLogOdds)])
    let probabilities: [Float] = [0.5, 0.1, 0.3, 0.1, 0.2, 0.8]
    try judged.add(
      reference: Tensor([1, 3, 2], probabilities),
      measured: Tensor([1, 3, 2], probabilities.map { $0 / 4 }))
    #expect(judged.signalToNoise > 100)
  }

  @Test func maskedClassesAreLeftOut() throws {
    var judged = OutputComparison([Part(axis: -1, form: .classLogOdds)])
    try judged.add(
      reference: Tensor([1, 4], [0.25, 0.25, 0.5, 0] as [Float]),
      measured: Tensor([1, 4], [0.25, 0.5, 0.25, 0] as [Float]))
    // Two of three logarithms differ by ln 2, beside ⅔ (ln 2)².
    #expect(abs(judged.signalToNoise - -4.77) < 0.01)
  }

  /// That most events are rare is no signal.
  @Test func theMeanOfLogOddsIsNoSignal() throws {
    var judged = OutputComparison([Part(form: .logOdds)])
    let odds = (0..<16).map { Float($0 % 2 == 0 ? 0x1p-10 : 0x1p-12) }
    try judged.add(
      reference: Tensor([16], odds.map { $0 / (1 + $0) }),
      measured: Tensor([16], odds.map { $0 * 2 / (1 + $0 * 2) }))
    // ± ln 2 about the mean, and a noise of ln 2.
    #expect(abs(judged.signalToNoise) < 0.01)
  }

  @Test func aLoudSampleIsOneOfMany() throws {
    var comparison = Comparison()
    for (size, error) in [(1, 0.1), (1, 0.1), (1, 0.1), (1000, 0.1)] as [(Float, Float)] {
      try comparison.add(
        reference: Tensor([2], [size, size]), measured: Tensor([2], [size + error, size]))
    }
    #expect(comparison.signalToNoise > 70)
    // The quiet ones count as a hundredth of the average at least: 5,000 instead of 2.
    #expect(comparison.medianSignalToNoise < 58)
  }

  /// One of eight samples is so loud that the others count as almost nothing beside the average.
  @Test func aVeryLoudSampleHidesNoOther() throws {
    var comparison = Comparison()
    for size in [1, 1, 1, 1, 1, 1, 1, 1e15] as [Float] {
      try comparison.add(
        reference: Tensor([2], [size, size]), measured: Tensor([2], [2 * size, size]))
    }
    #expect(abs(comparison.medianSignalToNoise - 3.01) < 0.01)
  }

  @Test func infinitiesInOtherPlacesAreCounted() throws {
    var comparison = Comparison()
    try comparison.add(
      reference: Tensor([4], [-.infinity, 1, .nan, 2] as [Float]),
      measured: Tensor([4], [-.infinity, -.infinity, 3, 2] as [Float]))
    #expect(comparison.misplacedCount == 2)
    #expect(comparison.medianSignalToNoise == -.infinity)
    #expect(comparison.signalToNoise == -.infinity)
  }

  @Test func partsHaveNamesThatPeopleRead() {
    #expect(Part(axis: -2, ranges: [0..<4]).description(of: "y") == "y[…, 0..<4, :]")
    #expect(Part(axis: -1, ranges: [0..<1, 2..<3]).description(of: "y") == "y[…, 0..<1+2..<3]")
    #expect(Part(value: "scores").description(of: "y") == "scores")
    #expect(Part().description(of: "y") == "y")
    #expect(
      Part(axis: -1, ranges: [0..<4], form: .logOdds, isNextStep: true).description(of: "y")
        == "log odds of y[…, 0..<4] after one more step")
  }
}
