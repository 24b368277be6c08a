/// How often numbers occur, as a small drawing without axes. The heights are square roots of counts, so
/// that tails are visible beside a peak.
struct HistogramChart {
  let counts: [Int]
  /// The part of the width that codes stand for, 0 to 1; what lies beyond is drawn in another color.
  var inside: ClosedRange<Double>?
  /// Whether bars stand apart, one for each code.
  var hasGaps = false
  /// How often other numbers occur in the same width, drawn behind; none if empty. They are as many, so
  /// that both have the same scale.
  var behind: [Int] = []

  static let (width, height) = (180.0, 64.0)

  /// The drawing.
  /// - Parameter label: what it shows, for readers who do not see it.
  func drawing(_ label: String) -> Markup {
    var parts: [Markup] = []
    let slot = HistogramChart.width / Double(max(counts.count, 1))
    // Where there are several bins behind each bar.
    let share = Double(behind.count) / Double(max(counts.count, 1))
    let most = max(Double(counts.max() ?? 0), share * Double(behind.max() ?? 0)).squareRoot()
    if !behind.isEmpty {
      let heights = behind.map {
        (share * Double($0)).squareRoot() / most * HistogramChart.height
      }
      parts.append(
        .element(
          "path",
          [
            "d": path(heights, HistogramChart.width / Double(behind.count), hasGaps: false),
            "class": "area behind",
          ]))
    }
    let ends = inside.map {
      ($0.lowerBound * Double(counts.count), $0.upperBound * Double(counts.count))
    }
    for isInside in [true, false] {
      let heights = counts.enumerated().map { index, count in
        let middle = Double(index) + 0.5
        let isDrawn = (ends.map { $0.0 < middle && middle < $0.1 } ?? true) == isInside
        // Whatever occurs is visible.
        return count > 0 && isDrawn
          ? max(Double(count).squareRoot() / most * HistogramChart.height, 0.7) : 0
      }
      guard heights.contains(where: { $0 > 0 }) else { continue }
      parts.append(
        .element(
          "path",
          ["d": path(heights, slot, hasGaps: hasGaps), "class": isInside ? "area" : "area beyond"]))
    }
    if let inside {
      for end in [inside.lowerBound, inside.upperBound] {
        let x = end * HistogramChart.width
        parts.append(.line((x, 0), (x, HistogramChart.height), class: "level"))
      }
    }
    parts.append(
      .line(
        (0, HistogramChart.height), (HistogramChart.width, HistogramChart.height), class: "axis"))
    return .drawing(HistogramChart.width, HistogramChart.height + 1, label, parts)
  }

  /// The outline of bars.
  private func path(_ heights: [Double], _ slot: Double, hasGaps: Bool) -> String {
    let bottom = Markup.coordinate(HistogramChart.height, digits: 1)
    func x(_ number: Double) -> String { Markup.coordinate(number, digits: 1) }
    var path = "M0 \(bottom)"
    for (index, height) in heights.enumerated() where height > 0 || !hasGaps {
      let top = Markup.coordinate(HistogramChart.height - height, digits: 1)
      let (start, end) = (Double(index) * slot, Double(index + 1) * slot)
      path +=
        hasGaps
        ? "M\(x(start + 0.15 * slot)) \(bottom)V\(top)H\(x(end - 0.15 * slot))V\(bottom)"
        : "V\(top)H\(x(end))"
    }
    return path + "V\(bottom)"
  }
}
