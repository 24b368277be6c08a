import QMGraph
import QMOperations
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// Patterns that exporters write, each recognised as one operation with the same outputs.
@Suite struct RecognitionTests {
  /// A graph of one input `x` and one output `y`, written as an exporter would.
  private struct Network {
    var graph = Graph()
    let x: Graph.ValueID
    var generator = SeededGenerator(seed: 11)

    init(_ shape: Shape) throws {
      x = try graph.addInput(name: "x", ValueType(.float32, shape))
    }

    mutating func scalar(_ number: Float) throws -> Graph.ValueID {
      graph.addConstant(name: "c", try Tensor([], [number]))
    }

    mutating func random(_ extents: [Int]) throws -> Graph.ValueID {
      let count = extents.reduce(1, *)
      let numbers = (0..<count).map { _ in Float.random(in: 0.5...1.5, using: &generator) }
      return graph.addConstant(name: "p", try Tensor(extents, numbers))
    }

    mutating func unary(_ function: UnaryFunction, _ value: Graph.ValueID) throws -> Graph.ValueID {
      try graph.append(.unary(Unary(function)), name: "unary", [value])[0]
    }

    mutating func binary(
      _ function: BinaryFunction, _ left: Graph.ValueID, _ right: Graph.ValueID
    ) throws -> Graph.ValueID {
      try graph.append(.binary(Binary(function)), name: "\(function)", [left, right])[0]
    }

    mutating func reduce(
      _ kind: Reduction.Kind, _ value: Graph.ValueID, _ axes: [Int], keepsAxes: Bool = true
    ) throws -> Graph.ValueID {
      try graph.append(
        .reduction(Reduction(kind, axes: axes, keepsAxes: keepsAxes)), name: "\(kind)", [value])[0]
    }

    /// Without the axes at once, then put back: how some exporters keep them.
    mutating func mean(
      _ value: Graph.ValueID, _ axes: [Int], count: Int
    ) throws -> Graph.ValueID {
      let sum = try reduce(.sum, value, axes, keepsAxes: false)
      let mean = try binary(.multiply, sum, scalar(1 / Float(count)))
      return try graph.append(.unsqueeze(Unsqueeze(axes: axes)), name: "back", [mean])[0]
    }

    /// Runs both forms on random inputs and compares.
    /// - Returns: the operations that are left.
    mutating func check(
      _ y: Graph.ValueID, inputs: [[Int]], tolerance: Float = 2e-5
    ) throws -> [Operation] {
      try graph.addOutput(name: "y", y)
      var after = graph
      for pass in [
        RecognizeActivations() as any Pass, RecognizeNormalization(), RecognizeSoftmax(),
      ] {
        after = try pass.run(on: after)
      }
      for extents in inputs {
        let count = extents.reduce(1, *)
        let x = try Tensor(
          extents, (0..<count).map { _ in Float.random(in: -3...3, using: &generator) })
        let one = try Model(graph.flattened().program).run(["x": x])["y"]!
        let other = try Model(after.flattened().program).run(["x": x])["y"]!
        #expect(one.shape == other.shape)
        let pairs = zip(one.elements(as: Float.self), other.elements(as: Float.self))
        #expect(pairs.allSatisfy { abs($0 - $1) <= tolerance * max(1, abs($0)) }, "\(extents)")
      }
      return after.nodes.map(\.operation)
    }
  }

  // MARK: - Layer normalization

  enum Variance: CaseIterable { case ofDifferences, ofProducts, byPower, ofSquares, clamped }
  enum Ending: CaseIterable { case quotient, inverse, gain, distributed, gainFirst }

  @Test(arguments: Variance.allCases, Ending.allCases)
  func layerNormalization(variance form: Variance, ending: Ending) throws {
    var network = try Network([.free("n"), .free("t"), 24])
    let x = network.x
    let mean = try network.reduce(.mean, x, [2])
    let d = try network.binary(.subtract, x, mean)
    let variance: Graph.ValueID
    switch form {
    case .ofDifferences:
      variance = try network.reduce(.mean, network.unary(.square, d), [2])
    case .ofProducts:
      variance = try network.reduce(.mean, network.binary(.multiply, d, d), [2])
    case .byPower:
      variance = try network.reduce(
        .mean, network.binary(.power, d, network.scalar(2)), [2])
    case .ofSquares, .clamped:
      let squares = try network.reduce(.mean, network.binary(.multiply, x, x), [2])
      let difference = try network.binary(.subtract, squares, network.unary(.square, mean))
      variance =
        form == .ofSquares
        ? difference : try network.binary(.maximum, network.scalar(0), difference)
    }
    let radicand = try network.binary(.add, network.scalar(1e-5), variance)
    let deviation = try network.unary(.squareRoot, radicand)
    let scale = try network.random([24])
    let bias = try network.random([24])
    let y: Graph.ValueID
    switch ending {
    case .quotient:
      let quotient = try network.binary(.divide, d, deviation)
      y = try network.binary(.add, network.binary(.multiply, scale, quotient), bias)
    case .inverse:
      let inverse = try network.unary(.reciprocal, deviation)
      let product = try network.binary(.multiply, d, inverse)
      y = try network.binary(.add, network.binary(.multiply, product, scale), bias)
    case .gain:
      let inverse = try network.binary(.power, radicand, network.scalar(-0.5))
      let gain = try network.binary(.multiply, inverse, scale)
      y = try network.binary(.add, network.binary(.multiply, d, gain), bias)
    case .distributed:
      let inverse = try network.binary(.divide, network.scalar(1), deviation)
      let gain = try network.binary(.multiply, inverse, scale)
      let rest = try network.binary(.subtract, bias, network.binary(.multiply, mean, gain))
      y = try network.binary(.add, network.binary(.multiply, x, gain), rest)
    case .gainFirst:
      let product = try network.binary(.multiply, scale, d)
      y = try network.binary(.add, network.binary(.divide, product, deviation), bias)
    }
    let left = try network.check(y, inputs: [[1, 1, 24], [2, 3, 24]], tolerance: 1e-4)
    #expect(left == [.layerNormalization(LayerNormalization(axis: 2, epsilon: 1e-5))])
  }

  @Test func layerNormalizationOverInnerAxis() throws {
    var network = try Network([.free("n"), 12, 5])
    let x = network.x
    let mean = try network.mean(x, [1], count: 12)
    let squares = try network.mean(network.binary(.multiply, x, x), [1], count: 12)
    let variance = try network.binary(.subtract, squares, network.binary(.multiply, mean, mean))
    let extents = network.graph.addConstant(name: "e", try Tensor([3], [Int64(1), 12, 5]))
    let radicand = try network.binary(.add, variance, network.scalar(1e-6))
    let wide = try network.graph.append(.expand(Expand()), name: "wide", [radicand, extents])[0]
    let inverse = try network.unary(.reciprocal, network.unary(.squareRoot, wide))
    let gain = try network.binary(.multiply, inverse, network.random([1, 12, 1]))
    let d = try network.binary(.subtract, x, mean)
    let y = try network.binary(
      .add, network.binary(.multiply, d, gain), network.random([1, 12, 1]))
    let left = try network.check(y, inputs: [[1, 12, 5], [3, 12, 5]], tolerance: 1e-4)
    #expect(left.map(\.name) == ["Transpose", "LayerNormalization", "Transpose"])
  }

  @Test func overSeveralAxes() throws {
    var network = try Network([.free("n"), 3, 4, 5])
    let d = try network.binary(.subtract, network.x, network.reduce(.mean, network.x, [2, 3]))
    let variance = try network.reduce(.mean, network.unary(.square, d), [2, 3])
    let deviation = try network.unary(
      .squareRoot, network.binary(.add, variance, network.scalar(1e-5)))
    let quotient = try network.binary(.divide, d, deviation)
    // Varies along the channels: no scale of this normalization.
    let y = try network.binary(.multiply, quotient, network.random([3, 1, 1]))
    let left = try network.check(y, inputs: [[2, 3, 4, 5]])
    #expect(left.map(\.name) == ["LayerNormalization", "Binary"])
  }

  @Test func leavesWhatIsNoNormalization() throws {
    // The variance is that of another axis.
    var network = try Network([6, 6])
    let d = try network.binary(.subtract, network.x, network.reduce(.mean, network.x, [1]))
    let variance = try network.reduce(.mean, network.unary(.square, d), [0])
    let deviation = try network.unary(
      .squareRoot, network.binary(.add, variance, network.scalar(1e-5)))
    let other = try network.check(network.binary(.divide, d, deviation), inputs: [[6, 6]])
    #expect(!other.contains { if case .layerNormalization = $0 { true } else { false } })

    // The mean of rows is subtracted from columns.
    network = try Network([6, 6])
    let mean = try network.reduce(.mean, network.x, [1], keepsAxes: false)
    let crossed = try network.binary(.subtract, network.x, mean)
    let own = try network.reduce(.mean, network.unary(.square, crossed), [1])
    let root = try network.unary(.squareRoot, network.binary(.add, own, network.scalar(1e-5)))
    let left = try network.check(network.binary(.divide, crossed, root), inputs: [[6, 6]])
    #expect(!left.contains { if case .layerNormalization = $0 { true } else { false } })
  }

  @Test func norms() throws {
    var network = try Network([.free("n"), 9])
    let squares = try network.reduce(.sum, network.unary(.square, network.x), [1])
    let norm = try network.unary(.squareRoot, squares)
    let y = try network.binary(
      .divide, network.x, network.binary(.maximum, norm, network.scalar(1e-12)))
    let left = try network.check(y, inputs: [[4, 9]])
    #expect(left.map(\.name) == ["Reduction", "Binary", "Binary"])
    #expect(left[0] == .reduction(Reduction(.norm, axes: [1], keepsAxes: true)))
  }

  // MARK: - Softmax

  @Test(arguments: [true, false], [true, false])
  func softmax(subtractsMaximum: Bool, divides: Bool) throws {
    var network = try Network([.free("n"), 7, 3])
    var d = network.x
    if subtractsMaximum {
      d = try network.binary(.subtract, d, network.reduce(.maximum, d, [1]))
    }
    let e = try network.unary(.exponential, d)
    let sum = try network.reduce(.sum, e, [1])
    let y =
      divides
      ? try network.binary(.divide, e, sum)
      : try network.binary(.multiply, network.unary(.reciprocal, sum), e)
    let left = try network.check(y, inputs: [[2, 7, 3]])
    #expect(left == [.softmax(Softmax(.softmax, axis: 1))])
  }

  @Test func logSoftmax() throws {
    var network = try Network([.free("n"), 7])
    let d = try network.binary(
      .subtract, network.x, network.reduce(.maximum, network.x, [1]))
    let sum = try network.reduce(.sum, network.unary(.exponential, d), [1])
    let y = try network.binary(.subtract, d, network.unary(.logarithm, sum))
    let left = try network.check(y, inputs: [[2, 7]])
    #expect(left == [.softmax(Softmax(.logSoftmax, axis: 1))])
  }

  @Test func sumAlongAnotherAxisIsNoSoftmax() throws {
    var network = try Network([4, 4])
    let e = try network.unary(.exponential, network.x)
    let sum = try network.reduce(.sum, e, [1], keepsAxes: false)
    let left = try network.check(network.binary(.divide, e, sum), inputs: [[4, 4]])
    #expect(left.map(\.name) == ["Unary", "Reduction", "Binary"])
  }

  // MARK: - Activations

  private func activation(
    _ expected: UnaryFunction, _ write: (inout Network) throws -> Graph.ValueID
  ) throws {
    var network = try Network([.free("n"), 5])
    let left = try network.check(write(&network), inputs: [[40, 5]])
    #expect(left == [.unary(Unary(expected))])
  }

  @Test func gelu() throws {
    for place in 0..<3 {
      try activation(.gelu) { network in
        let x = network.x
        let erf = try network.unary(
          .erf, network.binary(.divide, x, network.scalar(Float(2).squareRoot())))
        let gate = try network.binary(.add, erf, network.scalar(1))
        let half = try network.scalar(0.5)
        switch place {
        case 0: return try network.binary(.multiply, network.binary(.multiply, x, gate), half)
        case 1: return try network.binary(.multiply, x, network.binary(.multiply, half, gate))
        default: return try network.binary(.multiply, network.binary(.multiply, x, half), gate)
        }
      }
    }
  }

  @Test func geluByTanh() throws {
    for isFactored in [false, true] {
      try activation(.geluTanh) { network in
        let x = network.x
        let inner: Graph.ValueID
        let number = try network.scalar(0.044715)
        if isFactored {
          let square = try network.binary(.multiply, network.binary(.multiply, x, x), number)
          inner = try network.binary(
            .multiply, x, network.binary(.add, square, network.scalar(1)))
        } else {
          let cube = try network.binary(.power, x, network.scalar(3))
          inner = try network.binary(.add, x, network.binary(.multiply, number, cube))
        }
        let argument = try network.binary(.multiply, network.scalar(0.7978846), inner)
        let gate = try network.binary(
          .add, network.scalar(1), network.unary(.tanh, argument))
        return try network.binary(
          .multiply, x, network.binary(.multiply, network.scalar(0.5), gate))
      }
    }
  }

  @Test func othersOfOneNumber() throws {
    try activation(.silu) { network in
      try network.binary(.multiply, network.x, network.unary(.sigmoid, network.x))
    }
    try activation(.sigmoid) { network in
      let e = try network.unary(.exponential, network.unary(.negate, network.x))
      return try network.binary(
        .divide, network.scalar(1), network.binary(.add, e, network.scalar(1)))
    }
    try activation(.softplus) { network in
      let e = try network.unary(.exponential, network.x)
      return try network.unary(.logarithm, network.binary(.add, e, network.scalar(1)))
    }
    try activation(.mish) { network in
      let inner = try network.unary(.tanh, network.unary(.softplus, network.x))
      return try network.binary(.multiply, inner, network.x)
    }
    try activation(.leakyRelu(slope: 0.25)) { network in
      let small = try network.binary(.multiply, network.x, network.scalar(0.25))
      return try network.binary(.maximum, small, network.x)
    }
    try activation(.relu) { network in
      try network.binary(.maximum, network.x, network.scalar(0))
    }
    try activation(.hardSigmoid(alpha: 1 / 6, beta: 0.5)) { network in
      let clipped = try network.unary(
        .clip(minimum: 0, maximum: 6), network.binary(.add, network.x, network.scalar(3)))
      return try network.binary(.divide, clipped, network.scalar(6))
    }
    try activation(.hardSwish) { network in
      let clipped = try network.unary(
        .clip(minimum: 0, maximum: 6), network.binary(.add, network.x, network.scalar(3)))
      return try network.binary(
        .multiply, network.x, network.binary(.divide, clipped, network.scalar(6)))
    }
  }

  @Test func otherNumbersAreNoGelu() throws {
    var network = try Network([.free("n"), 5])
    let erf = try network.unary(
      .erf, network.binary(.multiply, network.x, network.scalar(0.8)))
    let gate = try network.binary(.add, erf, network.scalar(1))
    let y = try network.binary(
      .multiply, network.binary(.multiply, network.x, gate), network.scalar(0.5))
    let left = try network.check(y, inputs: [[3, 5]])
    #expect(left.count == 5)
  }

  @Test func scalesAndShiftsByScalarsAreFunctionsOfTheProduct() throws {
    var network = try Network([.free("n"), 6])
    let product = try network.graph.append(
      .matrixMultiply(
        MatrixMultiply(rightLayout: .channelsFirst, epilogue: Epilogue(function: .hardSwish))),
      name: "product", [network.x, network.random([5, 6])])[0]
    let scaled = try network.binary(.multiply, network.scalar(0.7), product)
    let y = try network.binary(.subtract, scaled, network.scalar(0.25))
    try network.graph.addOutput(name: "y", y)
    let after = try FuseEpilogues().run(on: FoldScalars().run(on: network.graph))
    #expect(after.nodes.count == 1)
    guard case .matrixMultiply(let fused)? = after.nodes.first?.operation else {
      Issue.record("\(after.nodes)")
      return
    }
    #expect(fused.epilogue.functions == [.hardSwish, .affine(scale: 0.7, offset: -0.25)])
    let x = try Tensor([2, 6], (0..<12).map { Float($0) - 6 })
    let one = try Model(network.graph.flattened().program).run(["x": x])["y"]!
    let other = try Model(after.flattened().program).run(["x": x])["y"]!
    #expect(one.isIdentical(to: other))
  }

  /// As deep as a file may make it: what looks for a bias may not follow the whole chain.
  @Test func longChainsOfSumsAreRead() throws {
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, [.free("n"), 4]))
    var sum = x
    for index in 0..<30_000 {
      sum = try graph.append(.binary(Binary(.add)), name: "sum\(index)", [sum, x])[0]
    }
    try graph.addOutput(name: "y", sum)
    #expect(try DefaultPasses.run(on: graph).nodes.count == 30_000)
  }
}
