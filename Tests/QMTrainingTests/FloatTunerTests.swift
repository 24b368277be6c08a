import QMGraph
import QMOperations
import QMTensor
import QMTestSupport
import QMTraining
import Testing

@Suite struct FloatTunerTests {
  private struct Labelled: SampleSource {
    let points: [[Float]]

    var count: Int { points.count }
    func name(of index: Int) -> String { "\(index)" }
    func inputs(of index: Int) throws(QMError) -> [String: Tensor] {
      ["input": try Tensor([1, 2], points[index])]
    }
    /// Whether exactly one of the coordinates is beyond its middle.
    func expectedOutputs(of index: Int) throws(QMError) -> [String: Tensor] {
      let isOdd = (points[index][0] > 300) != (points[index][1] > -40)
      return ["kind": try Tensor([1], [isOdd ? 1 : 0] as [Int64])]
    }
  }

  private let samples: Labelled
  private let graph: Graph

  /// Points far from 0, whose coordinates differ by a factor of a hundred in size.
  init() throws {
    var generator = SeededGenerator(seed: 81)
    samples = Labelled(
      points: (0..<400).map { _ in
        [
          Float.random(in: 100...500, using: &generator),
          .random(in: -42 ... -38, using: &generator),
        ]
      })
    var graph = Graph()
    var value = try graph.addInput(
      name: "input", ValueType(.float32, Shape([.free("n"), .fixed(2)])))
    func constant(_ name: String, _ shape: [Int], _ number: Float) throws -> Graph.ValueID {
      graph.addConstant(
        name: name, try Tensor(shape, [Float](repeating: number, count: shape.reduce(1, *))))
    }
    func normalize(_ value: Graph.ValueID, _ name: String, _ channels: Int) throws -> Graph.ValueID
    {
      try graph.append(
        .batchNormalization(BatchNormalization(order: .channelsFirst, epsilon: 1e-5)), name: name,
        [
          value, try constant(name + ".scale", [channels], 1),
          try constant(name + ".bias", [channels], 0), try constant(name + ".mean", [channels], 0),
          try constant(name + ".variance", [channels], 1),
        ])[0]
    }
    let product = Operation.matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst))
    value = try normalize(value, "first", 2)
    value = try graph.append(
      product, name: "hidden", [value, try constant("hidden.weights", [16, 2], 0.1)])[0]
    value = try normalize(value, "second", 16)
    value = try graph.append(.unary(Unary(.relu)), name: "relu", [value])[0]
    value = try graph.append(
      product, name: "scores",
      [value, try constant("weights", [2, 16], 0.1), try constant("bias", [2], 0)])[0]
    try graph.addOutput(name: "scores", value)
    self.graph = graph
  }

  private func tune(
    _ start: Initialization, _ form: BatchNormalizationForm? = nil
  ) throws -> FloatTuner.Result {
    var options = TrainingOptions()
    (options.steps, options.labels, options.seed, options.rate) = (300, "kind", 4, 0.01)
    options.batchNormalization = form
    return try #require(try FloatTuner(options).tune(graph, samples: samples, start: start))
  }

  /// From He's start the statistics of the network say nothing: the batch's are used, and the running
  /// ones, with which the loss is measured, follow.
  @Test func aNetworkThatStartsAnewLearnsWithBatchStatistics() throws {
    let result = try tune(.he)
    #expect(result.heldOutLoss.after < 0.2, "\(result.heldOutLoss)")
    let parameters = Dictionary(
      uniqueKeysWithValues: result.parameters.map { ($0.name, $0.tensor) })
    for (axis, values) in [0, 1].map({ axis in (axis, samples.points.map { Double($0[axis]) }) }) {
      let mean = values.reduce(0, +) / Double(values.count)
      let variance =
        values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count)
      let found = try ["first.mean", "first.variance"].map {
        Double(try #require(parameters[$0]).elements(as: Float.self)[axis])
      }
      #expect((found[0] - mean).magnitude < 0.2 * variance.squareRoot())
      #expect((found[1] / variance - 1).magnitude < 0.2)
    }
  }

  /// What comes to a run beside its parameters, optimizer and statistics.
  enum Addition: CaseIterable {
    case nothing, segments, sparsity, gradientsOf8Bits, everything

    /// 40 steps; weights are pruned from the third to the 31st.
    var options: TrainingOptions {
      var options = TrainingOptions()
      (options.steps, options.labels, options.rate) = (40, "kind", 0.01)
      if self == .segments || self == .everything { options.segmentThreshold = 0.5 }
      if self == .sparsity || self == .everything { options.sparsity = 0.6 }
      if self == .gradientsOf8Bits || self == .everything {
        (options.gradientBits, options.accumulate, options.batch) = (.eight, 2, 16)
      }
      return options
    }
  }

  /// A checkpoint holds the running statistics, the sums of layers that wait and which weights are
  /// pruned, and how gradients are rounded follows from the step: an interrupted run goes on to the
  /// same bits, from among the steps that prune and from after them.
  @Test(arguments: Addition.allCases, [17, 35])
  func anInterruptedRunGoesOnToTheSameBits(addition: Addition, step: Int) throws {
    func whole(_ options: TrainingOptions) throws -> FloatTuner.Result {
      try #require(try FloatTuner(options).tune(graph, samples: samples, start: .he))
    }
    func numbers(_ result: FloatTuner.Result) -> [[Float]] {
      result.parameters.map { $0.tensor.elements() }
    }
    let tuner = FloatTuner(addition.options)
    let expected = try whole(addition.options)
    let plain = try whole(Addition.nothing.options)
    #expect((numbers(expected) == numbers(plain)) == (addition == .nothing))
    let asked = Locked(0)
    var shares: [Double] = []
    let resumed = try withTemporaryFolder { folder in
      let interrupted = try tuner.tune(
        graph, samples: samples, start: .he,
        checkpoints: .init(
          path: folder + "/checkpoint",
          isInterrupted: {
            asked.withLock {
              $0 += 1
              return $0 == step
            }
          }),
        progress: { report, _ in
          if let share = report.updatedShare { shares.append(share) }
        })
      #expect(interrupted == nil)
      return try tuner.tune(
        graph, samples: samples, start: .he,
        checkpoints: .init(path: folder + "/checkpoint", resumes: true))
    }
    if let last = shares.last {
      // Gradients update 7 of the 11 arrays; the others are statistics.
      #expect(shares.contains { $0 > 0 } && last < 6.5 / 11, "no layer waits: \(shares)")
    }
    let found = try #require(resumed)
    #expect(found.parameters.map(\.name) == expected.parameters.map(\.name))
    for (parameter, expected) in zip(found.parameters, numbers(expected)) {
      #expect(parameter.tensor.elements() == expected, "\(parameter.name)")
    }
  }

  /// Fine-tuning keeps the statistics, so that they are no parameters.
  @Test func fineTuningFreezesStatistics() throws {
    #expect(!(try tune(.network)).parameters.map(\.name).contains("first.mean"))
    #expect((try tune(.network, .trained)).parameters.map(\.name).contains("first.mean"))
    let frozen = try tune(.he, .frozen)
    #expect(!frozen.parameters.map(\.name).contains("first.mean"))
    #expect(frozen.heldOutLoss.after > 0.2, "\(frozen.heldOutLoss)")
  }
}
