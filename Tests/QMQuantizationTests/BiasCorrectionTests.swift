import QMGraph
import QMQuantization
import QMTensor
import QMTestSupport
import Testing

@Suite struct BiasCorrectionTests {
  /// The mean output over any inputs is what it was before weights and inputs were rounded.
  @Test(arguments: [2, 3, 4, 8]) func keepsTheMeanOutput(bits: Int) throws {
    var generator = SeededGenerator(seed: UInt64(bits))
    let (outputs, depth, rows) = (5, 24, 200)
    let weights = try Tensor(
      [outputs, depth],
      (0..<outputs * depth).map { _ in Float.random(in: -1...1, using: &generator) })
    let bias = try Tensor([outputs], (0..<outputs).map { Float($0) })
    // Far from zero on average, as after a hard-swish.
    let inputs = (0..<rows * depth).map { index in
      Float.random(in: 0...2, using: &generator) + Float(index % depth) / 8
    }
    var means = ChannelMeans(channelCount: depth)
    inputs.withUnsafeBufferPointer { means.add($0) }
    // Everything over 3 is cut off, so that rounding moves the means.
    let inputsOnGrid = inputs.map { min(($0 * 4).rounded(), 12) / 4 }
    var meansOnGrid = ChannelMeans(channelCount: depth)
    inputsOnGrid.withUnsafeBufferPointer { meansOnGrid.add($0) }
    let rounded = try NearestRounding(
      bits: #require(BitWidth(bits)), granularity: .perChannel(axis: 0)
    ).quantize(weights)
    let corrected = try #require(
      try BiasCorrection.corrected(
        bias, weights: weights, rounded: rounded, means: means.means,
        roundedMeans: meansOnGrid.means)
    ).elements(as: Float.self)

    let numbers = weights.elements(as: Float.self)
    let codes = rounded.codes.elements(as: Int8.self)
    let scales = rounded.scales.elements(as: Float.self)
    var wasWrong = false
    for output in 0..<outputs {
      var (exact, uncorrected) = (0.0, 0.0)
      for row in 0..<rows {
        for index in 0..<depth {
          let x = Double(inputs[row * depth + index])
          exact += x * Double(numbers[output * depth + index])
          uncorrected +=
            Double(inputsOnGrid[row * depth + index]) * Double(scales[output])
            * Double(codes[output * depth + index])
        }
      }
      let shift = (exact - uncorrected) / Double(rows)
      wasWrong = wasWrong || abs(shift) > 1e-3
      #expect(abs(Double(corrected[output]) - Double(output) - shift) < 1e-4)
    }
    #expect(wasWrong)
  }

  @Test func eachGroupReadsItsOwnChannels() throws {
    // Two groups of one channel: the first weight is rounded away, the second is exact.
    let weights = try Tensor([2, 1], [Float(0.25), 1])
    let rounded = QuantizedTensor(
      codes: try Tensor([2, 1], [Int8(0), 1]), scales: try Tensor([1], [Float(1)]),
      granularity: .perTensor, codeRange: -128...127)
    let corrected = try BiasCorrection.corrected(
      nil, weights: weights, rounded: rounded, means: [8, 100], roundedMeans: [8, 100])
    #expect(corrected?.elements(as: Float.self) == [2, 0])
  }
}

@Suite struct ChannelMeansTests {
  @Test func partsMergeToTheWholeInAnyOrder() {
    var generator = SeededGenerator(seed: 5)
    let parts = (0..<4).map { part in
      (0..<3 * (part + 1)).map { _ in Float.random(in: -1e6...1e-6, using: &generator) }
    }
    func means(_ elements: [Float]) -> ChannelMeans {
      var means = ChannelMeans(channelCount: 3)
      elements.withUnsafeBufferPointer { means.add($0) }
      return means
    }
    let whole = means(parts.flatMap { $0 })
    for order in [[0, 1, 2, 3], [3, 1, 0, 2]] {
      var merged = ChannelMeans(channelCount: 3)
      for part in order { merged.merge(means(parts[part])) }
      #expect(merged == whole)
    }
  }
}
