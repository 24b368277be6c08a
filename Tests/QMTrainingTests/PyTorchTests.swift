import QMGraph
import QMNumPy
import QMOperations
import QMTensor
import QMTestSupport
import QMTraining
import Testing

/// Gradients that PyTorch computes in float64; `fixtures/generate/gradients.py` made them.
@Suite struct PyTorchTests {
  private let arrays: NPZArchive

  init() throws { arrays = try NPZArchive(path: Fixtures.path("gradients/pytorch.npz")) }

  private static func convolution(
    strides: [Int], dilations: [Int], before: [Int], after: [Int]? = nil, groups: Int = 1,
    spacing: [Int]? = nil
  ) -> Operation {
    .convolution(
      Convolution(
        order: .channelsFirst, strides: strides, dilations: dilations,
        padding: .explicit(before: before, after: after ?? before), groups: groups,
        spacing: spacing))
  }

  private static func pooling(_ kind: Pooling.Kind) -> Operation {
    .pooling(
      Pooling(
        kind: kind, order: .channelsFirst, window: [3, 3], strides: [2, 2], dilations: [1, 1],
        padding: .explicit(before: [1, 1], after: [1, 1]), roundsUp: false))
  }

  private static func recurrent(
    _ cell: Recurrent.Cell, _ direction: Recurrent.Direction, _ functions: [UnaryFunction]
  ) -> Operation {
    .recurrent(
      Recurrent(
        cell, direction: direction,
        functions: Array(repeating: functions, count: direction.count).flatMap { $0 }))
  }

  private static func functions(_ functions: [String: UnaryFunction]) -> [String: Operation] {
    functions.mapValues { .unary(Unary($0)) }
  }

  private static let products: [String: Operation] = [
    "linear": .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)),
    "matmul": .matrixMultiply(MatrixMultiply(rightLayout: .depthFirst)),
    "conv1d": convolution(strides: [2], dilations: [1], before: [1]),
    "conv2d": convolution(strides: [2, 1], dilations: [1, 2], before: [1, 2]),
    "conv2d_groups": convolution(strides: [1, 1], dilations: [1, 1], before: [0, 0], groups: 2),
    "conv2d_depthwise": convolution(
      strides: [2, 2], dilations: [1, 1], before: [1, 1], groups: 5),
    "conv3d": convolution(strides: [1, 1, 1], dilations: [1, 1, 1], before: [1, 1, 1]),
    "conv_transpose2d": convolution(
      strides: [1, 1], dilations: [1, 1], before: [1, 1], after: [2, 2], spacing: [2, 2]),
    "lstm": recurrent(.lstm, .bidirectional, [.sigmoid, .tanh, .tanh]),
    "lstm_lengths": recurrent(.lstm, .bidirectional, [.sigmoid, .tanh, .tanh]),
    "gru": recurrent(.gruResetAfter, .bidirectional, [.sigmoid, .tanh]),
    "rnn": recurrent(.simple, .forward, [.tanh]),
  ]

  /// With the steps after which the states are constants.
  private static let truncated: [String: (operation: Operation, steps: Int)] = [
    "lstm_truncated": (recurrent(.lstm, .forward, [.sigmoid, .tanh, .tanh]), 3),
    "gru_truncated": (recurrent(.gruResetAfter, .forward, [.sigmoid, .tanh]), 2),
  ]

  private static let elementwise: [String: Operation] =
    functions([
      "gelu": .gelu, "gelu_tanh": .geluTanh, "silu": .silu, "hardswish": .hardSwish,
      "mish": .mish, "elu": .elu(alpha: 0.75), "selu": .selu(alpha: 1.6732632, gamma: 1.050701),
      "celu": .celu(alpha: 0.5), "softplus": .softplus, "softsign": .softsign, "erf": .erf,
      "sigmoid": .sigmoid, "tanh": .tanh, "leaky_relu": .leakyRelu(slope: 0.25),
      "hardsigmoid": .hardSigmoid(alpha: 1 / 6, beta: 0.5),
    ]).merging([
      "divide": .binary(Binary(.divide)), "power": .binary(Binary(.power)),
      "prelu": .binary(Binary(.parametricRelu)), "maximum": .binary(Binary(.maximum)),
    ]) { first, _ in first }

  private static let axes: [String: Operation] = [
    "softmax": .softmax(Softmax(.softmax, axis: 1)),
    "log_softmax": .softmax(Softmax(.logSoftmax, axis: 1)),
    "logsumexp": .reduction(
      Reduction(.logarithmOfSumOfExponentials, axes: [0, 2], keepsAxes: false)),
    "mean": .reduction(Reduction(.mean, axes: [1, 3], keepsAxes: false)),
    "norm": .reduction(Reduction(.norm, axes: [1], keepsAxes: false)),
    "product": .reduction(Reduction(.product, axes: [1], keepsAxes: false)),
    "amax": .reduction(Reduction(.maximum, axes: [1], keepsAxes: false)),
    "cumsum": .cumulativeSum(CumulativeSum(axis: 1, excludesOwn: false, fromEnd: false)),
    "layer_norm": .layerNormalization(LayerNormalization(axis: 2, epsilon: 1e-3)),
    "group_norm": .groupNormalization(
      GroupNormalization(groups: 2, order: .channelsFirst, epsilon: 1e-3)),
    "instance_norm": .groupNormalization(
      GroupNormalization(groups: 0, order: .channelsFirst, epsilon: 1e-3)),
    "batch_norm": .batchNormalization(BatchNormalization(order: .channelsFirst, epsilon: 1e-3)),
    "max_pool2d": pooling(.maximum), "avg_pool2d": pooling(.averageOfPadded),
    "avg_pool2d_inside": pooling(.averageOfInside),
    "pixel_shuffle": .depthToSpace(
      DepthToSpace(block: 2, channelsComeFirst: true, order: .channelsFirst)),
  ]

  /// With constants behind the operands.
  private static let withIntegers: [String: (operation: Operation, constant: [Int64])] = [
    "topk": (.topK(TopK(axis: 1, takesLargest: true)), [3]),
    "bilinear": (.resize(Resize(.linear, .halfPixel, axes: [2, 3])), [7, 4]),
    "bilinear_corners": (.resize(Resize(.linear, .alignedCorners, axes: [2, 3])), [7, 4]),
    "bilinear_antialias": (
      .resize(
        Resize(.linear, .halfPixel, axes: [2, 3], antialias: true, excludesOutside: true)), [3, 4]
    ),
    "bicubic": (.resize(Resize(.cubic(coefficient: -0.75), .halfPixel, axes: [2, 3])), [7, 4]),
    "nearest": (.resize(Resize(.nearest(.floor), .asymmetric, axes: [2, 3])), [7, 4]),
    "pad_reflect": (.pad(Pad(.reflect)), [0, 0, 1, 2, 0, 0, 2, 1]),
    "embedding": (.gather(Gather(axis: 0)), []),
  ]

  private func operands(of name: String) throws -> [Tensor?] {
    let positions = (0..<8).filter { arrays.contains("\(name).\($0)") }
    return try (0...(try #require(positions.last))).map {
      arrays.contains("\(name).\($0)") ? try arrays.tensor(named: "\(name).\($0)") : nil
    }
  }

  /// Expects the outputs and gradients of a case. Parameters are in the order of the operands.
  private func expect(
    _ name: String, _ test: GradientCase, _ options: TrainingPass.Options = .init()
  ) throws {
    let run = try GradientRun(test, options: options)
    func numbers(_ kind: String) throws -> [[Float]] {
      try (0..<8).map { "\(name).\(kind)\($0)" }.filter { arrays.contains($0) }.map {
        try arrays.tensor(named: $0).elements(as: Float.self)
      }
    }
    let gradients = try numbers("dy")
    _ = try run.loss(gradients)
    let outputs = run.network.outputs.map { Array(run.pass.elements(of: $0.value)) }
    let outputError = largestError(outputs, try numbers("y").map { $0.map(Double.init) })
    #expect(outputError < 1e-5, "\(name): outputs")
    try run.addGradients(gradients)
    let expected = try numbers("d").map { $0.map(Double.init) }
    #expect(run.parameterGradients.count == expected.count, "\(name)")
    let error = largestError(run.parameterGradients, expected)
    #expect(error < 1e-5, "\(name): gradients")
  }

  @Test(arguments: [products, elementwise, axes])
  func operations(_ operations: [String: Operation]) throws {
    for (name, operation) in operations {
      try expect(name, GradientCase(operation, operands(of: name)))
    }
  }

  @Test func operationsWithIntegers() throws {
    for (name, (operation, integers)) in Self.withIntegers {
      let constant = integers.isEmpty ? [] : [try Tensor([integers.count], integers)]
      try expect(name, GradientCase(operation, operands(of: name) + constant))
    }
  }

  @Test func truncatedLayers() throws {
    for (name, (operation, steps)) in Self.truncated {
      try expect(
        name, GradientCase(operation, operands(of: name)), .init(throughTime: steps))
    }
  }

  @Test func attention() throws {
    var test = GradientCase()
    let operands = try operands(of: "attention").map { try test.parameter(try #require($0)) }
    let scores = try test.append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), Array(operands[..<2]))[0]
    let scaled = try test.append(
      .unary(Unary(.affine(scale: 0.5, offset: 0))), [scores])[0]
    let weights = try test.append(.softmax(Softmax(.softmax, axis: 3)), [scaled])[0]
    try test.output(
      try test.append(
        .matrixMultiply(MatrixMultiply(rightLayout: .depthFirst)), [weights, operands[2]])[0])
    try expect("attention", test)
  }

  /// No case of the archive is left out; ``BatchNormalizationTests`` has one.
  @Test func allCasesAreCompared() {
    let cases = Set(arrays.names.filter { $0.hasSuffix(".y0") }.map { String($0.dropLast(3)) })
    let compared =
      [Self.products, Self.elementwise, Self.axes].flatMap(\.keys) + Self.withIntegers.keys
      + Self.truncated.keys
    #expect(Set(compared).union(["attention", "batch_norm_training"]) == cases)
  }
}
