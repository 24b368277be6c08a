import QMQuantization
import QMTestSupport
import Testing

@Suite struct HistogramTests {
  private func statistics(_ parts: [[Float]]) -> [ValueStatistics] {
    parts.map { part in
      var statistics = ValueStatistics(withHistogram: true)
      part.withUnsafeBufferPointer { statistics.add($0) }
      return statistics
    }
  }

  @Test(arguments: 0..<20) func partsMergeToTheWholeInAnyOrder(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    let parts: [[Float]] = (0..<5).map { part in
      let scale = Float.random(in: 0.001...1000, using: &generator)
      return (0..<200).map { _ in Float.random(in: -scale...scale, using: &generator) } + [0]
    }
    let whole = statistics([parts.flatMap { $0 }])[0]
    for order in [[0, 1, 2, 3, 4], [4, 2, 0, 3, 1]] {
      var merged = ValueStatistics(withHistogram: true)
      for part in order { merged.merge(statistics([parts[part]])[0]) }
      #expect(merged == whole)
    }
  }

  @Test func countsFallWhereTheElementsAre() throws {
    let histogram = try #require(statistics([[0, 0, 1, -1, 0.999]])[0].histogram)
    #expect(histogram.zeroCount == 2)
    #expect(histogram.totalCount == 5)
    #expect(histogram.binWidth == Float(1) / 512)
    #expect(histogram.counts[Histogram.halfCount + 512] == 1)
    #expect(histogram.counts[Histogram.halfCount - 512] == 1)
  }

  @Test func infinitiesAndNaNAreCountedApart() {
    let seen = statistics([[1, .nan, .infinity, -2]])[0]
    #expect(seen.nonFiniteCount == 2)
    #expect(seen.elementCount == 2)
    #expect(seen.minimum == -2 && seen.maximum == 1)
  }
}
