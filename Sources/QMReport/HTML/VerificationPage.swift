extension VerificationReport: PageReport {
  /// The verification as a page.
  public var page: ReportPage {
    var page = ReportPage(title: file)
    let quality = Quality(outputs)
    page.addVerdict(
      .text(
        passed
          ? "The file passed\(quality.words)."
          : "The file failed" + (failure.map { ": \($0)." } ?? "\(quality.words).")),
      passed ? quality.tone == .warn ? .plain : quality.tone : .warn, sentences(quality))
    var tiles: [(Markup, String)] = [
      (.figure(bytes, Units.bytes(bytes)), "size of the file"),
      (.figure(samples), "inputs that were run"),
    ]
    if let decibels = quality.decibels { tiles.append((.decibels(decibels), "SQNR, worst output")) }
    if let agreement = quality.agreement {
      tiles.append((.figure(agreement, Units.percent(agreement)), "same decision"))
    }
    if let saturation {
      tiles.append(
        (.figure(saturation, Units.percent(saturation, digits: 3)), "activations at an end"))
    }
    page.addTiles(tiles)
    page.addOutputs(outputs)
    page.addValues(values)
    page.addWeights(weights)
    page.addProfile(profile)
    page.addSection(
      "Activations at an end of their range", "Here numbers may have been cut off.",
      saturated.isEmpty
        ? []
        : [
          .ranking(
            [.text("value"), .number("elements")],
            saturated.map {
              ([.name($0.name), .figure($0.share, Units.percent($0.share, digits: 2))], $0.share)
            })
        ])
    page.addNodes(execution)
    return page
  }

  private func sentences(_ quality: Quality) -> [Markup] {
    var sentences = [
      Markup.text("Structure and checksums are valid: ") + .figure(bytes, Units.bytes(bytes))
        + .text(", ") + .figure(nodes) + .text(" nodes, ") + .figure(constants)
        + .text(" constants.")
    ]
    switch truth {
    case .none:
      sentences.append(
        .text(
          "Accuracy was not measured: there were neither expected outputs beside the samples nor a "
            + "reference network."))
    case .besideSamples:
      sentences.append(.text("The outputs are compared with those that lie beside the samples."))
    case .reference:
      sentences.append(.text("The outputs are compared with those of the reference network."))
    case .probes:
      sentences.append(
        .text(
          "The outputs are compared with those of the float network for the probes in the file."))
    }
    sentences += quality.sentences
    if let probes {
      sentences.append(
        .text("The outputs for ") + .figure(probes.agreeing) + .text(" of ")
          + .figure(probes.count, Units.count(probes.count, "probe"))
          + .text(" have the bits that the file states."))
    }
    if let kernels = identicalKernels, let count = selfTestSamples {
      sentences.append(
        .text("\(kernels.joined(separator: ", ")): all kernel sets give the same bits on ")
          + .figure(count) + .text(" inputs."))
    }
    if let notRun { sentences.append(.text("Nothing was run: \(Markup.shortened(notRun)).")) }
    if let metric {
      var sentence =
        Markup.name(metric.name ?? "The metric") + .text(" is ")
        + .figure(metric.value, Units.significant(metric.value, digits: 4))
      if let reference = metric.reference {
        sentence +=
          .text(", in the reference ") + .figure(reference, Units.significant(reference, digits: 4))
      }
      sentences.append(sentence + .text("."))
    }
    return sentences
  }
}

extension CheckpointVerificationReport: PageReport {
  /// The verification as a page.
  public var page: ReportPage {
    var page = ReportPage(title: file)
    page.addVerdict(
      .text(
        passed
          ? "Passed: every array is as good as the file states."
          : "Failed: an array is worse than required."
      ), passed ? .good : .warn,
      [
        .text("The file takes ") + .figure(bytes, Units.bytes(bytes))
          + .text(" and holds \(Units.count(arrays.count, "array")).")
      ])
    page.addArrays(
      arrays.map {
        (
          $0.name, $0.signalToNoiseDecibels,
          .figure($0.largestDifference, Units.significant($0.largestDifference))
        )
      }, .number("largest difference"))
    return page
  }
}
