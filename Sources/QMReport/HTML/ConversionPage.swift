extension ConversionReport: PageReport {
  /// The conversion as a page.
  public var page: ReportPage {
    var page = ReportPage(title: "\(source.path) → \(output.path)")
    let quality = Quality(outputs)
    page.addVerdict(
      .text("The file is ") + .figure(ratio, Units.fixed(ratio, 2))
        + .text(" times smaller\(quality.words)."),
      quality.tone, sentences(quality))
    var tiles: [(Markup, String)] = [
      (.figure(output.bytes, Units.bytes(output.bytes)), "size of the file"),
      (.figure(source.bytes, Units.bytes(source.bytes)), "size of the float network"),
      (.figure(bits, Units.shortest(bits)), "bits of a weight"),
    ]
    if let decibels = quality.decibels { tiles.append((.decibels(decibels), "SQNR, worst output")) }
    if let agreement = quality.agreement {
      tiles.append((.figure(agreement, Units.percent(agreement)), "same decision as in float"))
    }
    page.addTiles(tiles)
    page.addRates(budget, predictions, chosen: (bits, output.bytes, quality.decibels))
    page.addValues(values)
    page.addWeights(weights)
    page.addOutputs(outputs)
    page.addAlternatives(alternatives, areOtherSamples: samples > 0 && !isJudgedOnFittedSamples)
    page.addNodes(nodes, kept: kept)
    return page
  }

  private func sentences(_ quality: Quality) -> [Markup] {
    var sentences = [
      Markup.text("The file takes ") + .figure(output.bytes, Units.bytes(output.bytes))
        + .text(", the float network ") + .figure(source.bytes, Units.bytes(source.bytes))
        + .text(". \(weightWords)")
    ]
    sentences += quality.sentences
    if let notMeasured {
      sentences.append(.text("No input that the conversion made could be run: \(notMeasured)."))
    }
    if madeInputs > 0, !outputs.isEmpty {
      sentences.append(
        .text("This was measured on ") + .figure(madeInputs)
          + .text(
            " inputs made from noise, because there were no samples: real inputs may do worse."))
    } else if isJudgedOnFittedSamples {
      sentences.append(
        .text(
          "This was measured on the samples that ranges were fitted to, because there are fewer than "
            + "8: other inputs may do worse."))
    } else if let judging = outputs.first?.samples {
      sentences.append(
        .text("This was measured on ") + .figure(judging) + .text(" of the ") + .figure(samples)
          + .text(" samples, to which nothing was fitted."))
    }
    sentences.append(floatSentence)
    return sentences
  }

  private var weightWords: String {
    let words: String
    switch bits {
    case 32: words = "Weights stay float32"
    case 16: words = "Weights are float16"
    default:
      words = "Each weight takes \(Units.shortest(bits)) bits on average"
    }
    let activations =
      switch activations {
      case "int8": "activations are int8 with fixed ranges where outputs allow it"
      case "dynamic": "activations are int8 with the ranges of each run where outputs allow it"
      default: "activations stay float32"
      }
    return "\(words); \(activations)."
  }

  /// What stays float32, and why.
  private var floatSentence: Markup {
    guard !kept.isEmpty else {
      return .text("No value had to stay float32 for the sake of quality.")
    }
    var reasons: [(words: String, count: Int)] = []
    for value in kept {
      // Figures of single values stand in the table.
      let words =
        value.reason.hasPrefix("int8 alone")
        ? "int8 would cost the outputs too much" : value.reason
      if let place = reasons.firstIndex(where: { $0.words == words }) {
        reasons[place].count += 1
      } else {
        reasons.append((words, 1))
      }
    }
    let list =
      reasons.count == 1
      ? Markup.shortened(reasons[0].words)
      : reasons.map { "\($0.count) (\(Markup.shortened($0.words)))" }
        .prefix(6).joined(separator: ", ")
    return .text(
      "\(Units.count(kept.count, "value")) stay\(kept.count == 1 ? "s" : "") float32: \(list).")
  }
}

extension ReportPage {
  /// Size against quality with several numbers of bits.
  mutating func addRates(
    _ budget: BudgetReport?, _ predictions: [BudgetReport.Prediction]?,
    chosen: (bits: Double, bytes: Int, decibels: Double?)?,
    meaning: String = "the large one is the file"
  ) {
    var points = (budget?.trials ?? []).compactMap { trial in
      trial.signalToNoiseDecibels.map {
        RateChart.Point(
          bits: trial.bits, bytes: trial.bytes, decibels: $0, isMeasured: true,
          isChosen: trial.bits == chosen?.bits)
      }
    }
    if let chosen, let decibels = chosen.decibels, !points.contains(where: \.isChosen) {
      points.append(
        .init(
          bits: chosen.bits, bytes: chosen.bytes, decibels: decibels, isMeasured: true,
          isChosen: true))
    }
    points += (predictions ?? []).compactMap { prediction in
      prediction.signalToNoiseDecibels.map {
        .init(
          bits: prediction.bits, bytes: prediction.bytes, decibels: $0, isMeasured: false,
          isChosen: false)
      }
    }
    guard points.count > 1 else { return }
    var parts = [
      Markup.figure(
        RateChart(points: points).drawing("size against SQNR"),
        .text(
          points.contains { !$0.isMeasured }
            ? "Only the large dot is measured. The others are a rule of thumb: 6 dB a bit as long as "
              + "weights decide. Where activations limit the quality, more bits give less. A dry run "
              + "measures them."
            : "All dots are measured; \(meaning)."))
    ]
    if let budget { parts.append(ReportPage.table(budget)) }
    addSection(
      "Size and quality", "What more or fewer bits of a weight give.", [.charts(parts)])
  }

  private static func table(_ budget: BudgetReport) -> Markup {
    var columns: [Markup.Column] = [.number("bits"), .number("bytes"), .number("SQNR")]
    if budget.drop != nil { columns.append(.number("loss")) }
    let table = Markup.table(
      columns,
      budget.trials.sorted { $0.bits > $1.bits }.map { trial in
        [
          .figure(trial.bits, Units.shortest(trial.bits)), .figure(trial.bytes),
          trial.signalToNoiseDecibels.map(Markup.decibels) ?? .text("–"),
          trial.drop.map { .figure($0, Units.significant($0)) } ?? .text("–"),
        ]
      })
    guard let drop = budget.drop else { return .element("div", [:], table) }
    return .element(
      "div", [:], table,
      .element("p", ["class": "dim"], .text("Loss is of \(Markup.shortened(drop.measure)).")))
  }

  /// The choices of activations that were measured.
  mutating func addAlternatives(
    _ alternatives: [ConversionReport.Alternative], areOtherSamples: Bool
  ) {
    guard !alternatives.isEmpty else { return }
    addSection(
      "Types of activations that were tried",
      "The cheapest was taken whose outputs are within 1 or 2 dB of what the rounded weights allow."
        + (areOtherSamples
          ? " These figures are of other samples than those of the verdict." : ""),
      [
        .table(
          [.text("activations"), .number("SQNR"), .number("cost of a run"), .text("")],
          alternatives.map {
            [
              .text($0.name), .decibels($0.signalToNoiseDecibels),
              .figure($0.price, Units.fixed($0.price, 2)), .text($0.isChosen ? "chosen" : ""),
            ]
          })
      ])
  }
}

extension DryRunReport: PageReport {
  /// The dry run as a page.
  public var page: ReportPage {
    var page = ReportPage(title: "\(source.path): what fewer bits would give")
    let chosen = budget.trials.first { $0.bits == budget.bits }
    page.addVerdict(
      .text("\(Units.count(budget.trials.count, "number")) of bits tried; nothing was written."),
      .plain,
      [
        .text("The float network takes ") + .figure(source.bytes, Units.bytes(source.bytes))
          + .text("."),
        madeInputs > 0
          ? .text("Measured on ") + .figure(madeInputs)
            + .text(" inputs made from noise: real inputs may do worse.")
          : .text("Observed on ") + .figure(samples) + .text(" samples."),
      ])
    page.addRates(
      budget, nil, chosen: chosen.map { ($0.bits, $0.bytes, $0.signalToNoiseDecibels) },
      meaning: "of the large one, the costs of the weights are below")
    page.addSection(
      "What the weights cost",
      "With \(Units.shortest(budget.bits)) bits: each node's share of the error at the outputs, and what "
        + "the outputs would lose for each kB less.",
      nodes.isEmpty
        ? []
        : [
          .ranking(
            [.text("node"), .number("bytes"), .number("share"), .number("dB per kB")],
            nodes.prefix(100).map {
              (
                [
                  .name($0.node.isEmpty ? $0.weights : $0.node), .figure($0.bytes),
                  .figure($0.errorShare, Units.percent($0.errorShare)),
                  .figure($0.decibelsPerKilobyte, Units.significant($0.decibelsPerKilobyte)),
                ],
                $0.errorShare
              )
            })
        ])
    return page
  }
}

extension CheckpointReport: PageReport {
  /// The conversion as a page.
  public var page: ReportPage {
    var page = ReportPage(title: "\(source.path) → \(output.path)")
    let worst = arrays.filter { $0.signalToNoiseDecibels != nil }
      .min { $0.signalToNoiseDecibels ?? .infinity < $1.signalToNoiseDecibels ?? .infinity }
    var sentences = [
      Markup.text("The file takes ") + .figure(output.bytes, Units.bytes(output.bytes))
        + .text(", the arrays ") + .figure(source.bytes, Units.bytes(source.bytes)) + .text(".")
    ]
    if let worst, let decibels = worst.signalToNoiseDecibels {
      sentences.append(
        .text("The array that is rounded most, ") + .name(worst.name) + .text(", is ")
          + .decibels(decibels) + .text(" above its error."))
    }
    page.addVerdict(
      .figure(ratio, Units.fixed(ratio, 2)) + .text(" times smaller."), .plain, sentences)
    page.addTiles([
      (.figure(output.bytes, Units.bytes(output.bytes)), "size of the file"),
      (.figure(bits, Units.shortest(bits)), "bits of a weight"),
    ])
    page.addRates(
      budget, nil, chosen: (bits, output.bytes, worst?.signalToNoiseDecibels ?? nil))
    page.addArrays(
      arrays.map { ($0.name, $0.signalToNoiseDecibels ?? .infinity, .figure($0.bytes)) },
      .number("bytes"))
    return page
  }
}

extension ReportPage {
  /// SQNR of arrays.
  mutating func addArrays(
    _ arrays: [(name: String, decibels: Double, figure: Markup)], _ column: Markup.Column
  ) {
    let most = 400
    addSection(
      "Arrays", Quality.scale,
      [
        .charts([
          BarChart(
            bars: arrays.map {
              .init(
                value: $0.decibels,
                tip: "\(Markup.shortened($0.name)): \(Units.decibels($0.decibels))")
            }, titles: ("arrays in the order of the file", "SQNR in dB"), keeps: <
          ).drawing("SQNR of each array")
        ]),
        .folded(
          arrays.count > most ? "the first \(most) arrays" : "all arrays",
          [
            .table(
              [.text("array"), .number("SQNR"), column],
              arrays.prefix(most).map { [.name($0.name), .decibels($0.decibels), $0.figure] })
          ]),
      ])
  }
}
