import QMOperations
import QMTensor
import QMTestSupport
import Testing

/// An axis of extent 0 is an ordinary case: no boxes found, a cache at its first step.
@Suite struct EmptyTests {
  private func product(_ left: [Int], _ right: [Int]) throws -> Tensor {
    try Operation.matrixMultiply(MatrixMultiply(rightLayout: .depthFirst)).evaluate([
      Tensor(zeros: .float32, left), Tensor(zeros: .float32, right),
    ])[0]
  }

  @Test func productsOfNothing() throws {
    #expect(try product([0, 3], [3, 5]).shape == [0, 5])
    #expect(try product([2, 0, 3], [3, 5]).shape == [2, 0, 5])
    #expect(try product([2, 3], [3, 0]).shape == [2, 0])
    // A sum over nothing is 0.
    #expect(
      try product([2, 0], [0, 4]).elements(as: Float.self) == [Float](repeating: 0, count: 8))
  }

  @Test func aBatchOfNoSamples() throws {
    let convolution = Operation.convolution(
      Convolution(
        order: .channelsLast, strides: [1, 1], dilations: [1, 1],
        padding: .explicit(before: [1, 1], after: [1, 1]), groups: 1))
    let output = try convolution.evaluate([
      Tensor(zeros: .float32, [0, 6, 6, 3]), Tensor(zeros: .float32, [4, 3, 3, 3]),
    ])[0]
    #expect(output.shape == [0, 6, 6, 4])
  }

  /// A convolution over no elements, and the outputs of ONNX Runtime 1.32.0 for biases 10 and 20; the
  /// empty ones are those of the text, where it gives an error.
  struct OverNothing: CustomTestStringConvertible, Sendable {
    var testDescription: String {
      "\(input), \(weights), pads \(before) \(after), spacing \(spacing)"
    }
    var input = [1, 1, 0]
    var weights = [2, 1, 3]
    var strides = [1]
    var before: [Int]
    var after: [Int]
    var groups = 1
    var spacing = [1]
    let output: [Int]
  }

  static let overNothing = [
    OverNothing(before: [2], after: [2], output: [1, 2, 2]),
    OverNothing(weights: [2, 1, 1], strides: [2], before: [1], after: [1], output: [1, 2, 1]),
    OverNothing(input: [1, 2, 0], before: [2], after: [2], groups: 2, output: [1, 2, 2]),
    OverNothing(
      input: [1, 1, 0, 4], weights: [2, 1, 3, 3], strides: [1, 1], before: [2, 1], after: [2, 1],
      spacing: [1, 1], output: [1, 2, 2, 4]),
    OverNothing(before: [1], after: [1], output: [1, 2, 0]),
    OverNothing(before: [0], after: [0], output: [1, 2, 0]),
    // ConvTranspose, as it is read: strides are a spacing, and pads are those of the window.
    OverNothing(before: [2], after: [2], spacing: [2], output: [1, 2, 1]),
    OverNothing(before: [2], after: [2], spacing: [3], output: [1, 2, 0]),
    OverNothing(before: [2], after: [1], output: [1, 2, 1]),
    OverNothing(
      input: [1, 1, 0, 2], weights: [2, 1, 3, 3], strides: [1, 1], before: [2, 2], after: [2, 2],
      spacing: [2, 2], output: [1, 2, 1, 5]),
    OverNothing(
      input: [1, 1, 0, 0], weights: [2, 1, 2, 2], strides: [1, 1], before: [1, 1], after: [1, 1],
      spacing: [1, 1], output: [1, 2, 1, 1]),
  ]

  @Test(arguments: overNothing) func aConvolutionOfNothingIsItsBias(_ given: OverNothing) throws {
    let operation = Operation.convolution(
      Convolution(
        order: .channelsFirst, strides: given.strides, dilations: given.strides.map { _ in 1 },
        padding: .explicit(before: given.before, after: given.after), groups: given.groups,
        spacing: given.spacing))
    let weights = try Tensor(
      given.weights, [Float](repeating: 1, count: given.weights.reduce(1, *)))
    let output = try operation.evaluate([
      Tensor(zeros: .float32, given.input), weights, Tensor([2], [10, 20] as [Float]),
    ])[0]
    #expect(output.shape == given.output)
    let plane = given.output[2...].reduce(1, *)
    #expect(
      output.elements(as: Float.self)
        == [Float](repeating: 10, count: plane) + [Float](repeating: 20, count: plane))
  }

  @Test(arguments: [ProductCase.Arithmetic.float, .fixed, .wide, .dynamic])
  func kernelsTakeWindowsOfPaddingOnly(arithmetic: ProductCase.Arithmetic) throws {
    var generator = SeededGenerator(seed: 23)
    // In turn: any, grouped, depthwise, and channels enough for the transforms of Winograd.
    for (channels, outputs, groups) in [(3, 5, 1), (4, 6, 2), (19, 19, 19), (16, 16, 1)] {
      // The reference loops compute depthwise convolutions of codes of 16 bits.
      if arithmetic == .wide, groups == channels { continue }
      for extents in [[0, 4], [3, 0], [0, 0]] {
        var test = ProductCase(&generator, arithmetic)
        if channels == 16 { test.bits = 8 }
        let operation = Convolution(
          order: .channelsLast, strides: [1, 1], dilations: [1, 1],
          padding: .explicit(before: [2, 1], after: [2, 3]), groups: groups,
          epilogue: test.epilogue)
        let output = [2, extents[0] + 2, extents[1] + 2, outputs]
        let inputs = try test.inputs(
          &generator, input: [2] + extents + [channels],
          weights: [outputs, 3, 3, channels / groups], output: output, channels: outputs,
          channelAxis: 0, parameters: [2], constantWeights: true)
        try expectKernelsEqualReference(operation, inputs, "\(extents), \(groups), \(test)")
      }
    }
  }

  @Test func poolingOverNothing() throws {
    func pooled(_ kind: Pooling.Kind, _ shape: [Int], pads: Int) throws -> Tensor {
      try Operation.pooling(
        Pooling(
          kind: kind, order: .channelsFirst, window: [3], strides: [1], dilations: [1],
          padding: .explicit(before: [pads], after: [pads]), roundsUp: false)
      ).evaluate([Tensor(zeros: .float32, shape)])[0]
    }
    #expect(try pooled(.maximum, [1, 2, 0], pads: 0).shape == [1, 2, 0])
    #expect(try pooled(.averageOfInside, [1, 2, 0], pads: 1).shape == [1, 2, 0])
    let nothing = try pooled(.maximum, [1, 1, 0], pads: 2)
    #expect(nothing.elements(as: Float.self) == [-.infinity, -.infinity])
    // A window that does not fit is an error if there are elements.
    #expect(throws: QMError.malformed("")) { try pooled(.maximum, [1, 1, 1], pads: 0) }
  }

  /// ONNX Runtime 1.32.0: with `ceil_mode` a window larger than the input counts if it begins in it.
  @Test func aLargerWindowCountsRoundedUp() throws {
    let output = try Operation.pooling(
      Pooling(
        kind: .averageOfPadded, order: .channelsFirst, window: [4], strides: [2], dilations: [1],
        padding: .explicit(before: [0], after: [0]), roundsUp: true)
    ).evaluate([Tensor([1, 1, 3], [1, 2, 6] as [Float])])[0]
    #expect(output.shape == [1, 1, 1])
    #expect(output.elements(as: Float.self) == [3])
  }

  @Test func everyKernelSetTakesAnEmptyOperand() throws {
    let full = try Tensor([2, 3], [1, 2, 3, 4, 5, 6] as [Float])
    for kernels in KernelSet.available {
      let joined = try Operation.concatenate(Concatenate(axis: 1))
        .evaluate([full, Tensor(zeros: .float32, [2, 0])], kernels: kernels)[0]
      #expect(joined.isIdentical(to: full), "\(kernels)")
      let sum = try Operation.binary(Binary(.add))
        .evaluate([Tensor(zeros: .float32, [0, 3]), full.reshaped([2, 1, 3])], kernels: kernels)
      #expect(sum[0].shape == [2, 0, 3], "\(kernels)")
    }
  }
}
