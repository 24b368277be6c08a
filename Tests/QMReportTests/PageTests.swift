import Foundation
import QMFormat
import QMReport
import QMTensor
import QMTestSupport
import Testing

@Suite struct PageTests {
  private static let hostile = "<a href=\"https://x.y/z\"> & 'q'"

  private func output(_ name: String) throws -> OutputReport {
    var comparison = OutputComparison()
    for noise in [0.25, 0.5, 0.125] as [Float] {
      try comparison.add(
        reference: Tensor([1, 2], [1, 2] as [Float]), measured: Tensor([1, 2], [1, 2 + noise]))
    }
    return OutputReport(name, comparison, samples: ["s0", "s1", "s2"])
  }

  private func values(_ count: Int, _ name: String) -> [ValueReport] {
    (0..<count).map { index in
      var range = ValueReport.Range(low: -1, high: 1.5, codeCount: 256)
      range.add((0..<50).map { Float(($0 * index) % 97) / 40 - 1.25 })
      return ValueReport(
        name: "\(name)/\(index)", operation: "Convolution",
        signalToNoiseDecibels: index == 0 ? .infinity : 50 - Double(index % 40) * 1.01, range: range
      )
    }
  }

  /// Weights of a file with so many products.
  private func weights(_ count: Int, _ name: String) throws -> [WeightReport] {
    let one = #"""
      {"name": "NAME/INDEX", "type": "int8", "shape": [8, 8], "count": 64, "bits": 4, "bytes": 4INDEX,
      "stored_bits": 4.25, "codes": {"least": -20, "counts": [1, 0, 3, 5, 9, 20, 30, 40, 30, 20, 9, 5, 3],
      "least_scale": 0.01, "greatest_scale": 0.02}}
      """#
    return try (0..<count).map { index in
      let text = one.replacing("NAME", with: name.replacing("\"", with: "\\\"")).replacing(
        "INDEX", with: "\(index)")
      return try JSONDecoder().decode(WeightReport.self, from: Data(text.utf8))
    }
  }

  private func conversion(
    tensors count: Int = 3, named name: String = "layer"
  ) throws -> ConversionReport {
    let nodes = try (0..<count).map { _ in
      try JSONDecoder().decode(
        NodeReport.self,
        from: JSONSerialization.data(
          withJSONObject: [
            "name": name, "operation": "Add", "attributes": "", "mode": "float", "reason": name,
          ]))
    }
    return ConversionReport(
      source: .init(path: "\(name).onnx", bytes: 40_001),
      output: .init(path: "out.qm", bytes: 10_003),
      bits: 2.5, activations: "int8", ranges: "minmax", samples: 12, outputs: [try output(name)],
      kept: [.init(value: name, reason: "holds NaN or infinities")],
      alternatives: [
        .init(name: "int8", signalToNoiseDecibels: 12.34567, price: 1, isChosen: true)
      ],
      predictions: [
        .init(bits: 4, bytes: 15_007, signalToNoiseDecibels: 21.7654),
        .init(bits: 8, bytes: 30_011, signalToNoiseDecibels: 45.123),
      ], nodes: nodes, values: values(count, name), weights: try weights(count, name), seconds: 1.75
    )
  }

  private func tuning() throws -> TuningReport {
    let steps = try (0..<40).map { step in
      let text = #"""
        {"step": \#(step), "loss": \#(1.0 / Double(step + 1)), "rate": 0.001, "norm": \#(step + 1).5,
        "threshold": 20, "isClipped": \#(step > 20), "bits": 80000.5, "flips": \#(step),
        "saturatedShare": 0.01 \#(step % 10 == 9 ? #", "heldOutLoss": 0.5\#(step)"# : "")}
        """#
      return try JSONDecoder().decode(StepReport.self, from: Data(text.utf8))
    }
    func metric(_ value: Double) -> MetricReport {
      MetricReport(name: .accuracy, output: "y", value: value)
    }
    return TuningReport(
      source: .init(path: "in.onnx", bytes: 40_001), output: .init(path: "out.qm", bytes: 10_003),
      bytesBefore: 10_007, bits: 2, steps: 40, rate: 0.001, samples: 90, heldOutSamples: 10,
      lossBefore: 0.75, lossAfter: 0.25, metricBefore: metric(0.8125), metricAfter: metric(0.9375),
      zeroShare: 0, clippedShare: 0.475, divergences: [], outputsBefore: [try output("y")],
      outputs: [try output("y")], history: steps, values: values(3, "v"),
      weights: try weights(3, "w"), seconds: 2)
  }

  private func verification() throws -> VerificationReport {
    var report = VerificationReport(file: PageTests.hostile, bytes: 1009, nodes: 3, constants: 2)
    report.samples = 3
    report.truth = .reference
    report.outputs = [try output(PageTests.hostile)]
    report.saturation = 0.0625
    report.saturated = [.init(name: PageTests.hostile, share: 0.5625)]
    report.values = values(3, PageTests.hostile)
    report.weights = try weights(3, "w")
    report.metric = .init(name: PageTests.hostile, value: 0.875, reference: 0.9375, drop: 0.0625)
    report.passed = false
    report.failure = PageTests.hostile
    return report
  }

  private func text(_ report: some PageReport) -> String {
    String(decoding: report.page.bytes, as: UTF8.self)
  }

  /// All numbers of a JSON text.
  private func numbers(in json: String) -> Set<String> {
    Set(
      json.matches(of: /[-0-9.e+]+|"Infinity"/).map { match in
        Double(match.output).map(Markup.digits) ?? "Infinity"
      })
  }

  private func expectNumbersOfJSON(
    _ report: some PageReport, atLeast count: Int,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let known = numbers(in: try report.json())
    let shown = text(report).matches(of: /(?:<data |data-)value="([^"]*)"/).map {
      String($0.output.1)
    }
    #expect(shown.count >= count, sourceLocation: sourceLocation)
    #expect(shown.filter { !known.contains($0) } == [], sourceLocation: sourceLocation)
  }

  @Test func numbersAreThoseOfTheJSON() throws {
    try expectNumbersOfJSON(conversion(), atLeast: 40)
    try expectNumbersOfJSON(verification(), atLeast: 30)
    try expectNumbersOfJSON(tuning(), atLeast: 30)
  }

  /// Nothing is loaded from anywhere, whatever names in the network say.
  @Test func pagesNeedNothingElse() throws {
    for page in [
      text(try conversion(named: PageTests.hostile)), text(try verification()), text(try tuning()),
    ] {
      #expect(page.contains("default-src &#39;none&#39;"))
      #expect(!page.contains("<a href") && !page.contains("<script") && !page.contains("<link"))
      #expect(!page.contains("url(") && !page.contains("@import") && !page.contains(" src="))
      #expect(!page.contains("xmlns"))
      for match in page.matches(of: /https?:/) {
        // As text only.
        let before = page[..<match.range.lowerBound].suffix(30)
        #expect(before.hasSuffix("&lt;a href=&quot;"))
      }
      for match in page.matches(of: /<([a-z0-9]+)/) {
        #expect(PageTests.elements.contains(String(match.output.1)), "\(match.output.1)")
      }
    }
  }

  static let elements: Set<String> = [
    "html", "head", "meta", "title", "style", "body", "main", "footer", "h1", "h2", "p", "b", "div",
    "span", "data", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "figure",
    "figcaption", "svg", "rect", "circle", "line", "polyline", "path", "text",
  ]

  @Test func elementsAreClosedInTheirOrder() throws {
    for page in [text(try conversion()), text(try verification()), text(try tuning())] {
      var open: [Substring] = []
      for match in page.matches(of: /<(\/?)([a-z0-9]+)[^>]*>/) where match.output.2 != "meta" {
        if match.output.1.isEmpty {
          open.append(match.output.2)
        } else {
          #expect(open.popLast() == match.output.2)
        }
      }
      #expect(open.isEmpty)
    }
  }

  @Test func theSameReportGivesTheSameBytes() throws {
    #expect(try conversion().page.bytes == conversion().page.bytes)
    #expect(try tuning().page.bytes == tuning().page.bytes)
  }

  /// Times of whole commands differ from run to run.
  @Test func pagesDoNotSayHowLongItTook() throws {
    #expect(!text(try conversion()).contains("1.75"))
  }

  @Test(arguments: [30, 3000]) func pagesStaySmall(_ tensors: Int) throws {
    let name = "encoder/layers/12/attention/self/query/projection"
    let page = text(try conversion(tensors: tensors, named: name))
    #expect(page.utf8.count < 500_000)
    #expect(page.contains("\(name)/1"))
    if tensors > 60 { #expect(page.contains("60 of 3000 activations are drawn")) }
  }

  @Test func theVerdictComesFirst() throws {
    let page = text(try conversion())
    let verdict = try #require(page.range(of: "class=\"verdict"))
    let chart = try #require(page.range(of: "<svg"))
    #expect(verdict.lowerBound < chart.lowerBound)
    #expect(page.contains("times smaller, but differs visibly from the float network"))
    #expect(page.contains("1 value stays float32: holds NaN or infinities."))
    #expect(text(try verification()).contains("The file failed: &lt;a"))
  }

  /// What was not measured has no section.
  @Test func onlyWhatWasComputedIsShown() throws {
    let report = ConversionReport(
      source: .init(path: "a.onnx", bytes: 10), output: .init(path: "a.qm", bytes: 5), bits: 4,
      activations: "dynamic", ranges: nil, samples: 0, outputs: [], kept: [], nodes: nil, seconds: 0
    )
    let page = text(report)
    for heading in ["Size and quality", "Error along", "Bits of each", "Samples that", "Slowest"] {
      #expect(!page.contains(heading))
    }
    #expect(page.contains("how close it is was not measured"))
  }

  // MARK: Schema

  private func schema() throws -> JSONSchema {
    let path = URL(filePath: Fixtures.path).deletingLastPathComponent()
      .appending(path: "schema/report.schema.json")
    return try JSONSchema(Data(contentsOf: path))
  }

  @Test func reportsAreOfTheSchema() throws {
    let schema = try schema()
    #expect(try schema.problems(of: conversion().json(), as: "conversion") == [])
    #expect(try schema.problems(of: verification().json(), as: "verification") == [])
    #expect(try schema.problems(of: tuning().json(), as: "tuning") == [])
    let checkpoint = CheckpointReport(
      source: .init(path: "w.npz", bytes: 10), output: .init(path: "w.qm", bytes: 5), bits: 4,
      budget: .init(
        targetBytes: 5, drop: .init(measure: "m", float: 1, allowed: 2), bits: 4,
        trials: [
          .init(
            bits: 4, predictedBytes: 1, bytes: 5, predictedDecibels: 2, signalToNoiseDecibels: 3,
            predictedDrop: 4, drop: 5)
        ]),
      arrays: [
        .init(
          name: "w", shape: [2], form: "float32", bytes: 8, signalToNoiseDecibels: .infinity,
          largestDifference: 0)
      ], seconds: 1)
    #expect(try schema.problems(of: checkpoint.json(), as: "checkpoint") == [])
    #expect(
      try schema.problems(
        of: CheckpointVerificationReport(
          file: "w.qm", bytes: 5, arrays: [output("w")], passed: true
        ).json(), as: "checkpoint_verification") == [])
  }

  /// The test of the schema sees what is wrong.
  @Test(arguments: [
    (#""bits" : 2.5"#, #""bits" : "2.5""#), (#""bits" : 2.5"#, #""bitz" : 2.5"#),
    (#""effort" : "default""#, #""effort" : "none""#), (#""samples" : 12"#, #""samples" : -1"#),
    (#""samples" : 12"#, #""samples" : 1.5"#), (#""chosen" : true"#, #""chosen" : 1"#),
    (#""mode" : "float""#, #""mode" : 3"#),
  ]) func otherReportsAreNot(_ right: String, _ wrong: String) throws {
    let json = try conversion().json()
    #expect(json.contains(right))
    #expect(
      try !schema().problems(of: json.replacing(right, with: wrong), as: "conversion").isEmpty)
  }
}
