import QMTensor
import Testing

@Suite struct QuantizedTensorTests {
  private func tensor(_ range: ClosedRange<Int32>) throws -> QuantizedTensor {
    QuantizedTensor(
      codes: try Tensor([1], [Int8(0)]), scales: try Tensor([1], [Float(1)]),
      granularity: .perTensor, codeRange: range)
  }

  @Test func itsTypeStatesTheLeastWidthOfItsCodes() throws {
    for (range, bits) in [
      (-1...1, 2), (-2...1, 2), (-2...2, 3), (0...7, 4), (-7...7, 4), (-8...0, 4), (-64...63, 7),
      (-127...127, 8), (-128...0, 8),
    ] as [(ClosedRange<Int32>, Int)] {
      let width = try #require(BitWidth(bits))
      #expect(
        try tensor(range).quantization == .weights(bits: width, granularity: .perTensor), "\(range)"
      )
    }
    #expect(BitWidth(holding: 0...128) == nil)
  }

  @Test func theSymmetricCodesOfAWidthNeedThatWidth() throws {
    for bits in 2...8 {
      let width = try #require(BitWidth(bits))
      #expect(BitWidth(holding: width.symmetricCodes) == width)
      #expect(BitWidth(holding: width.allCodes) == width)
    }
  }

  @Test func granularityFollowsItsAxis() {
    // Axes 0, 1, 2 become 2, 0, 1.
    #expect(Granularity.perChannel(axis: 0).permuted(by: [2, 0, 1]) == .perChannel(axis: 1))
    #expect(
      Granularity.perGroup(axis: 2, size: 32).permuted(by: [2, 0, 1])
        == .perGroup(axis: 0, size: 32))
    #expect(Granularity.perTensor.permuted(by: [1, 0]) == .perTensor)
  }
}
