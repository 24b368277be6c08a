/// Numbers of things in an order, such as the layers of a network, as bars side by side.
package struct BarChart {
  /// One thing.
  package struct Bar {
    package let value: Double
    /// What the pointer shows.
    let tip: String
    /// Whether the bar has the color of a remark.
    let isMarked: Bool

    package init(value: Double, tip: String, isMarked: Bool = false) {
      self.value = value
      self.tip = tip
      self.isMarked = isMarked
    }
  }

  /// A level that bars are compared with.
  package struct Level {
    let value: Double
    let text: String
  }

  let bars: [Bar]
  let titles: (x: String, y: String)
  let level: Level?
  /// Which of neighbouring bars is shown where there are too many.
  let keeps: (Double, Double) -> Bool

  /// More bars than this are thinner than a line.
  package static let mostBars = 300

  package init(
    bars: [Bar], titles: (x: String, y: String), level: Level? = nil,
    keeps: @escaping (Double, Double) -> Bool = { $0 > $1 }
  ) {
    self.bars = bars
    self.titles = titles
    self.level = level
    self.keeps = keeps
  }

  /// The bars that are drawn, and for how many neighbours each stands.
  package var drawn: (bars: [Bar], each: Int) {
    let each = (bars.count + BarChart.mostBars - 1) / BarChart.mostBars
    guard each > 1 else { return (bars, 1) }
    let kept = stride(from: 0, to: bars.count, by: each).map { start in
      bars[start..<min(start + each, bars.count)].reduce(bars[start]) {
        keeps($1.value, $0.value) ? $1 : $0
      }
    }
    return (kept, each)
  }

  /// The chart.
  /// - Parameter label: what it shows, for readers who do not see it.
  package func drawing(_ label: String) -> Markup {
    let drawn = drawn.bars
    let values = drawn.map(\.value)
    let axis = Axis.linear(values + [level?.value].compactMap(\.self), includesZero: true)
    let plot = Plot(
      x: .exact(0, 1, ticks: []), y: axis, titles: titles, showsTicksOfX: false)
    let slot = (Plot.right - Plot.left) / Double(max(drawn.count, 1))
    let width = min(slot * (slot > 3 ? 0.8 : 1), 28)
    let zero = plot.pointY(0)
    let bars = drawn.enumerated().filter { !$1.value.isNaN }.map { index, bar in
      let end = plot.pointY(bar.value)
      return Markup.bar(
        x: Plot.left + (Double(index) + 0.5) * slot - width / 2, y: min(end, zero), width: width,
        height: max(abs(end - zero), 0.5), class: bar.isMarked ? "bar marked" : "bar",
        value: bar.value, bar.tip)
    }
    var lines: [Markup] = []
    if let level {
      let height = plot.pointY(level.value)
      lines.append(.line((Plot.left, height), (Plot.right, height), class: "level"))
      // Beside the title: on the bars it could not be read.
      lines.append(.label("broken line: \(level.text)", at: (Plot.right, 12), anchor: "end"))
    }
    return plot.drawing(label, bars + lines)
  }
}
