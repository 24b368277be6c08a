/// The area of a chart with its axes.
package struct Plot {
  /// Width of every chart. The page scales charts to the width of the window.
  static let width = 360.0
  static let height = 190.0
  /// Ends of the area in which numbers are drawn.
  package static let (left, right, top, bottom) = (46.0, 352.0, 22.0, 158.0)

  let x: Axis
  let y: Axis
  /// What the axes say, with units.
  let titles: (x: String, y: String)
  var showsTicksOfX = true

  func pointX(_ number: Double) -> Double { Plot.left + x.place(number) * (Plot.right - Plot.left) }
  func pointY(_ number: Double) -> Double {
    Plot.bottom - y.place(number) * (Plot.bottom - Plot.top)
  }

  static func short(_ number: Double) -> String { Units.significant(number, digits: 4) }

  /// The chart: axes under the marks.
  func drawing(_ label: String, _ marks: [Markup]) -> Markup {
    var parts: [Markup] = []
    for tick in y.ticks {
      let height = pointY(tick)
      parts.append(.line((Plot.left, height), (Plot.right, height), class: "grid"))
      parts.append(.label(Plot.short(tick), at: (Plot.left - 4, height + 3.5), anchor: "end"))
    }
    for tick in showsTicksOfX ? x.ticks : [] {
      parts.append(
        .line((pointX(tick), Plot.bottom), (pointX(tick), Plot.bottom + 3), class: "axis"))
      let isLast = pointX(tick) > Plot.right - 10
      parts.append(
        .label(
          Plot.short(tick), at: (isLast ? Plot.width - 2 : pointX(tick), Plot.bottom + 14),
          anchor: isLast ? "end" : "middle"))
    }
    parts.append(.line((Plot.left, Plot.bottom), (Plot.right, Plot.bottom), class: "axis"))
    parts.append(.label(titles.y, at: (2, 12), class: "title"))
    parts.append(
      .label(titles.x, at: (Plot.right, Plot.bottom + 28), anchor: "end", class: "title"))
    return .drawing(Plot.width, Plot.height, label, parts + marks)
  }
}

/// The elements of drawings. Coordinates have two digits after the point.
extension Markup {
  static func drawing(
    _ width: Double, _ height: Double, _ label: String, _ parts: [Markup]
  ) -> Markup {
    .element(
      "svg",
      [
        "viewBox": "0 0 \(coordinate(width)) \(coordinate(height))", "role": "img",
        "aria-label": label,
      ], parts)
  }

  /// At most so many digits after the point.
  static func coordinate(_ number: Double, digits: Int = 2) -> String {
    var text = Units.fixed(number, digits)
    while text.contains("."), text.hasSuffix("0") { text.removeLast() }
    if text.hasSuffix(".") { text.removeLast() }
    return text == "-0" ? "0" : text
  }

  typealias Place = (x: Double, y: Double)

  static func line(_ from: Place, _ to: Place, class name: String) -> Markup {
    .element(
      "line",
      [
        "x1": coordinate(from.x), "y1": coordinate(from.y), "x2": coordinate(to.x),
        "y2": coordinate(to.y), "class": name,
      ])
  }

  static func label(
    _ text: String, at place: Place, anchor: String = "start", class name: String = "tick"
  ) -> Markup {
    .element(
      "text",
      [
        "x": coordinate(place.x), "y": coordinate(place.y), "text-anchor": anchor,
        "class": name,
      ], .text(text))
  }

  /// A bar that stands for a number of the report.
  static func bar(
    x: Double, y: Double, width: Double, height: Double, class name: String, value: Double,
    _ tip: String
  ) -> Markup {
    .element(
      "rect",
      [
        "x": coordinate(x), "y": coordinate(y), "width": coordinate(width),
        "height": coordinate(height), "class": name, "data-value": digits(value),
      ], .element("title", [:], .text(tip)))
  }

  /// A dot that stands for a number of the report.
  static func dot(
    _ place: Place, radius: Double, class name: String, value: Double, _ tip: String
  ) -> Markup {
    .element(
      "circle",
      [
        "cx": coordinate(place.x), "cy": coordinate(place.y), "r": coordinate(radius),
        "class": name, "data-value": digits(value),
      ], .element("title", [:], .text(tip)))
  }

  /// A line through points.
  static func polyline(_ points: [Place], class name: String) -> Markup {
    let text = points.map { "\(coordinate($0.x)),\(coordinate($0.y))" }.joined(separator: " ")
    return .element("polyline", ["points": text, "class": name])
  }
}
