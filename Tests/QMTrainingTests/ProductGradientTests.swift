import QMOperations
import QMTensor
import QMTestSupport
import QMTraining
import Testing

@Suite struct ProductGradientTests {
  @Test(arguments: RightLayout.allCases)
  func matrixProducts(layout: RightLayout) throws {
    var generator = SeededGenerator(seed: 11)
    let cases: [(left: [Int], right: [Int])] = [
      ([3, 4], [4, 5]), ([1, 7], [7, 1]), ([2, 3, 4], [4, 5]), ([2, 3, 4], [2, 4, 5]),
      ([2, 1, 3, 4], [1, 3, 4, 2]), ([2, 2, 3, 4], [2, 4, 2]), ([3, 4], [2, 4, 2]),
      ([1, 3, 4], [2, 4, 2]), ([20, 33], [33, 18]),
    ]
    for (left, right) in cases {
      let rank = right.count
      let shape =
        layout == .depthFirst
        ? right : right.dropLast(2) + [right[rank - 1], right[rank - 2]]
      try expectGradients(
        of: .matrixMultiply(MatrixMultiply(rightLayout: layout)),
        [try generator.tensor(left), try generator.tensor(Array(shape))], "\(left) × \(right)")
    }
  }

  @Test(arguments: RightLayout.allCases)
  func biasesAndResiduals(layout: RightLayout) throws {
    var generator = SeededGenerator(seed: 12)
    for leading in [[], [2]] {
      var operands = [Tensor?](repeating: nil, count: 6)
      operands[ProductOperand.input] = try generator.tensor(leading + [3, 4])
      operands[ProductOperand.weights] = try generator.tensor(
        layout == .depthFirst ? [4, 5] : [5, 4])
      operands[ProductOperand.bias] = try generator.tensor([5])
      operands[ProductOperand.residual] = try generator.tensor(leading + [3, 5])
      try expectGradients(
        of: .matrixMultiply(MatrixMultiply(rightLayout: layout)), operands)
    }
  }

  private struct Window {
    var input: [Int]
    var weights: [Int]
    var strides: [Int]
    var dilations: [Int]
    var padding = Padding.sameUpper
    var groups = 1
    var spacing: [Int]?
  }

  /// Channels first; the weights are [O, C / groups, …].
  private let windows: [Window] = [
    Window(input: [2, 3, 7], weights: [4, 3, 3], strides: [2], dilations: [1]),
    Window(
      input: [1, 2, 9], weights: [3, 2, 3], strides: [1], dilations: [2],
      padding: .explicit(before: [1], after: [3])),
    Window(input: [2, 3, 5, 6], weights: [4, 3, 1, 1], strides: [1, 1], dilations: [1, 1]),
    Window(input: [2, 3, 5, 6], weights: [4, 3, 3, 2], strides: [2, 1], dilations: [1, 2]),
    Window(
      input: [1, 2, 6, 5], weights: [2, 2, 3, 3], strides: [1, 1], dilations: [1, 1],
      padding: .explicit(before: [1, 0], after: [2, 1])),
    Window(
      input: [1, 2, 6, 5], weights: [2, 2, 2, 2], strides: [3, 2], dilations: [1, 1],
      padding: .sameLower),
    Window(
      input: [2, 4, 5, 5], weights: [6, 2, 3, 3], strides: [1, 2], dilations: [1, 1], groups: 2),
    Window(
      input: [2, 5, 5, 6], weights: [5, 1, 3, 3], strides: [1, 2], dilations: [2, 1], groups: 5),
    Window(
      input: [1, 3, 4, 4], weights: [6, 1, 3, 3], strides: [1, 1], dilations: [1, 1], groups: 3),
    Window(
      input: [1, 2, 4, 3, 4], weights: [3, 2, 2, 3, 2], strides: [1, 1, 2], dilations: [1, 1, 1]),
    Window(
      input: [1, 3, 4], weights: [2, 3, 3], strides: [1], dilations: [1],
      padding: .explicit(before: [2], after: [2]), spacing: [2]),
    Window(
      input: [2, 2, 3, 4], weights: [3, 2, 3, 4], strides: [1, 1], dilations: [1, 2],
      padding: .explicit(before: [1, 3], after: [2, 2]), spacing: [2, 3]),
    Window(
      input: [1, 4, 3, 3], weights: [4, 1, 3, 3], strides: [1, 1], dilations: [1, 1],
      padding: .explicit(before: [2, 2], after: [2, 2]), groups: 4, spacing: [2, 2]),
    Window(
      input: [1, 4, 3, 3], weights: [2, 2, 2, 2], strides: [1, 1], dilations: [1, 1],
      padding: .explicit(before: [1, 1], after: [1, 1]), groups: 2, spacing: [2, 2]),
  ]

  @Test(arguments: ChannelOrder.allCases)
  func convolutions(order: ChannelOrder) throws {
    var generator = SeededGenerator(seed: 13)
    func arranged(_ shape: [Int]) -> [Int] {
      order == .channelsFirst ? shape : [shape[0]] + shape[2...] + [shape[1]]
    }
    for (number, window) in windows.enumerated() {
      let operation = Operation.convolution(
        Convolution(
          order: order, strides: window.strides, dilations: window.dilations,
          padding: window.padding, groups: window.groups, spacing: window.spacing))
      var operands = [Tensor?](repeating: nil, count: 6)
      operands[ProductOperand.input] = try generator.tensor(arranged(window.input))
      operands[ProductOperand.weights] = try generator.tensor(arranged(window.weights))
      if number % 2 == 0 {
        operands[ProductOperand.bias] = try generator.tensor([window.weights[0]])
      }
      if number % 3 == 0 {
        let shape = try operation.evaluate(Array(operands.prefix(2)))[0].shape
        operands[ProductOperand.residual] = try generator.tensor(shape)
      }
      try expectGradients(of: operation, operands, "\(window)")
    }
  }

  /// More positions than one matrix of windows holds.
  @Test(arguments: ChannelOrder.allCases)
  func aLargeConvolutionEqualsItsReferenceProducts(order: ChannelOrder) throws {
    var generator = SeededGenerator(seed: 14)
    let channelsFirst = order == .channelsFirst
    let input = try generator.tensor(channelsFirst ? [1, 40, 24, 25] : [1, 24, 25, 40])
    let weights = try generator.tensor(channelsFirst ? [6, 40, 3, 3] : [6, 3, 3, 40])
    let operation = Operation.convolution(
      Convolution(
        order: order, strides: [1, 1], dilations: [1, 1], padding: .sameUpper, groups: 1))
    let test = try GradientCase(operation, [input, weights])
    let run = try GradientRun(test)
    let gradients = try run.outputGradients(&generator)
    try run.addGradients(gradients)
    // The loss is linear in each operand: Σ gradient · output = Σ ∂operand · operand.
    let loss = try run.loss(gradients)
    for (found, operand) in zip(run.parameterGradients, [input, weights]) {
      let sum = zip(found, operand.elements(as: Float.self)).reduce(0) {
        $0 + Double($1.0) * Double($1.1)
      }
      #expect((sum - loss).magnitude < 1e-4 * max(loss.magnitude, 1))
    }
    let threaded = try GradientRun(test, threads: 2)
    try threaded.addGradients(gradients)
    #expect(
      threaded.parameterGradients.map { $0.map(\.bitPattern) }
        == run.parameterGradients.map { $0.map(\.bitPattern) })
  }

  /// The functions behind a product are nodes of their own.
  @Test func functionsBehindProducts() throws {
    var generator = SeededGenerator(seed: 15)
    let epilogue = Epilogue(function: .silu, secondFunction: .affine(scale: 1.5, offset: 0.25))
    try expectGradients(
      of: .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst, epilogue: epilogue)),
      [try generator.tensor([3, 4]), try generator.tensor([5, 4]), try generator.tensor([5])])
  }
}
