import QMGraph
import QMOperations
import QMTensor
import QMTestSupport
import QMTraining
import Testing

/// Properties of the gradients of whole networks, large enough for several threads to share the work.
@Suite struct GradientPropertyTests {
  /// Convolutions, a normalization, pooling, and a classifier.
  private func convolutional(_ x: Tensor) throws -> GradientCase {
    var generator = SeededGenerator(seed: 61)
    var test = GradientCase()
    let input = try test.input(x)
    func convolution(_ value: Graph.ValueID, _ weights: [Int], groups: Int = 1) throws
      -> Graph.ValueID
    {
      let operands = [
        try test.parameter(try generator.tensor(weights, in: -0.3...0.3)),
        try test.parameter(try generator.tensor([weights[0]])),
      ]
      return try test.append(
        .convolution(
          Convolution(
            order: .channelsFirst, strides: [1, 1], dilations: [1, 1], padding: .sameUpper,
            groups: groups, epilogue: Epilogue(function: .hardSwish))), [value] + operands)[0]
    }
    var value = try convolution(input, [16, 3, 3, 3])
    value = try convolution(value, [16, 1, 5, 5], groups: 16)
    value = try test.append(
      .batchNormalization(BatchNormalization(order: .channelsFirst, epsilon: 1e-3)),
      [
        value, try test.parameter(try generator.tensor([16])),
        try test.parameter(try generator.tensor([16])),
        try test.parameter(try generator.tensor([16])),
        try test.parameter(try generator.tensor([16], in: 0.5...1)),
      ])[0]
    value = try test.append(
      .pooling(
        Pooling(
          kind: .maximum, order: .channelsFirst, window: [2, 2], strides: [2, 2],
          dilations: [1, 1], padding: .sameUpper, roundsUp: false)), [value])[0]
    value = try convolution(value, [24, 16, 1, 1])
    value = try test.append(
      .reduction(Reduction(.mean, axes: [2, 3], keepsAxes: false)), [value])[0]
    value = try test.append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)),
      [
        value, try test.parameter(try generator.tensor([10, 24])),
        try test.parameter(try generator.tensor([10])),
      ])[0]
    try test.output(try test.append(.softmax(Softmax(.logSoftmax, axis: 1)), [value])[0])
    return test
  }

  /// An attention block over [batch, positions, 48], then a recurrent layer.
  private func sequential(_ x: Tensor) throws -> GradientCase {
    var generator = SeededGenerator(seed: 62)
    var test = GradientCase()
    let input = try test.input(x)
    func product(_ left: Graph.ValueID, _ right: Graph.ValueID, _ layout: RightLayout) throws
      -> Graph.ValueID
    {
      try test.append(.matrixMultiply(MatrixMultiply(rightLayout: layout)), [left, right])[0]
    }
    func weights(_ shape: [Int]) throws -> Graph.ValueID {
      try test.parameter(try generator.tensor(shape, in: -0.2...0.2))
    }
    let normalized = try test.append(
      .layerNormalization(LayerNormalization(axis: 2, epsilon: 1e-3)),
      [input, try weights([48]), try weights([48])])[0]
    let heads = try (0..<3).map { _ in
      try product(normalized, try weights([48, 48]), .channelsFirst)
    }
    let attention = try test.append(
      .softmax(Softmax(.softmax, axis: 2)), [try product(heads[0], heads[1], .channelsFirst)])[0]
    var value = try product(attention, heads[2], .depthFirst)
    value = try test.append(.binary(Binary(.add)), [value, input])[0]
    value = try test.append(.unary(Unary(.gelu)), [value])[0]
    value = try test.append(.transpose(Transpose(permutation: [1, 0, 2])), [value])[0]
    let outputs = try test.append(
      .recurrent(
        Recurrent(
          .lstm, direction: .bidirectional,
          functions: [.sigmoid, .tanh, .tanh, .sigmoid, .tanh, .tanh])),
      [value, try weights([320, 48]), try weights([320, 40]), try weights([2, 320])])
    // By batch item first, so that items are parts of every output.
    try test.output(
      try test.append(.transpose(Transpose(permutation: [2, 0, 1, 3])), [outputs[0]])[0])
    return test
  }

  private func batch(_ network: String, count: Int) throws -> Tensor {
    var generator = SeededGenerator(seed: 63)
    return try generator.tensor(
      [count] + (network == "convolutional" ? [3, 32, 32] : [50, 48]))
  }

  private func test(_ network: String, _ x: Tensor) throws -> GradientCase {
    try network == "convolutional" ? convolutional(x) : sequential(x)
  }

  @Test(arguments: ["convolutional", "sequential"])
  func gradientsAreTheSameBitsOnAnyNumberOfThreads(network: String) throws {
    var generator = SeededGenerator(seed: 64)
    let test = try test(network, try batch(network, count: 4))
    var gradients: [[Float]]?
    var expected: [[UInt32]]?
    for threads in 1...3 {
      let run = try GradientRun(test, threads: threads)
      let own = try gradients ?? run.outputGradients(&generator)
      gradients = own
      try run.addGradients(own)
      let found = run.parameterGradients.map { $0.map(\.bitPattern) }
      #expect(found.allSatisfy { $0.contains { $0 != 0 } })
      if let expected {
        #expect(found == expected, "\(threads) threads")
      } else {
        expected = found
      }
    }
  }

  /// Sums over the parts of a batch are those over the batch, but for rounding.
  @Test(arguments: ["convolutional", "sequential"], [1, 2])
  func partsOfABatchAddUp(network: String, size: Int) throws {
    var generator = SeededGenerator(seed: 65)
    let x = try batch(network, count: 4)
    let whole = try GradientRun(try test(network, x))
    let gradients = try whole.outputGradients(&generator)
    try whole.addGradients(gradients)
    let elements = x.elements(as: Float.self)
    let part = elements.count / 4 * size
    func tensor(_ index: Int) throws -> Tensor {
      try Tensor([size] + x.shape.dropFirst(), Array(elements[index * part..<(index + 1) * part]))
    }
    let parts = try GradientRun(try test(network, try tensor(0)))
    for index in 0..<(4 / size) {
      let own = gradients.map { gradient in
        let count = gradient.count / 4 * size
        return Array(gradient[index * count..<(index + 1) * count])
      }
      try parts.addGradients(own, [try tensor(index)])
    }
    let error = largestError(
      parts.parameterGradients, whole.parameterGradients.map { $0.map(Double.init) })
    #expect(error < 1e-5)
  }

  /// Every kernel set computes the same gradients.
  @Test(arguments: KernelSet.available)
  func gradientsAreTheSameBitsOnAnyKernels(kernels: KernelSet) throws {
    guard kernels != .reference else { return }
    var generator = SeededGenerator(seed: 66)
    for network in ["convolutional", "sequential"] {
      let test = try test(network, try batch(network, count: 1))
      let (best, own) = (try GradientRun(test), try GradientRun(test, kernels: kernels))
      let gradients = try best.outputGradients(&generator)
      try best.addGradients(gradients)
      try own.addGradients(gradients)
      #expect(
        best.parameterGradients.map { $0.map(\.bitPattern) }
          == own.parameterGradients.map { $0.map(\.bitPattern) }, "\(network)")
    }
  }

  /// An output that is a parameter takes no part in the loss, and keeps none from the others.
  @Test func outputsMayBeParameters() throws {
    var test = GradientCase()
    let x = try test.parameter(try Tensor([2], [3, 4] as [Float]))
    try test.output(try test.append(.unary(Unary(.square)), [x])[0])
    try test.output(x)
    let run = try GradientRun(test)
    try run.addGradients([[1, 10], [100, 100]])
    try run.addGradients([[1, 10], [100, 100]])
    #expect(run.parameterGradients == [[12, 160]])
  }

  /// Codes that are read as they are have no gradient, and are no float32 elements.
  @Test func codesAreRefused() throws {
    var generator = SeededGenerator(seed: 67)
    let x = try generator.tensor([2, 4])
    var fixed = GradientCase()
    let codes = try fixed.append(
      .quantize(Quantize(.int8, scale: 0.1, zeroPoint: 0)), [try fixed.parameter(x)])[0]
    try fixed.output(try fixed.append(.cast(Cast(to: .float32)), [codes])[0])
    #expect(throws: QMError.unsupported("")) { try GradientRun(fixed) }

    var output = GradientCase()
    try output.output(
      try output.append(
        .quantize(Quantize(.int8, scale: 0.1, zeroPoint: 0)), [try output.parameter(x)])[0])
    #expect(throws: QMError.unsupported("")) { try GradientRun(output) }

    var dynamic = GradientCase()
    let rows = try dynamic.append(
      .dynamicQuantize(DynamicQuantize(axes: 1)), [try dynamic.parameter(x)])
    let left = rows[0]
    let right = dynamic.constant(
      try generator.tensor([3, 4], in: Int8(-7)...7),
      .weights(bits: .eight, granularity: .perTensor)
    )
    let scales = dynamic.constant(try Tensor([1], [0.1] as [Float]))
    try dynamic.output(
      try dynamic.append(
        .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)),
        [left, right, nil, scales, rows[1]])[0])
    #expect(throws: QMError.unsupported("")) { try GradientRun(dynamic) }
  }
}
