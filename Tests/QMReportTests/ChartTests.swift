import Foundation
import QMReport
import QMTensor
import Testing

@Suite struct ChartTests {
  /// The attributes of all elements of this kind.
  private func elements(_ name: String, in source: String) -> [[String: String]] {
    source.split(separator: "<").filter { $0.hasPrefix("\(name) ") }.map { element in
      var attributes: [String: String] = [:]
      for pair in element.matches(of: /([a-z0-9-]+)="([^"]*)"/) {
        attributes[String(pair.output.1)] = String(pair.output.2)
      }
      return attributes
    }
  }

  private func number(_ element: [String: String], _ name: String) throws -> Double {
    let text = try #require(element[name])
    return try #require(Double(text))
  }

  private func bars(
    _ values: [Double], keeps: @escaping (Double, Double) -> Bool = { $0 > $1 }
  ) -> BarChart {
    BarChart(bars: values.map { .init(value: $0, tip: "") }, titles: ("x", "y"), keeps: keeps)
  }

  /// Numbers that a broken network has too.
  static let numbers: [[Double]] = [
    [1, 2, 3], [0], [-5, 5], [0.001, 0.0011], [1e-320, 0], [1e308, -1e308], [.infinity, 1],
    [.nan, 2], [-.infinity], [], [7, 7, 7], Array(repeating: 3, count: 1000),
  ]

  @Test(arguments: numbers) func barsAreInsideTheAxes(_ numbers: [Double]) throws {
    let rectangles = elements("rect", in: bars(numbers).drawing("").source)
    let count = numbers.count { !$0.isNaN }
    #expect(rectangles.count == (count > BarChart.mostBars ? 250 : count))
    for bar in rectangles {
      let (x, y) = (try number(bar, "x"), try number(bar, "y"))
      let (width, height) = (try number(bar, "width"), try number(bar, "height"))
      #expect(x >= Plot.left - 0.01 && x + width <= Plot.right + 0.01)
      #expect(y >= Plot.top - 0.01 && y + height <= Plot.bottom + 0.51)
    }
  }

  @Test func barsAreAsLongAsTheirNumbers() throws {
    let rectangles = elements("rect", in: bars([10, 20, 40]).drawing("").source)
    let heights = try rectangles.map { try number($0, "height") }
    #expect(abs(heights[1] - 2 * heights[0]) < 0.02 && abs(heights[2] - 4 * heights[0]) < 0.04)
    #expect(rectangles.map { $0["data-value"] } == ["10", "20", "40"])
  }

  /// Of more bars than can be seen, each drawn one is the lowest of its neighbours.
  @Test func theLowestNeighbourIsShown() {
    let numbers: [Double] = (0..<700).map { $0 == 333 ? -1 : Double($0 % 10) + 1 }
    let drawn = bars(numbers, keeps: { $0 < $1 }).drawn
    #expect(drawn.each == 3)
    #expect(drawn.bars.count == 234)
    #expect(drawn.bars[111].value == -1)
  }

  @Test func longLinesKeepTheirExtremes() {
    let points: [LineChart.Point] = (0..<10_000).map {
      (Double($0), $0 == 5000 ? 99 : Double($0 % 7))
    }
    let thinned = LineChart.thinned(points)
    #expect(thinned.count <= LineChart.mostPoints + 1)
    #expect(thinned.contains { $0.y == 99 } && thinned.contains { $0.y == 0 })
    #expect(zip(thinned, thinned.dropFirst()).allSatisfy { $0.x < $1.x })
  }

  @Test(arguments: numbers) func linesOfAnyNumbersAreDrawn(_ numbers: [Double]) throws {
    for isLogarithmic in [false, true] {
      let chart = LineChart(
        series: [
          .init(
            name: "s", points: numbers.enumerated().map { (Double($0), $1) }, style: "first",
            hasDots: true)
        ], titles: ("x", "y"), isLogarithmic: isLogarithmic)
      for dot in elements("circle", in: chart.drawing("").source) {
        let (x, y) = (try number(dot, "cx"), try number(dot, "cy"))
        #expect(x >= Plot.left - 0.01 && x <= Plot.right + 0.01)
        #expect(y >= Plot.top - 0.01 && y <= Plot.bottom + 0.01)
      }
    }
  }

  @Test(arguments: numbers) func axesHoldTheirNumbers(_ numbers: [Double]) {
    let axis = Axis.linear(numbers)
    #expect(axis.low < axis.high)
    #expect(axis.ticks.count < 12)
    for number in numbers where number.isFinite && abs(number) < 1e300 {
      #expect(axis.low <= number && number <= axis.high)
    }
    #expect(Axis.linear([0, 37]).ticks == [0, 10, 20, 30, 40])
    #expect(abs(Axis.logarithmic([0.01, 100]).place(1) - 0.5) < 1e-12)
  }

  @Test func histogramsCountWhatLiesBeyondThem() {
    var histogram = Histogram(low: 0, high: 4, binCount: 4)
    histogram.add([-10, 0, 0.5, 1, 3.99, 4, .infinity, .nan, -.infinity])
    #expect(histogram.counts == [4, 1, 0, 3])
  }

  /// Numbers that round to an end of a range are not beyond it.
  @Test func rangesHoldHalfAStepMore() {
    var range = ValueReport.Range(low: 0, high: 255, codeCount: 256)
    range.add([0, -0.4, 255.4, -0.6, 256])
    let counts = range.histogram.counts
    #expect(counts.prefix(8).reduce(0, +) == 1 && counts.suffix(8).reduce(0, +) == 1)
    #expect(counts[8] == 2 && counts[39] == 1)
    #expect(range.least == Double(Float(-0.6)) && range.greatest == 256)
  }

  // MARK: Graphs

  /// A chain, with an edge over all of it and a second branch.
  static let graphs: [[[Int]]] = [
    [], [[]], [[], [0], [1], [0, 2], [0], [3, 4]], (0..<200).map { $0 == 0 ? [] : [$0 - 1, 0] },
    [[], [], [], [0, 1, 2], [0], [1], [2, 3, 4, 5]],
  ]

  @Test(arguments: graphs) func nodesAreBelowTheirSourcesAndApart(_ sources: [[Int]]) {
    let layout = GraphLayout(sources)
    for (node, sources) in sources.enumerated() {
      #expect(sources.allSatisfy { layout.layers[$0] < layout.layers[node] })
      #expect(layout.columns[node] >= -1e-9 && layout.columns[node] + 1 <= layout.width + 1e-9)
      for other in 0..<node where layout.layers[other] == layout.layers[node] {
        #expect(abs(layout.columns[other] - layout.columns[node]) >= 1 - 1e-9)
      }
    }
    for edge in layout.edges {
      #expect(edge.columns.count == layout.layers[edge.target] - layout.layers[edge.source] - 1)
    }
  }

  /// A histogram grows with what it has to hold, and keeps what it counted.
  @Test func histogramsWiden() {
    var histogram = Histogram(low: -1, high: 1, binCount: 4)
    histogram.add([-0.75, -0.25, 0.25, 0.75, 0.8])
    #expect(histogram.counts == [1, 1, 1, 2])
    histogram.widen(toHold: -0.5...2)
    #expect(histogram.low == -1 && histogram.high == 3)
    #expect(histogram.counts == [2, 3, 0, 0])
    histogram.widen(toHold: -12...3)
    #expect(histogram.low == -13 && histogram.high == 3)
    #expect(histogram.counts == [0, 0, 0, 5])
    histogram.add([-12, 3])
    #expect(histogram.counts == [1, 0, 0, 6])
  }

  @Test func graphsAreEscaped() throws {
    let graph = GraphReport(
      file: "<f>.qm",
      nodes: [
        .init(name: "a\"\\<b>\n", operation: "Add", sources: []),
        .init(name: "c", operation: "Add", sources: [0], byteShare: 0.5),
      ])
    let svg = try graph.svg()
    #expect(!svg.contains("<b>") && !svg.contains("<f>"))
    #expect(svg.contains("data-value=\"0.5\""))
    #expect(graph.dot.contains(#"n0 [label="a\"\\<b>\\u{a}\nAdd, float\n[1, 2]", "#))
    #expect(graph.dot.contains("n0 -> n1;"))
  }

  @Test func tooManyNodesAreRefused() {
    let graph = GraphReport(
      file: "f",
      nodes: (0...GraphReport.mostDrawnNodes).map {
        .init(name: "", operation: "Add", sources: $0 > 0 ? [$0 - 1] : [])
      })
    #expect(throws: QMError.unsupported("")) { try graph.svg() }
  }
}
