import QMFormat
import QMGraph
import QMOperations
import QMQuantization
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// Without samples a conversion makes its own: they fit weights and measure, and never stop it.
@Suite struct MadeSamplesTests {
  /// A convolution of a picture with free sides, a batch normalization if `variance` is given, and
  /// a second convolution.
  private func graph(variance: Float? = nil) throws -> Graph {
    var generator = SeededGenerator(seed: 3)
    var graph = Graph()
    var value = try graph.addInput(
      name: "x",
      ValueType(.float32, Shape([.free("n"), .fixed(3), .free("height"), .free("width")])))
    func convolution(_ shape: [Int], _ name: String) throws {
      let weights = graph.addConstant(name: "\(name).w", try generator.tensor(shape))
      value = try graph.append(
        .convolution(
          Convolution(
            order: .channelsFirst, strides: [1, 1], dilations: [1, 1],
            padding: .explicit(before: [1, 1], after: [1, 1]), groups: 1)), name: name,
        [value, weights], outputNames: [name])[0]
    }
    try convolution([8, 3, 3, 3], "first")
    if let variance {
      func constant(_ name: String, _ number: Float) throws -> Graph.ValueID {
        graph.addConstant(name: name, try Tensor([8], [Float](repeating: number, count: 8)))
      }
      value = try graph.append(
        .batchNormalization(BatchNormalization(order: .channelsFirst, epsilon: 0)), name: "norm",
        [
          value, constant("scale", 1), constant("bias", 0), constant("mean", 0),
          constant("variance", variance),
        ], outputNames: ["norm"])[0]
    }
    value = try graph.append(.unary(Unary(.relu)), name: "relu", [value])[0]
    try convolution([4, 8, 3, 3], "second")
    try graph.addOutput(name: "y", value)
    return graph
  }

  private func made(_ graph: Graph) throws -> MadeSamples {
    try MadeSamples(
      for: DefaultPasses.run(on: graph).flattened().program, asRead: graph.flattened().program,
      Model.Options())
  }

  @Test func theFileSaysThatItsFiguresAreOfMadeInputs() throws {
    let conversion = try Converter(recipe: Recipe(weights: .codes(4))).convert(graph())
    #expect(conversion.areSamplesMade)
    #expect(conversion.sampleCount == MadeSamples.sampleCount)
    let metadata = conversion.program.metadata
    #expect(metadata.isMeasuredOnMadeInputs)
    #expect(!metadata.entries.contains { $0.key == "samples" })
    #expect(metadata.measurements.contains { $0.measure == .signalToNoise })
    // Nothing was fixed on them.
    #expect(!conversion.plan.activations.isEmpty)
    #expect(conversion.plan.activations.values.allSatisfy { $0 == .dynamic })
  }

  @Test func theProgramIsTheSameOnAnyNumberOfThreads() throws {
    func program(_ threadCount: Int) throws -> Program {
      try Converter(
        recipe: Recipe(weights: .codes(3)), options: Model.Options(threadCount: threadCount)
      ).convert(graph(variance: 4)).program
    }
    let one = try program(1)
    #expect(try program(2) == one)
    #expect(try program(5) == one)
  }

  /// 0.01 and 400: what one convolution of unit noise gives is neither.
  @Test(arguments: [Float(0.01), 400]) func noiseIsAsLoudAsABatchNormalizationExpects(
    variance: Float
  ) throws {
    let graph = try graph(variance: variance)
    let samples = try made(graph)
    var first = graph.flattened().program
    let norm = try #require(
      first.nodes.first { if case .batchNormalization = $0.operation { true } else { false } })
    first.outputs = [.init(name: "response", value: try #require(norm.inputs[0]))]
    let model = try Model(first)
    for index in 0..<samples.count {
      let response = try #require(try model.run(samples.inputs(of: index))["response"])
      var variances: [Float] = []
      let elements = response.elements(as: Float.self)
      let plane = response.shape[2] * response.shape[3]
      for channel in 0..<8 {
        let part = elements[channel * plane..<(channel + 1) * plane]
        let mean = part.reduce(0, +) / Float(plane)
        variances.append(part.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Float(plane))
      }
      // The factor is exact within a tenth, in the median.
      let median = variances.sorted()[4]
      #expect(median > 0.6 * variance && median < 1.6 * variance, "\(index): \(median)")
    }
  }

  @Test func withoutSuchAStatementAmplitudesDiffer() throws {
    let samples = try made(graph())
    var powers: Set<Int> = []
    var shapes: Set<[Int]> = []
    for index in 0..<samples.count {
      let x = try #require(try samples.inputs(of: index)["x"])
      shapes.insert(x.shape)
      let square = x.elements(as: Float.self).reduce(0.0) { $0 + Double($1) * Double($1) }
      powers.insert(Int((square / Double(x.elementCount) * 10_000).rounded()))
    }
    #expect(powers == [25, 900, 10_000, 90_000])
    #expect(shapes.count > 1)
  }

  /// `(x − 100) / 20` asks for numbers near 100.
  @Test func constantsInFrontOfTheNetworkAreUndone() throws {
    var graph = Graph()
    var generator = SeededGenerator(seed: 5)
    let x = try graph.addInput(name: "x", ValueType(.float32, Shape([.free("n"), .fixed(16)])))
    func constant(_ name: String, _ number: Float) throws -> Graph.ValueID {
      graph.addConstant(name: name, try Tensor([16], [Float](repeating: number, count: 16)))
    }
    let centred = try graph.append(
      .binary(Binary(.subtract)), name: "centre", [x, constant("mean", 100)])[0]
    let scaled = try graph.append(
      .binary(Binary(.divide)), name: "scale", [centred, constant("deviation", 20)])[0]
    let y = try graph.append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: "product",
      [scaled, graph.addConstant(name: "w", generator.tensor([4, 16]))])[0]
    try graph.addOutput(name: "y", y)
    let samples = try made(graph)
    for index in 0..<samples.count {
      let x = try #require(try samples.inputs(of: index)["x"]).elements(as: Float.self)
      let square = x.reduce(0) { $0 + ($1 - 100) * ($1 - 100) } / 16
      #expect(abs(square - 400) < 1, "\(index): \(square)")
    }
  }

  /// Only 21 numbers fit, which nobody would try.
  @Test(arguments: [4, 3.5])
  func aNetworkThatRunsOnNoMadeInputIsConvertedFromItsWeights(bits: Double) throws {
    var graph = Graph()
    var generator = SeededGenerator(seed: 6)
    let x = try graph.addInput(name: "x", ValueType(.float32, [.free("n"), .free("m")]))
    let shape = graph.addConstant(name: "shape", try Tensor([2], [Int64(3), 7]))
    let rows = try graph.append(.reshape(Reshape()), name: "rows", [x, shape])[0]
    let y = try graph.append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: "product",
      [rows, graph.addConstant(name: "w", generator.tensor([4, 7]))])[0]
    try graph.addOutput(name: "y", y)
    let conversion = try Converter(recipe: Recipe(weights: .codes(bits))).convert(graph)
    #expect(conversion.notMeasured?.isEmpty == false)
    #expect(conversion.comparisons.isEmpty)
    #expect(conversion.sampleCount == 0)
    #expect(!conversion.program.metadata.isMeasuredOnMadeInputs)
    #expect(conversion.plan.weights.count == 1)
    #expect(throws: Never.self) {
      try Model(conversion.program).run(["x": Tensor(zeros: .float32, [1, 21])])
    }
  }

  @Test func anImpossibleRecipeIsRefusedAsWithSamples() throws {
    var recipe = Recipe(weights: .codes(3))
    recipe.widths = [.init(try NodePattern(".*"), .eight)]
    let error = #expect(throws: QMError.self) { try Converter(recipe: recipe).convert(graph()) }
    #expect(error?.code == .usage)
  }
}
