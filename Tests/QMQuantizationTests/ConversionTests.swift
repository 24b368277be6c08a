import QMGraph
import QMOperations
import QMQuantization
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// That samples are run several at a time is not to be seen in what comes out.
@Suite struct ConversionTests {
  private struct Samples: SampleSource {
    let tensors: [Tensor]
    /// In the order in which they are.
    let loaded = Locked<[Int]>([])
    var count: Int { tensors.count }
    func inputs(of index: Int) throws(QMError) -> [String: Tensor] {
      loaded.withLock { $0.append(index) }
      return ["x": tensors[index]]
    }
    func name(of index: Int) -> String { "sample \(index)" }
  }

  /// Two products with a steep function between them, rows free.
  private func graph() throws -> Graph {
    var generator = SeededGenerator(seed: 7)
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, Shape([.free("rows"), .fixed(24)])))
    func product(_ input: Graph.ValueID, _ extents: [Int], _ name: String) throws -> Graph.ValueID {
      let numbers = (0..<extents[0] * extents[1]).map { _ in
        Float.random(in: -1...1, using: &generator)
      }
      return try graph.append(
        .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: name,
        [input, graph.addConstant(name: "\(name).w", Tensor(extents, numbers))],
        outputNames: [name])[0]
    }
    let first = try product(x, [40, 24], "first")
    let steep = try graph.append(
      .unary(Unary(.exponential)), name: "steep", [first], outputNames: ["steep"])[0]
    try graph.addOutput(name: "y", product(steep, [10, 40], "second"))
    return graph
  }

  /// A table of what is added to masked scores holds −∞, for which there are no codes.
  @Test func aTableWithAnInfinityStaysFloat() throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.int64, Shape([.free("rows")])))
    let numbers = (0..<52).map { $0 == 5 || $0 == 30 ? -Float.infinity : Float($0 % 7) / 4 }
    let table = graph.addConstant(name: "table", try Tensor([13, 4], numbers))
    let rows = try graph.append(.gather(Gather(axis: 0)), name: "rows", [x, table].reversed())[0]
    let shares = try graph.append(.softmax(Softmax(.softmax, axis: 1)), name: "shares", [rows])[0]
    let weights = graph.addConstant(
      name: "w", try Tensor([6, 4], (0..<24).map { Float($0 % 5) / 8 - 0.3 }))
    let y = try graph.append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: "y", [shares, weights])[0]
    try graph.addOutput(name: "y", y)
    let samples = try (0..<8).map { index in
      try Tensor([13], (0..<13).map { Int64(($0 * 5 + index) % 13) })
    }
    let conversion = try Converter(recipe: Recipe(weights: .codes(8), activations: .int8))
      .convert(graph, samples: Samples(tensors: samples))
    let held = conversion.program.constants.filter { $0.tensor.shape == [13, 4] }
    #expect(held.count == 1 && held.first?.tensor.elementType == .float32)
    let result = try #require(Model(conversion.program).run(["x": samples[0]])["y"])
    let isFinite = result.elements(as: Float.self).allSatisfy { $0.isFinite }
    #expect(isFinite)
  }

  /// Samples of 1 to 97 rows: short ones overtake long ones.
  private func samples(_ count: Int, channels: Int = 24) throws -> [Tensor] {
    var generator = SeededGenerator(seed: 11)
    return try (0..<count).map { index in
      let rows = 1 + index * 37 % 97
      return try Tensor(
        [rows, channels],
        (0..<rows * channels).map { _ in Float.random(in: -1...1, using: &generator) })
    }
  }

  private func conversion(_ tensors: [Tensor], threadCount: Int) throws -> Conversion {
    try Converter(
      recipe: Recipe(weights: .codes(4), activations: .int8),
      options: Model.Options(threadCount: threadCount)
    )
    .convert(graph(), samples: Samples(tensors: tensors))
  }

  @Test(arguments: [1, 2, 3, 40]) func theProgramIsTheSameOnAnyNumberOfSamples(count: Int) throws {
    let tensors = try samples(count)
    let one = try conversion(tensors, threadCount: 1)
    #expect(one.comparisons["y"]?.sampleCount == [1: 1, 2: 2, 3: 3, 40: 10][count])
    for threadCount in [2, 3, 8] {
      let several = try conversion(tensors, threadCount: threadCount)
      #expect(several.program == one.program, "\(threadCount) threads")
      #expect(several.comparisons == one.comparisons, "\(threadCount) threads")
    }
  }

  /// Results wait for those before them: samples from the end would be kept to the end.
  @Test(arguments: [1, 2, 5]) func samplesAreTakenFromTheFrontOn(threadCount: Int) throws {
    let samples = try Samples(tensors: samples(40))
    let runs = try ReferenceRuns(
      graph(), over: samples, options: Model.Options(threadCount: threadCount),
      memoryBudget: 1 << 20)
    _ = try runs.statistics(of: [Observation(.range, of: OperandPlace(node: 0, operand: 0))])
    // All are loaded once before, to find those that are kept; 10 judge and 6 choose.
    let order = samples.loaded.withLock { Array($0.dropFirst(40)) }
    let fitting = order.sorted()
    #expect(Set(fitting).count == 24 && order.count == 24)
    for (place, index) in order.enumerated() {
      #expect(try #require(fitting.firstIndex(of: index)) < place + threadCount)
    }
  }

  @Test(arguments: [1, 4]) func theFirstSampleThatDoesNotFitIsNamed(threadCount: Int) throws {
    var tensors = try samples(12)
    for index in [3, 4, 9] { tensors[index] = try samples(1, channels: 23)[0] }
    let failure = #expect(throws: QMError.self) {
      try conversion(tensors, threadCount: threadCount)
    }
    #expect(failure?.code == .invalidInput)
    #expect(failure.map { "\($0)".contains("sample 3") } ?? false, "\(String(describing: failure))")
  }
}
