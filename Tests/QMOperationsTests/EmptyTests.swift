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
