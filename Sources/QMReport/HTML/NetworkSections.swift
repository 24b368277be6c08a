/// Sections about the inside of a network.
extension ReportPage {
  /// Drawings of single tensors that a page holds.
  private static let mostDrawings = 60
  /// Rows of a table that a page holds.
  private static let mostRows = 200

  // MARK: Error of inner values

  /// Where the error arises, and the ranges of activations.
  mutating func addValues(_ values: [ValueReport]?) {
    guard let values, !values.isEmpty else { return }
    let chart = BarChart(
      bars: values.map {
        .init(
          value: $0.signalToNoiseDecibels,
          tip: "\(Markup.shortened($0.name)) (\($0.operation.isEmpty ? "input" : $0.operation)): "
            + Units.decibels($0.signalToNoiseDecibels))
      }, titles: ("values in the order in which they are computed", "SQNR in dB"), keeps: <)
    let each = chart.drawn.each
    let lowest = values.sorted { $0.signalToNoiseDecibels < $1.signalToNoiseDecibels }.prefix(10)
    addSection(
      "Error along the network",
      "How close each inner value is to that of the float network. The error adds up on the way to the "
        + "outputs; a sudden drop shows which layer costs most.",
      [
        .charts([
          .figure(
            chart.drawing("SQNR of each inner value"),
            .text(
              each > 1
                ? "Each bar is the lowest of \(each) neighbouring values; the first is the input's side."
                : "Each bar is one value, from the input's side to the outputs.")
              + .text(
                values.contains { $0.signalToNoiseDecibels == .infinity }
                  ? " Bars up to the upper edge are exact." : "")),
          .element(
            "div", [:], .element("p", ["class": "dim"], .text("The lowest:")),
            .table(
              [.text("value"), .word("operation"), .number("SQNR")],
              lowest.map {
                [
                  .name($0.name), .text($0.operation.isEmpty ? "input" : $0.operation),
                  .decibels($0.signalToNoiseDecibels),
                ]
              })),
        ])
      ])
    addRanges(values)
  }

  private mutating func addRanges(_ values: [ValueReport]) {
    let ranged = values.filter { $0.range != nil || $0.runRanges != nil }
    guard !ranged.isEmpty else { return }
    // The values that were hit hardest, in the order of the network.
    let shown = ranged.enumerated()
      .sorted { $0.element.signalToNoiseDecibels < $1.element.signalToNoiseDecibels }
      .prefix(ReportPage.mostDrawings).sorted { $0.offset < $1.offset }.map(\.element)
    let figures = shown.map { value in
      let name = Markup.element("b", [:], .name(value.name))
      if let range = value.range {
        return Markup.figure(
          HistogramChart(counts: range.histogram.counts, inside: ValueReport.Range.inside)
            .drawing("numbers and range of a value"),
          name + .text(" range ") + ReportPage.interval(range.low, range.high) + .text("; seen ")
            + ReportPage.interval(range.least, range.greatest))
      }
      guard let ranges = value.runRanges else { return .empty }
      let (histogram, narrowest) = (ranges.histogram, ranges.narrowest)
      let width = histogram.high - histogram.low
      return Markup.figure(
        HistogramChart(
          counts: histogram.counts,
          inside: (narrowest.low - histogram.low) / width...(narrowest.high - histogram.low) / width
        ).drawing("numbers of a value and the narrowest range of a run"),
        name + .text(" ranges of runs: ") + .figure(ranges.count) + .text(", narrowest ")
          + ReportPage.interval(narrowest.low, narrowest.high) + .text(", all within ")
          + ReportPage.interval(ranges.all.low, ranges.all.high))
    }
    addSection(
      "Activations and their ranges",
      "What the float network computes, and between the broken lines the range that codes stand for. "
        + "Numbers beyond it, in the other color, become the nearest end. Where each run computes its own "
        + "ranges, the lines are those of the narrowest one, and no number is cut off. Heights are square "
        + "roots of counts.",
      folded(figures, of: ranged.count, "activations"))
  }

  private static func interval(_ low: Double, _ high: Double) -> Markup {
    .figure(low, Plot.short(low)) + .text(" to ") + .figure(high, Plot.short(high))
  }

  // MARK: Weights

  /// Bits of each tensor, and its codes.
  mutating func addWeights(_ weights: [WeightReport]?) {
    guard let weights, !weights.isEmpty else { return }
    let chart = BarChart(
      bars: weights.map {
        .init(
          value: $0.storedBits,
          tip:
            "\(Markup.shortened($0.name)): \(Units.fixed($0.storedBits, 2)) bits, \($0.bytes) bytes",
          isMarked: $0.codes == nil)
      }, titles: ("tensors in the order of the network", "bits of a weight in the file"))
    let largest = weights.sorted { $0.bytes > $1.bytes }.prefix(10)
    let areFloat = weights.contains { $0.codes == nil }
    addSection(
      "Bits of each tensor",
      "What one weight takes in the file, with its share of the scales. Tensors to whose error the "
        + "outputs are more sensitive get more bits.",
      [
        .charts([
          .figure(
            chart.drawing("bits of a weight of each tensor"),
            .text(
              (chart.drawn.each > 1
                ? "Each bar is the largest of \(chart.drawn.each) neighbouring tensors. " : "")
                + (areFloat ? "Tensors of the other color are no codes." : ""))),
          .element(
            "div", [:], .element("p", ["class": "dim"], .text("The largest in the file:")),
            .ranking(
              [.text("weights"), .number("bits"), .number("bytes")],
              largest.map {
                (
                  [
                    .name($0.name), .figure($0.storedBits, Units.fixed($0.storedBits, 2)),
                    .figure($0.bytes),
                  ],
                  Double($0.bytes)
                )
              })),
        ])
      ])
    let coded = weights.compactMap { weight in weight.codes.map { (weight, $0) } }
    let shown = coded.enumerated().sorted { $0.element.0.bytes > $1.element.0.bytes }
      .prefix(ReportPage.mostDrawings).sorted { $0.offset < $1.offset }.map(\.element)
    let figures = shown.map { weight, codes in
      let (counts, each) = ReportPage.merged(codes.counts)
      let last = codes.least + codes.counts.count - 1
      var caption =
        Markup.element("b", [:], .name(weight.name)) + .text(" codes ") + .figure(codes.least)
        + .text(" to \(last)")
      if each > 1 { caption += .text(", \(each) a bar") }
      if let least = codes.leastScale, let greatest = codes.greatestScale {
        caption += .text(", step ") + .figure(least, Units.significant(least))
        if greatest > least {
          caption += .text(" to ") + .figure(greatest, Units.significant(greatest))
        }
      }
      return Markup.figure(
        HistogramChart(
          counts: counts, hasGaps: counts.count <= 40,
          behind: codes.floats.map { each > 1 ? ReportPage.merged($0.counts).counts : $0.counts }
            ?? []
        ).drawing("codes of weights"), caption)
    }
    addSection(
      "Weights and their codes",
      "A weight is its code times a step, which all weights of the tensor or of a channel share. Each "
        + "bar is a code; heights are square roots of counts."
        + (coded.contains { $0.1.floats != nil }
          ? " Behind them, in the other color, lie the float weights that became the codes." : ""),
      folded(figures, of: coded.count, "tensors"))
  }

  /// Counts of at most 64 bars, and how many codes each stands for.
  private static func merged(_ counts: [Int]) -> (counts: [Int], each: Int) {
    let each = (counts.count + 63) / 64
    guard each > 1 else { return (counts, 1) }
    return (
      stride(from: 0, to: counts.count, by: each).map {
        counts[$0..<min($0 + each, counts.count)].reduce(0, +)
      }, each
    )
  }

  /// Small drawings: the first ones to see, the others behind a click.
  private func folded(_ figures: [Markup], of total: Int, _ what: String) -> [Markup] {
    let open = 12
    func grid(_ figures: some Collection<Markup>) -> Markup {
      .element("div", ["class": "small"], Array(figures))
    }
    var parts: [Markup] = figures.isEmpty ? [] : [grid(figures.prefix(open))]
    if figures.count > open {
      parts.append(.folded("\(figures.count - open) more", [grid(figures.dropFirst(open))]))
    }
    if total > figures.count {
      parts.append(
        .element(
          "p", ["class": "dim"],
          .text("\(figures.count) of \(total) \(what) are drawn; the JSON report has all.")))
    }
    return parts
  }

  // MARK: Nodes

  /// How each node runs, and what stays float.
  mutating func addNodes(_ nodes: [NodeReport]?, kept: [ConversionReport.FloatValue] = []) {
    if !kept.isEmpty {
      addSection(
        "What stays float32", "Values that integer operations could read, and why they do not.",
        [
          ReportPage.rows(
            [.text("value"), .text("why")], kept.map { [.name($0.value), .text($0.reason)] })
        ])
    }
    guard let nodes, !nodes.isEmpty else { return }
    let floats = nodes.filter { $0.mode == "float" }
    addSection(
      "How the nodes run",
      "Integer nodes compute on codes, tables look results up, moves copy elements, float nodes compute "
        + "in float32.",
      [
        Markup.element("p", [:], ReportPage.modes(nodes)),
        floats.isEmpty
          ? .empty
          : .folded(
            Units.count(floats.count, "float node") + ", and why", [ReportPage.table(floats)]),
        .folded("all nodes", [ReportPage.table(nodes)]),
      ])
  }

  private static func table(_ nodes: [NodeReport]) -> Markup {
    rows(
      [.text("node"), .word("operation"), .word("runs as"), .text("why")],
      nodes.map { [.name($0.name), .text($0.operation), .text($0.mode), .text($0.reason)] })
  }

  /// A table of at most so many rows as a page has room for.
  private static func rows(_ columns: [Markup.Column], _ rows: [[Markup]]) -> Markup {
    let table = Markup.table(columns, Array(rows.prefix(mostRows)))
    guard rows.count > mostRows else { return table }
    return table
      + .element(
        "p", ["class": "dim"],
        .text("and \(rows.count - mostRows) more, which the JSON report has"))
  }

  /// `Of 40 nodes, 30 run as integer, …`.
  static func modes(_ nodes: [NodeReport]) -> Markup {
    var counts: [(mode: String, count: Int)] = []
    for node in nodes {
      if let place = counts.firstIndex(where: { $0.mode == node.mode }) {
        counts[place].count += 1
      } else {
        counts.append((node.mode, 1))
      }
    }
    let words = counts.sorted { ($1.count, $0.mode) < ($0.count, $1.mode) }
      .map { "\($0.count) \($0.mode)" }.joined(separator: ", ")
    return .text("\(Units.count(nodes.count, "node")): \(words).")
  }

  // MARK: Time

  /// The nodes that take most of a run.
  mutating func addProfile(_ profile: [RunReport.ProfileEntry]?) {
    guard let profile, !profile.isEmpty else { return }
    let slowest = profile.sorted { $0.milliseconds > $1.milliseconds }.prefix(15)
    addSection(
      "Slowest nodes", "Times of one run on the machine that made this report.",
      [
        .ranking(
          [.text("node"), .number("ms"), .number("share")],
          slowest.map {
            (
              [
                .name($0.node) + .text(" (\($0.operation), \($0.mode))"),
                .figure($0.milliseconds, Units.significant($0.milliseconds)),
                .figure($0.share, Units.percent($0.share)),
              ],
              $0.milliseconds
            )
          })
      ])
  }
}
