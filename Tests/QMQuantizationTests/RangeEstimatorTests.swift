import QMGraph
import QMOperations
import QMQuantization
import QMTestSupport
import Testing

@Suite struct RangeEstimatorTests {
  /// 10,000 elements of a bell curve and one far out.
  private func withOutlier() -> (elements: [Float], statistics: ValueStatistics) {
    var generator = SeededGenerator(seed: 1)
    var elements = (0..<10_000).map { _ in
      (0..<12).reduce(Float(-6)) { sum, _ in sum + Float.random(in: 0...1, using: &generator) }
    }
    elements.append(100)
    var statistics = ValueStatistics(withHistogram: true)
    elements.withUnsafeBufferPointer { statistics.add($0) }
    return (elements, statistics)
  }

  private func meanSquaredError(_ elements: [Float], _ range: ClosedRange<Float>) -> Double {
    let grid = QuantizationParameters(covering: range.lowerBound, range.upperBound)
    return elements.reduce(0) { sum, element in
      let code = min(max((element / grid.scale).rounded() + Float(grid.zeroPoint), -128), 127)
      let difference = Double(element - (code - Float(grid.zeroPoint)) * grid.scale)
      return sum + difference * difference
    } / Double(elements.count)
  }

  @Test func minMaxHoldsEverything() {
    let (elements, statistics) = withOutlier()
    let range = RangeEstimator.minMax.range(of: statistics)
    #expect(range.upperBound == 100)
    #expect(range.lowerBound == elements.min())
  }

  @Test func percentileLeavesTheOutlierOut() {
    let range = RangeEstimator.percentile(99.9).range(of: withOutlier().statistics)
    #expect(range.upperBound < 6)
    #expect(range.lowerBound > -6 && range.lowerBound < -2)
  }

  /// The search sees bins and not elements: 2 % for that.
  @Test func leastErrorIsNoWorseThanTheOthers() {
    let (elements, statistics) = withOutlier()
    let error = meanSquaredError(
      elements, RangeEstimator.meanSquaredError.range(of: statistics))
    for other in [RangeEstimator.minMax, .percentile(99.9)] {
      #expect(error <= 1.02 * meanSquaredError(elements, other.range(of: statistics)))
    }
  }

  /// round((x − μ) / σ · 2^b) has the step σ / 2^b and the offset μ; codes of 8 bits hold it around the
  /// mean. A bin of the histogram is 1/64 wide.
  @Test(arguments: [4, 5, 6]) func deviationIsTheNormalisedForm(b: Int) throws {
    let (elements, statistics) = withOutlier()
    let count = Double(elements.count)
    let mean = elements.reduce(0) { $0 + Double($1) } / count
    let deviation = (elements.reduce(0) { $0 + (Double($1) - mean) * (Double($1) - mean) } / count)
      .squareRoot()
    let factor = Float(sign: .plus, exponent: 7 - b, significand: 1)
    let range = RangeEstimator.deviation(factor).range(of: statistics)
    let lowest = try #require(elements.min())
    #expect(
      abs(Double(range.lowerBound) - max(mean - Double(factor) * deviation, Double(lowest)))
        < 0.05 * Double(factor))
    #expect(
      abs(Double(range.upperBound) - (mean + Double(factor) * deviation)) < 0.05 * Double(factor))
    guard Double(lowest) < mean - Double(factor) * deviation else { return }
    let grid = QuantizationParameters(covering: range.lowerBound, range.upperBound)
    let step = deviation / Double(1 << b)
    #expect(abs(Double(grid.scale) - step * 256 / 255) < 0.02 * step)
    // The mean lies in the middle of the codes.
    #expect(abs(mean / Double(grid.scale) + Double(grid.zeroPoint)) < 1)
  }

  /// The numbers of Q(x) = round(x / s + b) · s, with s and b from the range and its codes.
  @Test(arguments: [(-128, 127), (-128, 255), (0, 255)] as [(Float, Float)])
  func fixedRangesAreTheAffineForm(low: Float, high: Float) throws {
    let range = RangeEstimator.fixed(low...high).range(of: withOutlier().statistics)
    #expect(range == low...high)
    let grid = QuantizationParameters(covering: range.lowerBound, range.upperBound)
    let scale = (high - low) / 255
    #expect(abs(grid.scale - scale) <= 1e-6 * scale)
    #expect(grid.zeroPoint == Int((-128 - low / scale).rounded()))
    if high - low == 255 {
      // Whole numbers are kept.
      let whole: [Float] = [low, 0, 1, 77, high]
      var rounded = whole
      rounded.withUnsafeMutableBufferPointer { FakeQuantize(grid).apply(to: $0) }
      #expect(rounded == whole)
    }
  }

  @Test(arguments: [
    RangeEstimator.minMax, .percentile(99.9), .meanSquaredError, .deviation(3), .fixed(-128...255),
  ])
  func namesAreRead(estimator: RangeEstimator) {
    #expect(RangeEstimator(estimator.description) == estimator)
  }

  @Test(arguments: [
    "", "min", "percentile:", "percentile:20", "deviation:0", "deviation:nan", "deviation:1:2",
    "fixed", "fixed:1", "fixed:2:1", "fixed:0:inf", "mse:1", "deviation:4:",
  ])
  func otherNamesAreRefused(name: String) { #expect(RangeEstimator(name) == nil) }

  @Test func zeroIsAlwaysOnTheGrid() {
    for (low, high) in [(Float(2), Float(5)), (-3, -1), (0, 0), (-0.1, 7)] {
      let grid = QuantizationParameters(covering: low, high)
      #expect((-128...127).contains(grid.zeroPoint))
      #expect(grid.scale > 0 && grid.scale.isNormal)
    }
  }
}
