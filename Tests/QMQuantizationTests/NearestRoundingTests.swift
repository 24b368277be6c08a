import QMQuantization
import QMTensor
import QMTestSupport
import Testing

@Suite struct NearestRoundingTests {
  private func weights(seed: UInt64) throws -> Tensor {
    var generator = SeededGenerator(seed: seed)
    return try Tensor(
      [7, 31],
      (0..<(7 * 31)).map { index in
        Float.random(in: -1...1, using: &generator) * Float(1 + index / 31)
      })
  }

  @Test(arguments: 2...8) func eachWeightIsWithinHalfAStepUnlessItClips(bits: Int) throws {
    let width = try #require(BitWidth(bits))
    let weights = try weights(seed: 4)
    let result = try NearestRounding(bits: width, granularity: .perChannel(axis: 0))
      .quantize(weights)
    let codes = result.codes.elements(as: Int8.self)
    let scales = result.scales.elements(as: Float.self)
    #expect(scales.count == 7)
    for (index, weight) in weights.elements(as: Float.self).enumerated() {
      let scale = scales[index / 31]
      let code = Int32(codes[index])
      #expect(width.symmetricCodes.contains(code))
      if width.symmetricCodes.dropFirst().dropLast().contains(code) {
        #expect(abs(weight - Float(code) * scale) <= scale * 0.500001)
      }
    }
  }

  @Test func clippingByErrorBeatsTheFullRange() throws {
    let four = try #require(BitWidth(4))
    let row = (0..<64).map { Float($0 == 0 ? 8 : sin8($0)) }
    let result = try NearestRounding(bits: four, granularity: .perChannel(axis: 0))
      .quantize(Tensor([1, 64], row))
    #expect(result.scales.elements(as: Float.self)[0] < 8 / 7)
  }

  @Test(arguments: 2...7) func theScaleIsTheOneOfLeastError(bits: Int) throws {
    let width = try #require(BitWidth(bits))
    let limit = Float(width.symmetricCodes.upperBound)
    let weights = try weights(seed: UInt64(bits))
    let scales = try NearestRounding(bits: width, granularity: .perChannel(axis: 0))
      .quantize(weights).scales.elements(as: Float.self)
    for channel in 0..<7 {
      let row = weights.elements(as: Float.self)[channel * 31..<(channel + 1) * 31]
      var best = (scale: Float(0), error: Float.infinity)
      for step in 30...100 {
        let scale = row.map { abs($0) }.max()! / limit * Float(step) / 100
        let inverse = 1 / scale
        var error: Float = 0
        for weight in row {
          let code = min(max((weight * inverse).rounded(.toNearestOrEven), -limit), limit)
          error += (weight - code * scale) * (weight - code * scale)
        }
        if error < best.error { best = (scale, error) }
      }
      #expect(scales[channel] == best.scale, "channel \(channel)")
    }
  }

  @Test func aChannelOfZerosHasAUsableScale() throws {
    let result = try NearestRounding(bits: .eight, granularity: .perChannel(axis: 0))
      .quantize(Tensor([1, 3], [Float(0), 0, 0]))
    #expect(result.scales.elements(as: Float.self) == [1])
    #expect(result.codes.elements(as: Int8.self) == [0, 0, 0])
  }

  @Test func notANumberIsRefused() throws {
    let rounding = NearestRounding(bits: .eight, granularity: .perTensor)
    #expect(throws: QMError.malformed("")) {
      try rounding.quantize(Tensor([1, 2], [Float.nan, 1]))
    }
  }

  /// A small periodic number, the same on every machine.
  private func sin8(_ index: Int) -> Float { Float([0, 3, 4, 3, 0, -3, -4, -3][index % 8]) / 4 }
}
