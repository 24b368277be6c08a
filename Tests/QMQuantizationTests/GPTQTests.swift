import QMGraph
import QMOperations
import QMQuantization
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// Rounding with compensation: what it promises about the outputs of a product.
@Suite struct GPTQTests {
  /// Windows whose elements depend on each other, with means far from 0, and weights.
  private struct Problem {
    let length: Int
    let moments: SecondMoments
    let weights: Tensor

    init(length: Int, outputs: Int, groups: Int = 1, windows: Int = 2000) throws {
      self.length = length
      var generator = SeededGenerator(seed: UInt64(length + outputs))
      var graph = Graph()
      let x = try graph.addInput(
        name: "x", ValueType(.float32, Shape([1, .fixed(windows), .fixed(groups * length)])))
      weights = try Tensor(
        [outputs, 1, length],
        (0..<outputs * length).map { _ in Float.random(in: -1...1, using: &generator) })
      let y = try graph.append(
        .convolution(
          Convolution(
            order: .channelsLast, strides: [1], dilations: [1],
            padding: .explicit(before: [0], after: [0]), groups: groups)), name: "y",
        [x, graph.addConstant(name: "w", weights)])[0]
      try graph.addOutput(name: "y", y)
      var sample: [Float] = []
      for _ in 0..<windows {
        for _ in 0..<groups {
          var previous: Float = 0
          for index in 0..<length {
            previous = 0.9 * previous + Float.random(in: -1...1, using: &generator)
            sample.append(previous + Float(index % 5))
          }
        }
      }
      let runs = try ReferenceRuns(
        graph, over: TensorSamples([["x": try Tensor([1, windows, groups * length], sample)]]),
        options: Model.Options(threadCount: 1), memoryBudget: 1 << 30)
      var found: SecondMoments?
      _ = try runs.statistics(
        of: [Observation(.secondMoments, of: OperandPlace(node: 0, operand: 1))],
        take: { found = $1 })
      moments = try #require(found)
    }

    func covariance(
      kernels: KernelSet = .best, threads: Int = 1, isCentred: Bool = true
    ) throws -> InputCovariance? {
      try InputCovariance(
        moments, isCentred: isCentred, kernels: kernels, threads: ThreadPool(threadCount: threads))
    }

    func round(
      bits: Int, _ granularity: Granularity = .perChannel(axis: 0), kernels: KernelSet = .best,
      threads: Int = 1
    ) throws -> (grid: WeightGrid, codes: Tensor, errors: [Double]) {
      let grid = try NearestRounding(bits: #require(BitWidth(bits)), granularity: granularity)
        .grid(for: weights)
      let gptq = GPTQ(
        try #require(try covariance(kernels: kernels, threads: threads)), kernels: kernels,
        threads: ThreadPool(threadCount: threads))
      let (codes, errors) = try gptq.round(weights, to: grid)
      return (grid, codes, errors)
    }

    /// E · C · Eᵀ of each output channel, with λ on the diagonal of C if asked.
    func errors(_ codes: Tensor, _ scales: [Float], damped: Bool) -> [Double] {
      let numbers = weights.elements(as: Float.self)
      let codes = codes.elements(as: Int8.self)
      let outputs = weights.shape[0]
      let means = moments.means
      return (0..<outputs).map { output in
        let group = output / (outputs / moments.groupCount)
        let matrix = moments.meanProducts(block: 0, group: group)
        func covariance(_ i: Int, _ j: Int) -> Double {
          matrix[i * length + j] - means[group * length + i] * means[group * length + j]
        }
        let damping =
          damped ? 0.01 * (0..<length).reduce(0.0) { $0 + covariance($1, $1) } / Double(length) : 0
        let change = (0..<length).map { index in
          let scale = scales[scales.count == 1 ? 0 : output * scales.count / outputs]
          return Double(numbers[output * length + index])
            - Double(scale) * Double(codes[output * length + index])
        }
        var error = 0.0
        for i in 0..<length {
          for j in 0..<length { error += change[i] * covariance(i, j) * change[j] }
          error += damping * change[i] * change[i]
        }
        return error
      }
    }
  }

  /// The error that rounding reports is that of its codes: the factors are those of the covariance.
  @Test(arguments: [(1, 3, 1), (9, 4, 4), (70, 5, 1), (300, 150, 1)])
  func theReportedErrorIsThatOfTheCodes(length: Int, outputs: Int, groups: Int) throws {
    let problem = try Problem(length: length, outputs: outputs, groups: groups)
    for bits in [2, 4] {
      let (grid, codes, errors) = try problem.round(bits: bits)
      let expected = problem.errors(codes, grid.scales, damped: true)
      for (error, expected) in zip(errors, expected) {
        #expect(abs(error - expected) < 1e-3 * expected + 1e-9)
      }
    }
  }

  @Test(arguments: [20, 300]) func theOutputsChangeLessThanWithNearestCodes(length: Int) throws {
    let problem = try Problem(length: length, outputs: 16)
    for bits in [2, 3, 4, 8] {
      let (grid, codes, _) = try problem.round(bits: bits)
      let nearest = try NearestRounding(
        bits: #require(BitWidth(bits)), granularity: .perChannel(axis: 0)
      ).quantize(problem.weights)
      func total(_ codes: Tensor) -> Double {
        problem.errors(codes, grid.scales, damped: false).reduce(0, +)
      }
      // The elements of a window depend on each other so much that it is far less.
      #expect(total(codes) < 0.5 * total(nearest.codes), "\(bits) bits")
    }
  }

  @Test func neitherKernelsNorThreadsChangeACode() throws {
    let problem = try Problem(length: 333, outputs: 140)
    let expected = try problem.round(bits: 3)
    for kernels in KernelSet.available {
      for threads in [1, 3] {
        let found = try problem.round(bits: 3, kernels: kernels, threads: threads)
        #expect(
          found.codes.elements(as: Int8.self) == expected.codes.elements(as: Int8.self),
          "\(kernels), \(threads) threads")
        #expect(found.errors == expected.errors, "\(kernels), \(threads) threads")
      }
    }
  }

  /// Without dependence between elements nothing can be compensated.
  @Test func independentElementsGetTheNearestCodes() throws {
    let problem = try Problem(length: 1, outputs: 40)
    let (_, codes, _) = try problem.round(bits: 4, .perTensor)
    let nearest = try NearestRounding(bits: #require(BitWidth(4)), granularity: .perTensor)
      .quantize(problem.weights)
    #expect(codes.elements(as: Int8.self) == nearest.codes.elements(as: Int8.self))
  }

  @Test func groupsOfWeightsHaveScalesOfTheirOwn() throws {
    let problem = try Problem(length: 40, outputs: 6)
    let (grid, codes, _) = try problem.round(bits: 4, .perGroup(axis: 2, size: 16))
    #expect(grid.scales.count == 6 * 3)
    let numbers = problem.weights.elements(as: Float.self)
    let rounded = codes.elements(as: Int8.self)
    for output in 0..<6 {
      for index in 0..<40 {
        let scale = grid.scales[output * 3 + index / 16]
        // Feedback moves a weight by a few steps at most.
        #expect(
          abs(numbers[output * 40 + index] - scale * Float(rounded[output * 40 + index]))
            < 6 * scale)
      }
    }
  }

  @Test func fewWindowsGiveNoCovariance() throws {
    #expect(try Problem(length: 20, outputs: 1, windows: 39).covariance() == nil)
    #expect(try Problem(length: 20, outputs: 1, windows: 40).covariance() != nil)
  }
}
