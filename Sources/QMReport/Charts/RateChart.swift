/// Size against quality of files with several numbers of bits a weight.
struct RateChart {
  /// A file.
  struct Point {
    let bits: Double
    let bytes: Int
    /// SQNR in dB.
    let decibels: Double
    let isMeasured: Bool
    let isChosen: Bool
  }

  /// In any order.
  let points: [Point]

  /// The chart.
  /// - Parameter label: what it shows, for readers who do not see it.
  func drawing(_ label: String) -> Markup {
    let points = points.filter { $0.decibels.isFinite }.sorted { $0.bytes < $1.bytes }
    let plot = Plot(
      x: .linear(points.map { Double($0.bytes) / 1000 }), y: .linear(points.map(\.decibels)),
      titles: ("size of the file in kB", "SQNR in dB"))
    func place(_ point: Point) -> Markup.Place {
      (plot.pointX(Double(point.bytes) / 1000), plot.pointY(point.decibels))
    }
    let isPredicted = points.contains { !$0.isMeasured }
    var parts = [
      Markup.polyline(points.map(place), class: isPredicted ? "line second dashed" : "line first")
    ]
    var labelled: [Markup.Place] = []
    // The chosen point is labelled first, others where there is room.
    for point in points.filter(\.isChosen) + points.filter({ !$0.isChosen }) {
      let place = place(point)
      let kind = point.isChosen ? "dot chosen" : point.isMeasured ? "dot first" : "dot hollow"
      parts.append(
        .dot(
          place, radius: point.isChosen ? 5 : 3, class: kind, value: point.decibels,
          "\(Units.shortest(point.bits)) bits: \(point.bytes) bytes, \(Units.decibels(point.decibels))"
            + (point.isMeasured ? "" : ", predicted")))
      // The first label, with its unit, is about 32 wide.
      let hasRoom = labelled.enumerated().allSatisfy { index, other in
        abs(other.x - place.x) > (index == 0 ? 40 : 22) || abs(other.y - place.y) > 14
      }
      guard hasRoom else { continue }
      labelled.append(place)
      let isRight = place.x > Plot.right - 30
      // Above the point where the axis is too near.
      let isAbove = isRight || place.y > Plot.bottom - 16
      parts.append(
        .label(
          Units.shortest(point.bits) + (point.isChosen ? " bits" : ""),
          at: (place.x + (isRight ? -7 : isAbove ? -4 : 7), place.y + (isAbove ? -7 : 12)),
          anchor: isRight ? "end" : "start", class: point.isChosen ? "note strong" : "note"))
    }
    return plot.drawing(label, parts)
  }
}
