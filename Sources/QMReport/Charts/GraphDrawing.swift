import QMTensor

extension GraphReport {
  /// Nodes that a drawing holds; more than these are no picture any more.
  public static let mostDrawnNodes = 3000

  /// The graph as a drawing: an SVG file of its own, light or dark as the reader's system is.
  /// - Throws: `unsupported` with more than ``mostDrawnNodes`` nodes.
  public func svg() throws(QMError) -> String {
    guard nodes.count <= GraphReport.mostDrawnNodes else {
      throw .unsupported(
        "\(nodes.count) nodes are too many for a drawing, at most \(GraphReport.mostDrawnNodes); "
          + "write the language of Graphviz to a .dot file")
    }
    let layout = GraphLayout(nodes.map(\.sources))
    let (pitchX, pitchY, margin) = (232.0, 118.0, 16.0)
    let (nodeWidth, nodeHeight) = (212.0, 90.0)
    let top = margin + 22
    func center(_ column: Double) -> Double { margin + column * pitchX }
    func left(_ node: Int) -> Double { center(layout.columns[node] + 0.5) - nodeWidth / 2 }
    func height(_ layer: Int) -> Double { top + Double(layer) * pitchY }
    var parts: [Markup] = []
    for edge in layout.edges {
      var points: [Markup.Place] = [
        (center(layout.columns[edge.source] + 0.5), height(layout.layers[edge.source]) + nodeHeight)
      ]
      for (index, column) in edge.columns.enumerated() {
        let layer = layout.layers[edge.source] + 1 + index
        points += [(center(column), height(layer)), (center(column), height(layer) + nodeHeight)]
      }
      points.append((center(layout.columns[edge.target] + 0.5), height(layout.layers[edge.target])))
      parts.append(.curve(points, class: "edge"))
    }
    for (index, node) in nodes.enumerated() {
      let (x, y) = (left(index), height(layout.layers[index]))
      var box: [Markup] = [
        .element("title", [:], .text(([node.name] + node.lines).joined(separator: " · "))),
        .element(
          "rect",
          [
            "x": Markup.coordinate(x), "y": Markup.coordinate(y),
            "width": Markup.coordinate(nodeWidth), "height": Markup.coordinate(nodeHeight),
            "rx": "5", "class": "box \(node.mode)",
          ]),
        .label(GraphReport.fitted(node.name, 29), at: (x + 8, y + 17), class: "strong"),
      ]
      for (line, text) in node.lines.enumerated() {
        box.append(.label(GraphReport.fitted(text), at: (x + 8, y + 32 + 13.5 * Double(line))))
      }
      // Shares of the bytes and of the work, as bars along the lower edge.
      for (row, share) in [node.byteShare, node.workShare ?? 0].enumerated()
      where share >= GraphReport.leastShare {
        box.append(
          .bar(
            x: x + 8, y: y + nodeHeight - 9 + 4 * Double(row),
            width: share * (nodeWidth - 16), height: 3,
            class: row == 0 ? "share bytes" : "share work", value: share,
            "\(Units.percent(share)) of \(row == 0 ? "bytes" : "multiply-adds")"))
      }
      for (names, place) in [(node.inputs, y - 5), (node.outputs, y + nodeHeight + 14)]
      where !names.isEmpty {
        let text = names.joined(separator: ", ")
        box.append(
          .label(
            (place < y ? "from " : "gives ") + GraphReport.fitted(text), at: (x + 8, place),
            class: "port"))
      }
      parts.append(.element("g", [:], box))
    }
    let width = max(layout.width * pitchX + 2 * margin, 560)
    let bottom = top + Double(layout.layerCount) * pitchY + margin
    let legend = Markup.label(
      "\(Markup.shortened(file)): bars are shares of the bytes (upper) and of the multiply-adds (lower)",
      at: (margin, 16), class: "port")
    return Markup.element(
      "svg",
      [
        "xmlns": "http://www.w3.org/2000/svg", "width": Markup.coordinate(width),
        "height": Markup.coordinate(bottom),
        "viewBox": "0 0 \(Markup.coordinate(width)) \(Markup.coordinate(bottom))",
      ], [.graphStyle, legend] + parts
    ).source + "\n"
  }

  /// Shorter bars cannot be seen.
  private static let leastShare = 0.003

  /// As much of a text as a node has room for: names differ at their ends.
  private static func fitted(_ text: String, _ most: Int = 33) -> String {
    let shortened = Markup.shortened(text)
    return shortened.count <= most ? shortened : "…" + shortened.suffix(most - 1)
  }
}

extension Markup {
  /// A smooth line through points, downwards.
  static func curve(_ points: [Place], class name: String) -> Markup {
    var path = "M\(coordinate(points[0].x)) \(coordinate(points[0].y))"
    for (from, to) in zip(points, points.dropFirst()) {
      let middle = (from.y + to.y) / 2
      path +=
        from.x == to.x
        ? "V\(coordinate(to.y))"
        : "C\(coordinate(from.x)) \(coordinate(middle)) \(coordinate(to.x)) \(coordinate(middle)) "
          + "\(coordinate(to.x)) \(coordinate(to.y))"
    }
    return .element("path", ["d": path, "class": name])
  }

  fileprivate static let graphStyle = Markup.style(
    """
    svg{color-scheme:light dark;background:#fff}
    text{font:11px system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif;fill:#3f4754}
    .strong{font-weight:600;fill:#1b1f27}.port{fill:#1f6fd0}
    .box{fill:#eceef1;stroke:#9aa3b0}.box.integer{fill:#dbe9fb}.box.table{fill:#ecdffa}\
    .box.float{fill:#fde3d5}
    .edge{fill:none;stroke:#9aa3b0;stroke-width:1.2}
    .share.bytes{fill:#1f6fd0}.share.work{fill:#c2410c}
    @media(prefers-color-scheme:dark){svg{background:#14171c}text{fill:#c3cad6}.strong{fill:#f0f2f5}\
    .port{fill:#6aa9f7}.box{fill:#262b33;stroke:#5c6675}.box.integer{fill:#1b3350}\
    .box.table{fill:#37264a}.box.float{fill:#4d2a18}.edge{stroke:#5c6675}.share.bytes{fill:#6aa9f7}\
    .share.work{fill:#f98a55}}
    """)
}
