import QMGraph
import QMOperations
import QMQuantization
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

@Suite struct SecondMomentsTests {
  /// A product of `[rows, length]` with `[4, length]`.
  private func graph(length: Int) throws -> Graph {
    var graph = Graph()
    let x = try graph.addInput(
      name: "x", ValueType(.float32, Shape([.free("rows"), .fixed(length)])))
    let weights = graph.addConstant(
      name: "w", try Tensor([4, length], [Float](repeating: 1, count: 4 * length)))
    let y = try graph.append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: "y", [x, weights])[0]
    try graph.addOutput(name: "y", y)
    return graph
  }

  private func samples(_ rowCounts: [Int], length: Int, seed: UInt64 = 1) throws -> [Tensor] {
    var generator = SeededGenerator(seed: seed)
    return try rowCounts.map { rows in
      try Tensor(
        [rows, length],
        (0..<rows * length).map { _ in Float.random(in: -2...3, using: &generator) })
    }
  }

  private let place = OperandPlace(node: 0, operand: ProductOperand.weights)

  private func moments(
    _ graph: Graph, _ samples: [Tensor], threadCount: Int = 1, budget: Int = 1 << 30
  ) throws -> SecondMoments {
    let runs = try ReferenceRuns(
      graph, over: TensorSamples(samples.map { ["x": $0] }),
      options: Model.Options(threadCount: threadCount), memoryBudget: budget)
    var found: [SecondMoments] = []
    _ = try runs.statistics(
      of: [Observation(.secondMoments, of: place)], take: { found.append($1) })
    return try #require(found.first)
  }

  /// The definition: 512 rows of a sample at a time, chains of fused multiply-adds in float32, their
  /// sum to the nearest 2⁻⁴⁰.
  private func defined(_ samples: [Tensor], _ i: Int, _ j: Int) -> Int128 {
    var total: Int128 = 0
    for sample in samples {
      let (rows, length) = (sample.shape[0], sample.shape[1])
      let elements = sample.elements(as: Float.self)
      for first in stride(from: 0, to: rows, by: 512) {
        var sum: Float = 0
        for row in first..<min(first + 512, rows) {
          sum = sum.addingProduct(elements[row * length + i], elements[row * length + j])
        }
        total += Int128((Double(sum) * 0x1p40).rounded(.toNearestOrEven))
      }
    }
    return total
  }

  @Test(arguments: [1, 5, 257, 300]) func theSumsAreAsDefined(length: Int) throws {
    let samples = try samples([1, 511, 513, 1200], length: length)
    let moments = try moments(graph(length: length), samples)
    #expect(moments.count == 2225)
    #expect(moments.blocks == [0..<length])
    let matrix = moments.meanProducts(block: 0, group: 0)
    for (i, j) in [(0, 0), (0, length - 1), (length / 2, length / 3), (length - 1, length - 1)] {
      let expected = Double(defined(samples, i, j)) * 0x1p-40 / 2225
      #expect(matrix[i * length + j] == expected, "\(i), \(j)")
      #expect(matrix[j * length + i] == expected, "\(j), \(i)")
    }
    let sums = samples.reduce(0.0) { sum, sample in
      sum
        + stride(from: 0, to: sample.elementCount, by: length)
        .reduce(0.0) { $0 + Double(sample.elements(as: Float.self)[$1]) }
    }
    #expect(abs(moments.means[0] - sums / 2225) < 1e-9)
  }

  @Test func neitherThreadsNorOrderNorBudgetChangeTheSums() throws {
    let graph = try graph(length: 40)
    let samples = try samples((0..<30).map { 1 + $0 * 97 % 700 }, length: 40)
    let one = try moments(graph, samples)
    #expect(try moments(graph, samples, threadCount: 4) == one)
    #expect(try moments(graph, samples.reversed(), threadCount: 3) == one)
    #expect(try moments(graph, samples, budget: 1) == one)
  }

  /// A large picture does not outweigh the others, and every part of it counts.
  @Test func atMostSomeWindowsOfASampleCount() throws {
    // Each row is its number: the mean is near the middle.
    let rows = 100_000
    let moments = try moments(
      graph(length: 1), [Tensor([rows, 1], (0..<rows).map { Float($0) / Float(rows) })])
    #expect(moments.count == 2048)
    #expect(abs(moments.means[0] - 0.5) < 1e-3)
    #expect(abs(moments.meanProducts(block: 0, group: 0)[0] - 1.0 / 3) < 1e-3)
  }

  @Test func aLongWindowHasBlocks() throws {
    let length = 4097
    let samples = try samples([3], length: length)
    let moments = try moments(graph(length: length), samples)
    #expect(moments.blocks == [0..<1024, 1024..<2048, 2048..<3072, 3072..<4096, 4096..<4097])
    let block = moments.meanProducts(block: 2, group: 0)
    for (i, j) in [(0, 0), (3, 1000), (1023, 1023), (700, 255)] {
      #expect(
        block[i * 1024 + j] == Double(defined(samples, 2048 + i, 2048 + j)) * 0x1p-40 / 3)
    }
    let last = moments.meanProducts(block: 4, group: 0)
    #expect(last == [Double(defined(samples, 4096, 4096)) * 0x1p-40 / 3])
  }

  @Test func whatIsTooLargeIsCountedAndBounded() throws {
    var elements = [Float](repeating: 1, count: 12)
    elements[0] = .infinity
    elements[4] = -0x1p30
    elements[8] = .nan
    // The first run would refuse them as a sample file; a source of one's own may give anything.
    let moments = try moments(graph(length: 4), [Tensor([3, 4], elements)])
    #expect(moments.clippedCount == 3)
    #expect(moments.meanProducts(block: 0, group: 0)[0] == 2 * 0x1p52 / 3)
    #expect(moments.meanProducts(block: 0, group: 0)[5] == 1)
  }

  /// Σ (E·x)² over the windows of every group is E · products · Eᵀ.
  @Test func theyTellWhatAChangeOfWeightsDoesToTheOutput() throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, Shape([1, 6, 9, 9])))
    var generator = SeededGenerator(seed: 4)
    let change = try Tensor(
      [6, 2, 3, 3], (0..<108).map { _ in Float.random(in: -1...1, using: &generator) })
    let convolution = Operation.convolution(
      Convolution(
        order: .channelsFirst, strides: [1, 1], dilations: [1, 1],
        padding: .explicit(before: [1, 1], after: [1, 1]), groups: 3))
    let y = try graph.append(
      convolution, name: "y", [x, graph.addConstant(name: "w", change)])[0]
    try graph.addOutput(name: "y", y)
    let sample = try Tensor(
      [1, 6, 9, 9], (0..<486).map { _ in Float.random(in: -1...1, using: &generator) })
    let moments = try moments(graph, [sample])
    #expect((moments.groupCount, moments.length, moments.count) == (3, 18, 81))
    let outputs = try convolution.evaluate([sample, change])[0].elements(as: Float.self)
    for channel in 0..<6 {
      let matrix = moments.meanProducts(block: 0, group: channel / 2)
      let row = change.elements(as: Float.self)[channel * 18..<(channel + 1) * 18].map(Double.init)
      var error = 0.0
      for i in 0..<18 { for j in 0..<18 { error += row[i] * matrix[i * 18 + j] * row[j] } }
      let measured =
        outputs[channel * 81..<(channel + 1) * 81]
        .reduce(0.0) { $0 + Double($1) * Double($1) } / 81
      #expect(abs(error - measured) < 1e-5 * measured)
    }
  }
}
