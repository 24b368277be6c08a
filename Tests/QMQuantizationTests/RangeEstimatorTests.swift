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

  @Test func zeroIsAlwaysOnTheGrid() {
    for (low, high) in [(Float(2), Float(5)), (-3, -1), (0, 0), (-0.1, 7)] {
      let grid = QuantizationParameters(covering: low, high)
      #expect((-128...127).contains(grid.zeroPoint))
      #expect(grid.scale > 0 && grid.scale.isNormal)
    }
  }
}
