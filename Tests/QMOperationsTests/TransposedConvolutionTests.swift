import QMOperations
import QMTensor
import QMTestSupport
import Testing

@Suite struct TransposedConvolutionTests {
  @Test func byHand() throws {
    // Each input times the window [1, 2, 3], two apart: 1, 2, 3+10, 20, 30.
    let operation = Convolution(
      order: .channelsLast, strides: [1], dilations: [1],
      padding: .explicit(before: [2], after: [2]), groups: 1, spacing: [2])
    let input = TestOperand(try Tensor([1, 2, 1], [1, 10] as [Float]))
    // A convolution meets its taps in the other direction.
    let weights = TestOperand(try Tensor([1, 3, 1], [3, 2, 1] as [Float]), isConstant: true)
    let output: [Float] = try referenceOutputs(operation, [input, weights])[0].elements()
    #expect(output == [1, 2, 13, 20, 30])
    try expectKernelsEqualReference(operation, [input, weights], "by hand")
  }

  @Test(arguments: [ProductCase.Arithmetic.float, .fixed, .dynamic])
  func kernelsEqualReference(arithmetic: ProductCase.Arithmetic) throws {
    var generator = SeededGenerator(seed: 61)
    for (spacing, window, dilation) in [
      ([2, 2], [2, 2], 1), ([2, 2], [3, 3], 1), ([2, 1], [4, 3], 1), ([3, 1], [3, 5], 2),
      ([1, 3], [2, 4], 1),
    ] {
      for groups in [1, 3] {
        for padding in [0, 1, 3] {
          let (channels, outputs) = (6, 9)
          let operation0 = Convolution(
            order: .channelsLast, strides: [1, 1], dilations: [dilation, dilation],
            padding: .explicit(
              before: window.map { max(($0 - 1) * dilation - padding, 0) },
              after: window.map { ($0 - 1) * dilation }),
            groups: groups, spacing: spacing)
          let input = [2, 4, 5, channels]
          let weights = [outputs] + window + [channels / groups]
          let shape = try operation0.outputTypes(for: [
            Operand(ValueType(.float32, Shape(input))),
            Operand(ValueType(.float32, Shape(weights))),
          ])[0].shape.extents!
          let test = ProductCase(&generator, arithmetic)
          var operation = operation0
          operation.epilogue = test.epilogue
          let inputs = try test.inputs(
            &generator, input: input, weights: weights, output: shape, channels: outputs,
            channelAxis: 0, parameters: [2], constantWeights: true)
          try expectKernelsEqualReference(
            operation, inputs, "\(arithmetic) \(spacing) \(window) groups \(groups)")
        }
      }
    }
  }
}
