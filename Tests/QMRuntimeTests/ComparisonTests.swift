import QMRuntime
import QMTensor
import Testing

@Suite struct ComparisonTests {
  @Test func figuresOfAKnownDifference() throws {
    var comparison = Comparison()
    try comparison.add(
      reference: Tensor([2, 2], [3, 4, 0, 0] as [Float]),
      measured: Tensor([2, 2], [3, 4.5, 0, 0] as [Float]))
    // 25 over 0.25.
    #expect(abs(comparison.signalToNoise - 20) < 1e-9)
    #expect(comparison.largestDifference == 0.5)
    #expect(abs(comparison.cosine - 27 / (25 * 29.25).squareRoot()) < 1e-12)
    #expect(comparison.topOneAgreement == 1)
    #expect((comparison.sampleCount, comparison.elementCount) == (1, 4))

    try comparison.add(
      reference: Tensor([1, 2], [1, 0] as [Float]), measured: Tensor([1, 2], [0, 1] as [Float]))
    #expect(comparison.topOneAgreement == 2.0 / 3)
    #expect(abs(comparison.signalToNoise - 10 * Comparison.decibels(26 / 2.25) / 10) < 1e-9)
  }

  @Test func theEndsOfTheScale() throws {
    let (zeros, ones) = (try Tensor([2], [0, 0] as [Float]), try Tensor([2], [1, 1] as [Float]))
    var equal = Comparison()
    try equal.add(reference: ones, measured: ones)
    #expect(equal.signalToNoise == .infinity)
    #expect(equal.cosine == 1)

    var nothing = Comparison()
    try nothing.add(reference: zeros, measured: ones)
    #expect(nothing.signalToNoise == -.infinity)

    var broken = Comparison()
    try broken.add(reference: ones, measured: Tensor([2], [1, .nan] as [Float]))
    #expect(broken.signalToNoise == -.infinity)
    #expect(broken.largestDifference == .infinity)
  }

  @Test func otherTypesAreNumbersAndOtherShapesAreRefused() throws {
    let codes = try Tensor([3], [1, 2, 3] as [Int64])
    var comparison = Comparison()
    try comparison.add(reference: codes, measured: Tensor([3], [1, 2, 5] as [Int64]))
    #expect(comparison.largestDifference == 2)
    #expect(throws: QMError.invalidInput("")) {
      try comparison.add(reference: codes, measured: Tensor([1, 3], [1, 2, 3] as [Int64]))
    }
    #expect(throws: QMError.invalidInput("")) {
      try comparison.add(reference: codes, measured: Tensor([3], [1, 2, 3] as [Int32]))
    }
  }
}
