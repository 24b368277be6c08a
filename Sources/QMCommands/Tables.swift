import QMOperations
import QMReport
import QMTensor

extension Console {
  /// Prints how many probes a file got, if any, and whether more were asked for.
  func showProbes(_ count: Int?, asked: Int) {
    guard let count else { return }
    let reason = count < asked ? ", as no more inputs judge" : ""
    line("\(Units.count(count, "probe")) in the file\(reason)")
  }

  /// Prints a table with one row per output.
  func table(of reports: [OutputReport]) {
    table(
      ["output", "SQNR", "deviation", "largest difference", "cosine", "agrees", "samples"],
      reports.flatMap { report in
        [
          [
            report.name.abbreviated, Units.decibels(report.signalToNoiseDecibels),
            Units.decibels(report.deviationDecibels), Units.significant(report.largestDifference),
            Units.fixed(report.cosine, 6),
            (report.agreement ?? report.topOneAgreement).map { Units.percent($0) } ?? "–",
            "\(report.samples)",
          ]
        ]
          + report.parts.map { part in
            [
              "  " + part.name.abbreviated, Units.decibels(part.signalToNoiseDecibels),
              Units.decibels(part.deviationDecibels), "", "", "", "",
            ]
          }
      }, trailing: [1, 2, 3, 4, 5, 6])
    for report in reports {
      guard let sample = report.worstSample, let decibels = report.worstSampleDecibels,
        report.samples > 1
      else { continue }
      line(
        "\(report.name.abbreviated): worst on sample \(sample.abbreviated), "
          + Units.decibels(decibels))
    }
    let states = reports.filter(\.isState).map(\.name.abbreviated)
    if !states.isEmpty {
      line(
        "\(states.joined(separator: ", ")): input of the next step, judged by the other outputs "
          + "after one more step")
    }
    for report in reports where report.misplaced > 0 {
      line(
        "\(report.name.abbreviated): \(Units.count(report.misplaced, "element")) infinite or NaN "
          + "on one side only")
    }
    for report in reports where report.otherShapes > 0 {
      line(
        "\(report.name.abbreviated): another shape in \(Units.count(report.otherShapes, "sample"))")
    }
  }

  /// Prints a table of how each node runs, and the number of nodes in each execution mode.
  func table(of reports: [NodeReport]) {
    table(
      ["node", "operation", "runs as", "why"],
      reports.map { [$0.name.abbreviated, $0.operation, $0.mode, $0.reason] })
    let counts = ExecutionMode.allCases.map { mode in
      "\(reports.count { $0.mode == mode.name }) \(mode.name)"
    }
    line("  \(Units.count(reports.count, "node")): \(counts.joined(separator: ", "))")
  }

  /// Prints a table of the choices of activations that were measured.
  func table(of alternatives: [ConversionReport.Alternative]) {
    table(
      ["activations", "SQNR", "price", ""],
      alternatives.map { alternative in
        [
          alternative.name, Units.decibels(alternative.signalToNoiseDecibels),
          Units.fixed(alternative.price, 2), alternative.isChosen ? "chosen" : "",
        ]
      }, trailing: [1, 2])
  }

  /// Prints a table with one row per array.
  func table(of reports: [ArrayReport]) {
    table(
      ["array", "shape", "stored as", "bytes", "SQNR", "largest difference"],
      reports.map { report in
        [
          report.name.abbreviated, report.shape.map(String.init).joined(separator: "×"),
          report.form, "\(report.bytes)",
          report.signalToNoiseDecibels.map(Units.decibels) ?? "exact",
          report.largestDifference.map { Units.significant($0) } ?? "0",
        ]
      }, trailing: [3, 4, 5])
  }
}
