/// Numbers that change with another one, such as the steps of a training.
package struct LineChart {
  package typealias Point = (x: Double, y: Double)

  /// A line.
  package struct Series {
    let name: String
    let points: [Point]
    /// The class of the line's color: `first`, `second` or `third`.
    let style: String
    /// Whether each point is a dot with its number.
    let hasDots: Bool

    package init(name: String, points: [Point], style: String, hasDots: Bool = false) {
      self.name = name
      self.points = points
      self.style = style
      self.hasDots = hasDots
    }
  }

  let series: [Series]
  let titles: (x: String, y: String)
  let isLogarithmic: Bool
  /// Places along the lower side that are marked, such as steps that were clipped.
  let marks: [Double]

  /// A line has at most this many points.
  package static let mostPoints = 240

  package init(
    series: [Series], titles: (x: String, y: String), isLogarithmic: Bool = false,
    marks: [Double] = []
  ) {
    self.series = series
    self.titles = titles
    self.isLogarithmic = isLogarithmic
    self.marks = marks
  }

  /// The points that are drawn: of more than can be seen, the least and the largest of neighbours.
  package static func thinned(_ points: [Point]) -> [Point] {
    guard points.count > mostPoints else { return points }
    let each = (points.count * 2 + mostPoints - 1) / mostPoints
    return stride(from: 0, to: points.count, by: each).flatMap { start in
      let part = points[start..<min(start + each, points.count)]
      let finite = part.indices.filter { part[$0].y.isFinite }
      guard let least = finite.min(by: { part[$0].y < part[$1].y }),
        let largest = finite.max(by: { part[$0].y < part[$1].y })
      else { return [Point]() }
      return (least == largest ? [least] : [min(least, largest), max(least, largest)])
        .map { part[$0] }
    }
  }

  /// The chart.
  /// - Parameter label: what it shows, for readers who do not see it.
  package func drawing(_ label: String) -> Markup {
    let drawn = series.map { LineChart.thinned($0.points) }
    let heights = drawn.flatMap { $0.map(\.y) }
    let places = series.flatMap { $0.points.map(\.x) }
    let x = Axis.linear(places)
    let plot = Plot(
      x: .exact(
        places.min() ?? 0, max(places.max() ?? 1, (places.min() ?? 0) + 1),
        ticks: x.ticks
          .filter { $0 >= places.min() ?? 0 && $0 <= places.max() ?? 1 && $0 == $0.rounded() }),
      y: isLogarithmic ? .logarithmic(heights) : .linear(heights), titles: titles)
    var parts: [Markup] = []
    for (line, points) in zip(series, drawn) {
      let visible = points.filter { $0.y.isFinite && (!isLogarithmic || $0.y > 0) }
      guard !visible.isEmpty else { continue }
      let places = visible.map { Markup.Place(plot.pointX($0.x), plot.pointY($0.y)) }
      if places.count > 1 { parts.append(.polyline(places, class: "line \(line.style)")) }
      guard line.hasDots || places.count == 1 else { continue }
      for (place, point) in zip(places, visible) {
        parts.append(
          .dot(
            place, radius: 2.5, class: "dot \(line.style)", value: point.y,
            "\(line.name) \(Plot.short(point.y)) at \(Plot.short(point.x))"))
      }
    }
    // Marks nearer than a point of the drawing cannot be told apart.
    let bottoms = Set(marks.map { plot.pointX($0).rounded() }).sorted()
    parts += bottoms.map {
      .line(($0, Plot.bottom), ($0, Plot.bottom - 6), class: "mark")
    }
    return plot.drawing(label, parts) + legend
  }

  private var legend: Markup {
    guard series.count > 1 || !marks.isEmpty else { return .empty }
    return .element(
      "p", ["class": "legend"],
      series.map { .element("span", ["class": "key \($0.style)"], .text($0.name)) })
  }
}
