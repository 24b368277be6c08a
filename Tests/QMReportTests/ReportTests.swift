import QMFormat
import QMOperations
import QMReport
import QMRuntime
import QMTensor
import Testing

/// Whoever reads the JSON of a tool gets the value that the tool had.
@Suite struct ReportTests {
  private func expectToComeBack<R: Report>(
    _ report: R, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    #expect(try R(json: report.json()) == report, sourceLocation: sourceLocation)
  }

  private func output(_ name: String, _ measured: [Float]) throws -> OutputReport {
    var comparison = OutputComparison()
    try comparison.add(
      reference: Tensor([1, 2], [1, 2] as [Float]), measured: Tensor([1, measured.count], measured))
    return OutputReport(name, comparison)
  }

  @Test func conversions() throws {
    let files = (FileSize(path: "in.onnx", bytes: 4000), FileSize(path: "out.qm", bytes: 1000))
    let report = ConversionReport(
      source: files.0, output: files.1, bits: 4, activations: "int8", ranges: "minmax", samples: 8,
      outputs: [try output("exact", [1, 2]), try output("near", [1, 2.5])],
      kept: [.init(value: "v", reason: "why")], nodes: nil, seconds: 0.5)
    #expect(report.ratio == 4)
    try expectToComeBack(report)
    let json = try report.json()
    #expect(json.contains(#""sqnr_db" : "Infinity""#), "\(json)")
    #expect(!json.contains("nodes"))
    try expectToComeBack(
      CheckpointReport(
        source: files.0, output: files.1, bits: 32,
        arrays: [
          .init(
            name: "w", shape: [2, 3], form: "float32", bytes: 24, signalToNoiseDecibels: nil,
            largestDifference: nil)
        ], seconds: 1))
  }

  @Test func theWorstSampleIsNamed() throws {
    var comparison = OutputComparison()
    func results(_ numbers: [Float]) throws -> JudgedRun.Results {
      .init(outputs: ["y": try Tensor([1, 2], numbers)], innerValues: [:])
    }
    for measured in [[3, 4], [3, 5], [3, 4.1]] as [[Float]] {
      try comparison.add(
        "y", reference: results([3, 4]), measured: results(measured))
    }
    let report = OutputReport("y", comparison, samples: ["good", "bad", "fair"])
    #expect(report.worstSample == "bad")
    #expect(report.worstSamples.map(\.name) == ["bad", "fair", "good"])
    #expect(report.worstSamples.last?.signalToNoiseDecibels == .infinity)
    // 10 · log10((9 + 16) / 1)
    #expect(abs(try #require(report.worstSampleDecibels) - 13.9794) < 1e-4)
    var equal = OutputComparison()
    try equal.add("y", reference: results([3, 4]), measured: results([3, 4]))
    #expect(OutputReport("y", equal, samples: ["only"]).worstSample == nil)
  }

  /// The medians over the samples of two reports give that of one report over all, part by part.
  @Test func theFiguresOfEverySampleMerge() throws {
    let parts: [Program.Metadata.Part] = [0..<1, 1..<2].map {
      .init(axis: -1, ranges: [$0])
    }
    func results(_ numbers: [Float]) throws -> JudgedRun.Results {
      .init(outputs: ["y": try Tensor([1, 2], numbers)], innerValues: [:])
    }
    func report(_ samples: Range<Int>) throws -> OutputReport {
      var comparison = OutputComparison(parts)
      for sample in samples {
        // The first part is exact in sample 3.
        let error = Float(0.1) + Float(sample) / 32
        try comparison.add(
          "y", reference: results([3, 4]),
          measured: results([sample == 3 ? 3 : 3 + error, 4 + error * error]))
      }
      return OutputReport("y", comparison, samples: samples.map { "sample \($0)" })
    }
    let (all, halves) = (try report(0..<25), try [report(0..<11), report(11..<25)])
    #expect(all.worstSamples.count == 10)
    #expect(all.eachSample == halves.flatMap(\.eachSample))
    #expect(all.eachSample.map(\.name) == (0..<25).map { "sample \($0)" })
    for (index, part) in all.parts.enumerated() {
      let figures = all.eachSample.compactMap { $0.signalToNoiseDecibels[index] }.sorted()
      #expect(figures[12] == part.signalToNoiseDecibels)
      #expect(figures.contains(.infinity) == (index == 0))
    }
    try expectToComeBack(
      ConversionReport(
        source: .init(path: "in.onnx", bytes: 1), output: .init(path: "out.qm", bytes: 1), bits: 8,
        activations: "int8", ranges: nil, samples: 25, outputs: [all], kept: [], nodes: nil,
        seconds: 1))
  }

  @Test func verifications() throws {
    var report = VerificationReport(file: "out.qm", bytes: 1000, nodes: 3, constants: 2)
    try expectToComeBack(report)
    report.truth = .besideSamples
    report.outputs = [try output("y", [0, 2])]
    report.saturation = 0.25
    report.saturated = [.init(name: "x", share: 0.5)]
    report.identicalKernels = ["reference", "portable"]
    report.values = [.init(name: "v", operation: "Add", signalToNoiseDecibels: -.infinity)]
    report.passed = false
    try expectToComeBack(report)
    try expectToComeBack(
      CheckpointVerificationReport(file: "w.qm", bytes: 10, arrays: [], passed: true))
  }

  /// The figures of a benchmark stand among the others.
  @Test func runs() throws {
    var report = RunReport(model: "out.qm", threads: 2, kernels: "portable")
    try expectToComeBack(report)
    report.samples = 3
    report.accuracy = 0.5
    report.benchmark = .init(
      runs: 10, medianMilliseconds: 2, minimumMilliseconds: 1, loadMilliseconds: 3, peakBytes: 4,
      arenaBytes: 5, weightBytes: 6, bufferPeakBytes: 7)
    try expectToComeBack(report)
    #expect(try report.json().contains("\n  \"median_ms\" : 2,"))
    try expectToComeBack(UnpackReport(model: "w.qm", output: "w.npz", arrays: 1, bytes: 24))
  }

  @Test func whatIsNoReportIsRefused() {
    for text in ["", "{}", "[1]", "{\"file\": 3}"] {
      #expect(throws: QMError.malformed("")) { try VerificationReport(json: text) }
    }
  }

  @Test func digestsAreTwoDigitsAByte() { #expect([0, 9, 255].hexadecimal == "0009ff") }
}
