import QMGraph
import QMNumPy
import QMOperations
import QMTensor
import QMTestSupport
import QMTraining
import Testing

/// Batch normalizations that use the statistics of the batch while they are trained.
@Suite struct BatchNormalizationTests {
  private static func normalization(_ order: ChannelOrder = .channelsFirst) -> Operation {
    .batchNormalization(BatchNormalization(order: order, epsilon: 1e-3))
  }

  /// One normalization of a parameter x.
  private static func network(
    _ x: Tensor, _ order: ChannelOrder = .channelsFirst, scale: Tensor, bias: Tensor, mean: Tensor,
    variance: Tensor, threads: Int = 1, form: BatchNormalizationForm = .trained
  ) throws -> GradientRun {
    var test = GradientCase()
    let operands = try [x, scale, bias, mean, variance].map { try test.parameter($0) }
    try test.output(try test.append(normalization(order), operands)[0])
    return try GradientRun(test, batchNormalization: form, threads: threads)
  }

  private static func elements(_ run: GradientRun, _ parameter: Int) -> [Float] {
    (0..<run.elementCount(parameter)).map { run.element($0, of: parameter) }
  }

  @Test func pyTorch() throws {
    let arrays = try NPZArchive(path: Fixtures.path("gradients/pytorch.npz"))
    func tensor(_ name: String) throws -> Tensor {
      try arrays.tensor(named: "batch_norm_training." + name)
    }
    func numbers(_ name: String) throws -> [Double] {
      try tensor(name).elements(as: Float.self).map(Double.init)
    }
    let run = try Self.network(
      tensor("0"), scale: tensor("1"), bias: tensor("2"), mean: tensor("mean"),
      variance: tensor("variance"))
    let gradients = [try tensor("dy0").elements(as: Float.self)]
    try run.addGradients(gradients)
    let output = Array(run.pass.elements(of: run.lossValues[0]))
    #expect(largestError([output], [try numbers("y0")]) < 1e-5)
    let found = run.parameterGradients
    #expect(
      largestError(Array(found[..<3]), try ["d0", "d1", "d2"].map(numbers)) < 1e-5)
    #expect(found[3...].allSatisfy { $0.allSatisfy { $0 == 0 } })
    let running = [Self.elements(run, 3), Self.elements(run, 4)]
    #expect(
      largestError(running, try ["mean_after", "variance_after"].map(numbers)) < 1e-5)
  }

  /// The output and the running statistics are those of the formulas, in both orders of axes.
  @Test(
    arguments: [ChannelOrder.channelsFirst, .channelsLast], [[5, 3], [2, 3, 3], [3, 3, 2, 3]])
  func formulas(order: ChannelOrder, shape: [Int]) throws {
    var generator = SeededGenerator(seed: 71)
    let x = try generator.tensor(shape, in: -2...3)
    let scale = try generator.tensor([3])
    let bias = try generator.tensor([3])
    let (mean, variance) = (try generator.tensor([3]), try generator.tensor([3], in: 0.5...2))
    let axis = order == .channelsFirst ? 1 : shape.count - 1
    let inner = shape[(axis + 1)...].reduce(1, *)
    let numbers = x.elements(as: Float.self).map(Double.init)
    func number(_ tensor: Tensor, _ channel: Int) -> Double {
      Double(tensor.elements(as: Float.self)[channel])
    }
    var output = numbers
    var running = [[Double]](repeating: [], count: 2)
    for channel in 0..<3 {
      let own = numbers.indices.filter { $0 / inner % 3 == channel }
      let mu = own.reduce(0) { $0 + numbers[$1] } / Double(own.count)
      let square =
        own.reduce(0) { $0 + (numbers[$1] - mu) * (numbers[$1] - mu) } / Double(own.count)
      for index in own {
        output[index] =
          (numbers[index] - mu) / (square + 1e-3).squareRoot() * number(scale, channel)
          + number(bias, channel)
      }
      running[0].append(0.9 * number(mean, channel) + 0.1 * mu)
      running[1].append(0.9 * number(variance, channel) + 0.1 * square)
    }
    for threads in [1, 2] {
      let run = try Self.network(
        x, order, scale: scale, bias: bias, mean: mean, variance: variance, threads: threads)
      try run.pass.forward([])
      let found = Array(run.pass.elements(of: run.lossValues[0]))
      #expect(largestError([found], [output]) < 1e-5)
      #expect(largestError([Self.elements(run, 3), Self.elements(run, 4)], running) < 1e-6)
      // Without training, the running statistics count, and stay.
      let before = [Self.elements(run, 3), Self.elements(run, 4)]
      try run.pass.forward([], trains: false)
      #expect([Self.elements(run, 3), Self.elements(run, 4)] == before)
      let frozen = try Self.network(
        x, order, scale: scale, bias: bias, mean: Tensor([3], before[0]),
        variance: Tensor([3], before[1]), form: .frozen)
      try frozen.pass.forward([])
      #expect(
        Array(run.pass.elements(of: run.lossValues[0]))
          == Array(frozen.pass.elements(of: frozen.lossValues[0])))
    }
  }

  /// A product, a normalization and a function, twice.
  private static func network(_ generator: inout SeededGenerator) throws -> GradientCase {
    var test = GradientCase()
    var value = try test.parameter(try generator.tensor([3, 2, 4, 4]))
    for _ in 0..<2 {
      let convolution = Convolution(
        order: .channelsFirst, strides: [1, 1], dilations: [1, 1],
        padding: .explicit(before: [1, 1], after: [1, 1]), groups: 1)
      value = try test.append(
        .convolution(convolution), [value, try test.parameter(try generator.tensor([2, 2, 3, 3]))])[
          0]
      let operands = [
        try generator.tensor([2], in: 0.5...1.5), try generator.tensor([2]),
        try generator.tensor([2]), try generator.tensor([2], in: 0.5...2),
      ]
      value = try test.append(
        normalization(), [value] + operands.map { try test.parameter($0) })[0]
      value = try test.append(.unary(Unary(.tanh)), [value])[0]
    }
    try test.output(value)
    return test
  }

  /// Central differences: the loss depends on the statistics, and these on all elements.
  @Test func gradientsAreDifferences() throws {
    var generator = SeededGenerator(seed: 72)
    try expectGradients(
      try Self.network(&generator), batchNormalization: .trained, "batch statistics")
    var test = GradientCase()
    let operands = [
      try generator.tensor([5, 3]), try generator.tensor([3]), try generator.tensor([3]),
      try generator.tensor([3]), try generator.tensor([3], in: 0.5...2),
    ]
    try test.output(
      try test.append(
        Self.normalization(.channelsLast), operands.map { try test.parameter($0) })[0])
    try expectGradients(test, batchNormalization: .trained, "rows")
  }

  /// A step that is repeated in the backward run has the statistics of the first time, and does not
  /// move the running ones again.
  @Test func recomputation() throws {
    var generator = SeededGenerator(seed: 73)
    let test = try Self.network(&generator)
    let kept = try GradientRun(test, batchNormalization: .trained)
    let again = try GradientRun(
      test, options: .init(recomputes: true), batchNormalization: .trained)
    let gradients = try kept.outputGradients(&generator)
    for run in [kept, again] { try run.addGradients(gradients) }
    #expect(again.pass.byteCount < kept.pass.byteCount)
    #expect(kept.parameterGradients == again.parameterGradients)
    for parameter in kept.network.parameters.indices {
      #expect(Self.elements(kept, parameter) == Self.elements(again, parameter))
    }
  }

  @Test func aSingleValueHasNoStatistics() throws {
    let ones = try Tensor([3], [Float](repeating: 1, count: 3))
    let run = try Self.network(
      Tensor([1, 3], [1, 2, 3] as [Float]), scale: ones, bias: ones, mean: ones, variance: ones)
    #expect(throws: QMError.usage("")) { try run.pass.forward([]) }
    try run.pass.forward([], trains: false)
  }

  /// A constant that two nodes read cannot follow both.
  @Test func sharedStatisticsAreRefused() throws {
    var graph = Graph()
    let input = try graph.addInput(
      name: "input", ValueType(.float32, Shape([.free("n"), .fixed(2)])))
    let ones = graph.addConstant(name: "ones", try Tensor([2], [1, 1] as [Float]))
    let zeros = graph.addConstant(name: "zeros", try Tensor([2], [0, 0] as [Float]))
    let output = try graph.append(
      Self.normalization(), name: "normalization", [input, ones, zeros, zeros, ones])[0]
    try graph.addOutput(name: "output", output)
    #expect(throws: QMError.unsupported("")) { try graph.makeTrainable(statistics: true) }
    try graph.makeTrainable()
  }
}
