/// What figures of quality mean, in words.
struct Quality {
  /// SQNR in dB of the worst part of an output; nil if nothing was measured.
  let decibels: Double?
  /// Name of that part.
  let part: String
  /// The lowest share of rows with the same class, 0 to 1; nil without classes.
  let agreement: Double?

  init(_ outputs: [OutputReport]) {
    let worst = outputs.flatMap(\.decidingFigures).min {
      $0.signalToNoiseDecibels < $1.signalToNoiseDecibels
    }
    decibels = worst?.signalToNoiseDecibels
    part = worst?.name ?? ""
    agreement = outputs.compactMap { $0.topOneAgreement ?? $0.agreement }.min()
  }

  var tone: ReportPage.Tone {
    guard let decibels else { return .plain }
    return decibels >= 30 ? .good : decibels >= 20 || decidesAlike ? .plain : .warn
  }

  /// Whether decisions are right although numbers are not.
  private var decidesAlike: Bool { decibels ?? 0 >= 10 && agreement ?? 0 >= 0.98 }

  /// How the network behaves, as the end of a sentence that began with something good.
  var words: String {
    guard let decibels else { return "; how close it is was not measured" }
    if decibels == .infinity { return " and gives exactly the results of the float network" }
    if decibels >= 30 { return " and behaves like the float network" }
    if decibels >= 20 { return " and is close to the float network: check it with your own metric" }
    if decidesAlike {
      return " and decides as the float network does, though its numbers differ visibly"
    }
    if decibels >= 10 {
      return ", but differs visibly from the float network: check it with your own metric"
    }
    return ", but differs so much from the float network that most tasks fail"
  }

  static let scale =
    "SQNR compares the signal with the error: at 10 dB the error has a tenth of the signal's power, at "
    + "20 dB a hundredth, at 30 dB a thousandth. Higher is better."

  /// The figures in sentences.
  var sentences: [Markup] {
    guard let decibels else { return [] }
    var sentence = Markup.text("The worst output, ") + .name(part) + .text(", ")
    sentence +=
      decibels == .infinity
      ? .text("does not differ.")
      : .text("is ") + .decibels(decibels)
        + .text(" above its error (SQNR, the median over the samples).")
    guard let agreement else { return [sentence] }
    return [
      sentence + .text(" In ") + .figure(agreement, Units.percent(agreement))
        + .text(" of the cases, both networks decide alike.")
    ]
  }

  /// What became of the outputs as a table.
  static func table(_ outputs: [OutputReport]) -> [Markup] {
    guard !outputs.isEmpty else { return [] }
    let rows = outputs.flatMap { output in
      [
        [
          Markup.name(output.name) + (output.isState ? .text(" (state)") : .empty),
          .decibels(output.signalToNoiseDecibels),
          .figure(output.deviationDecibels, Units.decibels(output.deviationDecibels)),
          (output.agreement ?? output.topOneAgreement).map { .figure($0, Units.percent($0)) }
            ?? .text("–"),
          .figure(output.samples),
        ]
      ]
        + output.parts.map { part in
          [
            .text("· ") + .name(part.name), .decibels(part.signalToNoiseDecibels),
            .figure(part.deviationDecibels, Units.decibels(part.deviationDecibels)), .empty, .empty,
          ]
        }
    }
    return [
      .table(
        [.text("output"), .number("SQNR"), .number("±"), .number("agrees"), .number("samples")],
        rows)
    ]
  }
}

extension ReportPage {
  /// The table of outputs, and the samples that fare worst.
  mutating func addOutputs(_ outputs: [OutputReport]) {
    addSection(
      "Outputs", Quality.scale + " ± is the median deviation of single samples.",
      Quality.table(outputs))
    let figures = outputs.filter { $0.samples > 1 && !$0.isState && !$0.worstSamples.isEmpty }
      .prefix(8).map { output in
        Markup.figure(
          BarChart(
            bars: output.worstSamples.map {
              .init(
                value: $0.signalToNoiseDecibels,
                tip: "\(Markup.shortened($0.name)): \(Units.decibels($0.signalToNoiseDecibels))")
            }, titles: ("samples, the worst first", "SQNR in dB"),
            level: Quality.level("median", output.signalToNoiseDecibels)
          ).drawing("SQNR of the worst samples"),
          .text("Output ") + .name(output.name) + .text(": ")
            + Quality.list(output.worstSamples.prefix(5)))
      }
    addSection(
      "Samples that fare worst",
      "Look at these first: what they have in common is what the file is worst at.",
      figures.isEmpty ? [] : [.charts(figures)])
  }
}

extension Quality {
  /// A level of a chart; nil if it is infinite.
  static func level(_ name: String, _ decibels: Double) -> BarChart.Level? {
    decibels.isFinite ? .init(value: decibels, text: "\(name) \(Units.decibels(decibels))") : nil
  }

  fileprivate static func list(_ samples: ArraySlice<OutputReport.Sample>) -> Markup {
    samples.enumerated().reduce(Markup.empty) { text, item in
      text + .text(item.offset == 0 ? "" : ", ") + .name(item.element.name) + .text(" (")
        + .decibels(item.element.signalToNoiseDecibels) + .text(")")
    }
  }
}
