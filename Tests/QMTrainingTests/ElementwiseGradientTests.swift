import QMOperations
import QMTensor
import QMTestSupport
import QMTraining
import Testing

@Suite struct ElementwiseGradientTests {
  /// Functions with a derivative everywhere in −2…2.
  private static let smooth: [UnaryFunction] = [
    .sigmoid, .silu, .tanh, .erf, .gelu, .geluTanh, .softplus, .mish, .exponential, .square,
    .negate, .sine, .cosine, .affine(scale: -1.5, offset: 0.25),
  ]
  /// Functions with corners at multiples of 1/8, or none.
  private static let cornered: [UnaryFunction] = [
    .relu, .clip(minimum: -0.5, maximum: 0.75), .leakyRelu(slope: 0.25), .leakyRelu(slope: -0.5),
    .thresholdedRelu(threshold: 0.5), .elu(alpha: 0.75), .selu(alpha: 1.6732632, gamma: 1.050701),
    .celu(alpha: 0.5), .hardSigmoid(alpha: 0.25, beta: 0.5), .hardSwish, .softsign, .absolute,
  ]

  @Test(arguments: smooth)
  func smoothFunctions(function: UnaryFunction) throws {
    var generator = SeededGenerator(seed: 21)
    try expectGradients(
      of: .unary(Unary(function)), [try generator.tensor([5, 7], in: -2...2)])
    try expectGradients(
      of: .unary(Unary(function)), [try generator.tensor([3, 5], in: -6...6)])
  }

  @Test(arguments: cornered)
  func functionsWithCorners(function: UnaryFunction) throws {
    var generator = SeededGenerator(seed: 22)
    try expectGradients(
      of: .unary(Unary(function)), [try generator.spread([8, 8], distance: 0.125)])
  }

  @Test(arguments: [UnaryFunction.logarithm, .squareRoot, .reciprocal])
  func functionsOfPositiveNumbers(function: UnaryFunction) throws {
    var generator = SeededGenerator(seed: 23)
    try expectGradients(
      of: .unary(Unary(function)), [try generator.tensor([5, 7], in: 0.5...3)])
  }

  @Test func tangents() throws {
    var generator = SeededGenerator(seed: 24)
    try expectGradients(of: .unary(Unary(.tangent)), [try generator.tensor([31], in: -1...1)])
  }

  /// ∂x is 0 wherever a function is flat; it has no corner within half a step.
  @Test(arguments: [UnaryFunction.floor, .ceiling, .round, .sign])
  func stepsHaveNoGradient(function: UnaryFunction) throws {
    var generator = SeededGenerator(seed: 25)
    let run = try GradientRun(
      GradientCase(.unary(Unary(function)), [try generator.spread([16], distance: 0.125)]))
    try run.addGradients(try run.outputGradients(&generator))
    #expect(run.parameterGradients[0].allSatisfy { $0 == 0 })
  }

  /// Neither overflow nor NaN far from 0.
  @Test(arguments: smooth + cornered)
  func gradientsStayFinite(function: UnaryFunction) throws {
    guard function != .exponential else { return }
    let test = try GradientCase(
      .unary(Unary(function)), [try Tensor([6], [-1e4, -90, -30, 30, 90, 1e4] as [Float])])
    let run = try GradientRun(test)
    try run.addGradients([[1, 1, 1, 1, 1, 1]])
    #expect(run.parameterGradients[0].allSatisfy { $0.isFinite }, "\(run.parameterGradients)")
  }

  @Test(arguments: BinaryFunction.allCases)
  func binaryFunctions(function: BinaryFunction) throws {
    var generator = SeededGenerator(seed: 26)
    let shapes: [([Int], [Int])] = [
      ([3, 4], [3, 4]), ([3, 4], [4]), ([4], [2, 3, 4]), ([2, 1, 3], [1, 4, 1]), ([2, 3], []),
      ([1], [2, 3]), ([2, 3, 1], [2, 1, 5]),
    ]
    for (left, right) in shapes {
      let operands: [Tensor]
      switch function {
      case .power:
        operands = [try generator.tensor(left, in: 0.5...2), try generator.tensor(right)]
      case .divide:
        operands = [try generator.tensor(left), try generator.tensor(right, in: 0.75...2)]
      case .remainder:
        // Away from where the quotient jumps: it is within n + 0.3…n + 0.7.
        let a = try generator.tensor(left, in: 5.3...5.7)
        operands = [a, try generator.tensor(right, in: 0.99...1.01)]
      case .minimum, .maximum:
        let all = try generator.spread([left.reduce(1, *) + right.reduce(1, *)])
          .elements(as: Float.self)
        let count = left.reduce(1, *)
        operands = [
          try Tensor(left, Array(all[..<count])), try Tensor(right, Array(all[count...])),
        ]
      case .parametricRelu:
        operands = [try generator.spread(left), try generator.tensor(right)]
      default: operands = [try generator.tensor(left), try generator.tensor(right)]
      }
      try expectGradients(
        of: .binary(Binary(function)), operands,
        // Close operands of a quotient that is rounded: a small step.
        step: function == .remainder ? 0x1p-7 : 0x1p-5, "\(left), \(right)")
    }
  }

  @Test func negativeBasesOfPowers() throws {
    let test = try GradientCase(
      .binary(Binary(.power)),
      [try Tensor([3], [-1.5, -2, 3] as [Float]), try Tensor([1], [2] as [Float])])
    let run = try GradientRun(test)
    try run.addGradients([[1, 1, 1]])
    #expect(run.parameterGradients[0] == [-3, -4, 6])
    // A negative base has no power in between: it takes no part.
    #expect((run.parameterGradients[1][0] - 9.887511).magnitude < 1e-4)
  }

  @Test func functionsOfOneValueTwice() throws {
    var generator = SeededGenerator(seed: 27)
    for function in [BinaryFunction.add, .multiply, .subtract, .divide] {
      var test = GradientCase()
      let value = try test.parameter(try generator.tensor([4], in: 0.5...2))
      let factor = try test.parameter(try generator.tensor([4]))
      let sum = try test.append(.binary(Binary(function)), [value, value])[0]
      let product = try test.append(.binary(Binary(.multiply)), [sum, factor])[0]
      try test.output(try test.append(.binary(Binary(.add)), [product, value])[0])
      try expectGradients(test, "\(function)")
    }
  }

  @Test func functionsBehindBinaryOnes() throws {
    var generator = SeededGenerator(seed: 28)
    try expectGradients(
      of: .binary(Binary(.multiply, secondFunction: .sigmoid)),
      [try generator.tensor([3, 4]), try generator.tensor([4])])
  }

  @Test func castsOfFloats() throws {
    var generator = SeededGenerator(seed: 29)
    try expectGradients(of: .cast(Cast(to: .float32)), [try generator.tensor([3, 4])])
  }
}
