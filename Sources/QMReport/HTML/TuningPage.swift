extension MetricReport {
  /// The metric's name in a sentence.
  package var words: String {
    switch name {
    case .accuracy: "accuracy"
    case .agreement: "agreement"
    case .signalToNoise: "SQNR"
    }
  }

  /// The number with its unit.
  package var text: String {
    switch name {
    case .accuracy, .agreement: Units.percent(value)
    case .signalToNoise: Units.decibels(value)
    }
  }

  fileprivate func isBetter(than other: MetricReport) -> Bool {
    better == .higher ? value > other.value : value < other.value
  }

  fileprivate var figure: Markup { .figure(value, text) }

  /// What training did, as a sentence.
  fileprivate func change(from before: MetricReport) -> Markup {
    text == before.text
      ? .text("Training left the \(words) at ") + figure + .text(".")
      : .text("Training took the \(words) from ") + before.figure + .text(" to ") + figure
        + .text(".")
  }
}

extension TuningReport: PageReport {
  /// The training as a page.
  public var page: ReportPage {
    var page = ReportPage(title: "\(source.path) → \(output.path)")
    let quality = Quality(outputs)
    page.addVerdict(
      metricAfter.change(from: metricBefore) + .text(" The file takes ")
        + .figure(output.bytes, Units.bytes(output.bytes)) + .text("\(quality.words)."),
      metricAfter.isBetter(than: metricBefore) ? .good : .plain,
      [
        .text("The file takes ") + .figure(output.bytes, Units.bytes(output.bytes))
          + .text(", the float network ") + .figure(source.bytes, Units.bytes(source.bytes))
          + .text(", the conversion alone ") + .figure(bytesBefore, Units.bytes(bytesBefore))
          + .text(". Each weight takes ") + .figure(bits, Units.shortest(bits))
          + .text(" bits on average."),
        .text("On ") + .figure(heldOutSamples)
          + .text(" samples that were held out, the loss went from ")
          + .figure(lossBefore, Units.significant(lossBefore)) + .text(" to ")
          + .figure(lossAfter, Units.significant(lossAfter))
          + .text("; training saw ") + .figure(samples) + .text(" others in ") + .figure(steps)
          + .text(" steps."),
        .text("Gradients were clipped in ") + .figure(clippedShare, Units.percent(clippedShare))
          + .text(" of the steps. ")
          + (divergences.isEmpty
            ? .text("Training never diverged.")
            : .text(
              "Training diverged and went back to its best state: "
                + Markup.shortened(divergences.joined(separator: "; ")) + ".")),
      ] + quality.sentences)
    var tiles: [(Markup, String)] = [
      (metricAfter.figure, "\(metricAfter.words) after training"),
      (metricBefore.figure, "\(metricBefore.words) before"),
      (.figure(output.bytes, Units.bytes(output.bytes)), "size of the file"),
      (.figure(bits, Units.shortest(bits)), "bits of a weight"),
    ]
    if let decibels = quality.decibels { tiles.append((.decibels(decibels), "SQNR, worst output")) }
    page.addTiles(tiles)
    page.addHistory(history, metricBefore)
    page.addOutputs(outputs)
    page.addSection("Outputs before training", "", Quality.table(outputsBefore))
    page.addValues(values)
    page.addWeights(weights)
    page.addNodes(nodes)
    return page
  }
}

extension FloatTuningReport: PageReport {
  /// The training as a page.
  public var page: ReportPage {
    var page = ReportPage(title: output)
    page.addVerdict(
      metricAfter.change(from: metricBefore),
      metricAfter.isBetter(than: metricBefore) ? .good : .plain,
      [
        .text("On ") + .figure(heldOutSamples)
          + .text(" samples that were held out, the loss went from ")
          + .figure(lossBefore, Units.significant(lossBefore)) + .text(" to ")
          + .figure(lossAfter, Units.significant(lossAfter)) + .text("; training saw ")
          + .figure(samples) + .text(" others. ") + .figure(arrays) + .text(" arrays were trained.")
      ])
    page.addHistory(history, metricBefore)
    return page
  }
}

extension ReportPage {
  /// What happened over the steps.
  fileprivate mutating func addHistory(_ history: [StepReport]?, _ before: MetricReport) {
    guard let history, history.count > 1 else { return }
    func points(_ number: (StepReport) -> Double?) -> [LineChart.Point] {
      history.compactMap { step in number(step).map { (Double(step.step + 1), $0) } }
    }
    let heldOut = points(\.heldOutLoss)
    let thresholds = points(\.threshold)
    let clipped = history.filter(\.isClipped).map { Double($0.step + 1) }
    var charts = [
      Markup.figure(
        LineChart(
          series: [
            .init(name: "samples of the step", points: points(\.loss), style: "first"),
            .init(name: "held out", points: heldOut, style: "second", hasDots: true),
          ], titles: ("step", "loss")
        ).drawing("loss over the steps"),
        .text("Where the line of the held-out samples rises, training only learns its own samples.")
      )
    ]
    let metrics = points { $0.metric?.value }
    if metrics.count > 1 {
      charts.append(
        .figure(
          LineChart(
            series: [.init(name: before.words, points: metrics, style: "second", hasDots: true)],
            titles: ("step", before.name == .signalToNoise ? "SQNR in dB" : before.words)
          ).drawing("metric over the steps"),
          .text("The \(before.words) on samples that were held out; before training it was ")
            + before.figure + .text(".")))
    }
    charts.append(
      .figure(
        LineChart(
          series: [.init(name: "norm of the gradients", points: points(\.norm), style: "first")]
            + (thresholds.isEmpty
              ? [] : [.init(name: "threshold", points: thresholds, style: "third")]),
          titles: ("step", "norm of the gradients"), isLogarithmic: true, marks: clipped
        ).drawing("norm of the gradients over the steps"),
        .text(
          clipped.isEmpty
            ? "No step was clipped."
            : "Marks at the bottom are steps whose gradients were clipped: \(clipped.count) of "
              + "\(history.count).")))
    charts.append(
      .figure(
        LineChart(
          series: [.init(name: "rate", points: points { Double($0.rate) }, style: "first")],
          titles: ("step", "learning rate")
        ).drawing("learning rate over the steps"),
        .text("The learning rate. It falls to half where training went back.")))
    let sizes = points { $0.bits > 0 ? $0.bits / 8000 : nil }
    if sizes.count > 1 {
      charts.append(
        .figure(
          LineChart(
            series: [.init(name: "size", points: sizes, style: "first")],
            titles: ("step", "entropy of the codes in kB")
          ).drawing("entropy of the codes over the steps"),
          .text("What all codes take in the file, about: training holds it below the budget.")))
    }
    let flips = points { Double($0.flips) }
    if flips.contains(where: { $0.y > 0 }) {
      charts.append(
        .figure(
          LineChart(
            series: [.init(name: "weights", points: flips, style: "first")],
            titles: ("step", "weights with another code")
          ).drawing("changed codes over the steps"),
          .text("Weights whose code the step changed; it should die down towards the end.")))
    }
    addSection(
      "Training over time",
      "Lines of many steps show the least and the largest of neighbours."
        + (history[0].step > 0
          ? " The training was resumed: steps before \(history[0].step + 1) are not shown." : ""),
      [.charts(charts)])
  }
}
