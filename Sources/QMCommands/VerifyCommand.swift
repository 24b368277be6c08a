import ArgumentParser
import QMFormat
import QMOperations
import QMQuantization
import QMReport
import QMRuntime
import QMTensor

/// `qverify`: checks a `.qm` file and compares its outputs with correct ones.
public struct VerifyCommand: ToolCommand {
  /// Name, help and version of the tool.
  public static let configuration = CommandConfiguration(
    commandName: "qverify",
    abstract: "Check a .qm file, and how close it is to the float network.",
    discussion: """
      Outputs are compared with the expected outputs in the folder of samples or, without these, \
      with the outputs of --reference. With neither, the structure of the file is checked, and that \
      every kernel set gives the same bits.
      If the file has probes (qconvert --probes), its outputs for them must have the bits that the \
      file states. With neither samples nor reference they are also compared with those of the \
      float network, which the file has.
      A file of arrays without a network is compared with the arrays that it was converted from: \
      give them (.npz, .npy) instead of samples.
      Exit status 1 if the samples are worse than the file states beyond what their number explains, \
      or under --tolerance, or if the outputs for a probe have other bits.

      Examples:
        qverify out.qm eval/ --reference in.onnx
        qverify out.qm
      """,
    version: toolVersion)

  @Argument(help: ArgumentHelp("The file to check.", valueName: "out.qm"), completion: .file())
  var file: String

  @Argument(
    help: ArgumentHelp(
      "Folder of samples, or the arrays that the file was converted from.",
      valueName: "samples|in.npz"),
    completion: .file())
  var samples: String?

  @Option(
    help: ArgumentHelp(
      "The network to compare with: the float .onnx, or another .qm.", valueName: "in.onnx"),
    completion: .file())
  var reference: String?

  @Flag(help: "Compare also inner values that both networks have, to see where the error arises.")
  var perValue = false

  @Option(
    help: ArgumentHelp(
      "Fail if the signal-to-noise ratio of an output is lower.", valueName: "dB"))
  var tolerance: Double?

  @Flag(help: "Time each node on a few inputs, for the report.")
  var profile = false

  @OptionGroup var metrics: MetricOptions
  @OptionGroup var sampling: SampleOptions
  @OptionGroup var machine: MachineOptions
  @OptionGroup var reportOptions: ReportOptions
  @OptionGroup var console: ConsoleOptions

  /// The command with default options; parsing sets them.
  public init() {}

  /// Checks the options that do not depend on files.
  public func checkOptions() throws {
    if let tolerance, !tolerance.isFinite {
      throw ValidationError("--tolerance \(tolerance): expected a finite number of dB")
    }
    if metrics.metric != nil, samples == nil { throw ValidationError("--metric needs samples") }
    if metrics.maxDrop != nil, metrics.metric == nil || reference == nil {
      throw ValidationError("--max-drop needs --metric and --reference")
    }
    if perValue, reference == nil { throw ValidationError("--per-value needs --reference") }
  }

  /// How much worse an array may be than the file states, in dB.
  static let allowedLoss = 3.0
  /// The required SQNR of an output without a measurement in the file, in dB.
  private static let leastSignalToNoise = 20.0
  /// More than this is never required, in dB: such differences come from float rounding, which
  /// other float runtimes do differently.
  private static let exactSignalToNoise = 60.0

  /// Verifies the file, and prints the report.
  public func run() throws {
    let console = Console(tool: "qverify", self.console)
    try reportOptions.requireWritable(besides: [file, samples, reference])
    console.progress("reading")
    let opened = try QMFile(path: file)
    let (program, probes) = try within(.file(file)) { () throws(QMError) in
      try opened.container.checkDigest()
      return (try Program(opened), try opened.probes())
    }
    if program.inputs.isEmpty, let samples {
      guard metrics.metric == nil else {
        throw QMError.usage("--metric judges outputs of networks; the file holds arrays")
          .within(.file(file))
      }
      return try compareArrays(
        program, opened, CheckpointFile.arrays(path: samples, console), console)
    }
    let referenceProgram = try reference.map { (path) throws(QMError) in
      try cut(path, like: program)
    }
    let folder = try samples.map { (path) throws(QMError) in
      try Samples(path, for: program, sampling).source
    }
    var verification = try Verification(
      program, of: FileSize(path: file, bytes: opened.container.byteCount), samples: folder,
      reference: referenceProgram, probes: probes, options: machine.modelOptions)
    let comparesValues = perValue || reportOptions.isAsked
    try verification.run(perValue: comparesValues, profile: profile) { phase in
      switch phase {
      case .comparing(let done, let total):
        console.progress("comparing", done: done, of: total)
      case .runningReferenceLoops(let done, let total):
        console.progress("running the reference loops", done: done, of: total)
      case .comparingValues(let done, let total):
        console.progress("comparing values", done: done, of: total)
      }
    }
    var report = verification.report
    if reportOptions.isAsked {
      report.weights = try WeightReport.all(of: opened, program.constants)
      report.execution = NodeReport.all(of: program)
    }
    show(report, console)
    if program.metadata.isMeasuredOnMadeInputs {
      console.line("the file states figures of made inputs, which do not bound those of samples")
    }
    var failure =
      metrics.maxDrop == nil || tolerance != nil
      ? failure(report, program) : probeFailure(report)
    if let folder, let metric = metrics.command {
      let loss = try judge(metric, program, referenceProgram, on: folder, &report, console)
      failure = failure ?? loss
    }
    report.passed = failure == nil
    report.failure = failure?.message
    try reportOptions.write(report, console)
    try console.json(report)
    try console.finish()
    if let failure { throw failure }
  }

  /// The reference, cut in the same way as the converted network was.
  private func cut(_ path: String, like program: Program) throws(QMError) -> Program {
    var cuts: Recipe.Network
    do throws(QMError) {
      cuts = try Recipe(entries: program.metadata.recipe).network
    } catch {
      throw QMError.unsupported(
        "cannot read the recipe in the file, which an earlier version wrote; convert again"
      ).within(.file(file))
    }
    // The outputs are those of the file.
    cuts.outputs = []
    var changes = try NetworkOptions.changes(cuts)
    let whole = try Network.program(path: path, changes: changes)
    let outputs = program.outputs.map(\.name)
    guard Set(whole.outputs.map(\.name)) != Set(outputs) else { return whole }
    changes.outputs = outputs
    return (try? Network.program(path: path, changes: changes)) ?? whole
  }

  // MARK: Verdict

  /// The SQNR of an output that the file states, in dB; nil if it states none.
  func stored(_ output: String, _ program: Program) -> Double? {
    program.metadata.measurements.first {
      $0.measure == .signalToNoise && program.outputs[$0.output].name == output
    }.map { Double($0.value) }
  }

  /// Measures the user's metric.
  /// - Returns: the error if the file loses more than allowed.
  private func judge(
    _ metric: Metric, _ program: Program, _ reference: Program?, on samples: any SampleSource,
    _ report: inout VerificationReport, _ console: Console
  ) throws(QMError) -> QMError? {
    func value(_ program: Program) throws(QMError) -> Metric.Value {
      try metric.value(
        of: Model(program, options: machine.modelOptions), on: samples,
        at: Array(0..<samples.count), console)
    }
    let found = try value(program)
    let float = try reference.map(value)
    let loss = float.map(found.loss)
    report.metric = .init(
      name: found.name, value: found.number, reference: float?.number, drop: loss)
    let name = found.name ?? "metric"
    func number(_ value: Double) -> String { Units.significant(value, digits: 4) }
    console.line(
      "\(name) \(number(found.number))"
        + (float.map { ", \(number($0.number)) in the reference" } ?? ""))
    guard let float, let loss, let limit = try metric.limit(metrics.maxDrop, float),
      !(loss <= limit)
    else { return nil }
    return QMError(
      .outOfTolerance,
      "\(name) goes from \(number(float.number)) to \(number(found.number)), by more than "
        + "--max-drop \(metrics.maxDrop?.description ?? "")", context: [.file(file)])
  }

  private func failure(_ report: VerificationReport, _ program: Program) -> QMError? {
    if let failure = probeFailure(report) { return failure }
    for output in report.outputs {
      for part in output.decidingFigures {
        let found = part.signalToNoiseDecibels
        let (required, reason) = required(part, of: output, report, program)
        guard !(found >= required) else { continue }
        let words =
          output.misplaced > 0
          ? "\(Units.count(output.misplaced, "element")) infinite or NaN where the correct output is not; "
          : ""
        return QMError(
          .outOfTolerance,
          "\(words)SQNR \(Units.decibels(found)) is under \(Units.decibels(required)), \(reason)",
          context: [.file(file), .value(part.name)])
      }
    }
    return nil
  }

  /// The error if outputs for probes have other bits than the file states.
  private func probeFailure(_ report: VerificationReport) -> QMError? {
    guard let probes = report.probes, probes.agreeing < probes.count else { return nil }
    return QMError(
      .outOfTolerance,
      "the outputs for \(probes.count - probes.agreeing) of \(Units.count(probes.count, "probe")) "
        + "have other bits than the file states", context: [.file(file)])
  }

  /// The required SQNR of a part of an output, in dB, and why.
  private func required(
    _ part: OutputReport.Part, of output: OutputReport, _ report: VerificationReport,
    _ program: Program
  ) -> (decibels: Double, reason: String) {
    if let tolerance { return (tolerance, "--tolerance") }
    // Their digests say more: with the same bits, the errors are those that the conversion let pass.
    guard report.truth != .probes else { return (-.infinity, "") }
    let stated = program.metadata.measurements.filter {
      let name = program.outputs[$0.output].name
      return name == output.name && ($0.part?.description(of: name) ?? name) == part.name
    }
    guard let median = stated.first(where: { $0.measure == .signalToNoise }) else {
      return (
        VerifyCommand.leastSignalToNoise, "the requirement for files without measurements"
      )
    }
    guard !program.metadata.isMeasuredOnMadeInputs else {
      return (
        Recipe.Thresholds().required(of: part), "the requirement for files measured on made inputs"
      )
    }
    // These figures are of samples; ranges were not made for inputs from a seed.
    guard samples != nil else { return (-.infinity, "") }
    let deviation = stated.first { $0.measure == .deviation }.map { Double($0.value) } ?? 0
    // Of few samples, a deviation is too small by chance as easily as too large. 1 dB is for the
    // median in the file, which is of few samples too.
    let explained =
      Double(median.value) - 1
      - OutputReport.chance(
        deviationDecibels: max(deviation, part.deviationDecibels),
        samples: min(median.sampleCount, output.samples))
    return (
      min(explained, VerifyCommand.exactSignalToNoise),
      "what chance explains of the \(Units.decibels(Double(median.value))) that the file states"
    )
  }

  // MARK: Report

  private func show(_ report: VerificationReport, _ console: Console) {
    console.line(
      "structure and checksums are valid: \(Units.bytes(report.bytes)), "
        + "\(Units.count(report.nodes, "node")), \(Units.count(report.constants, "constant"))")
    if let reason = report.notRun {
      console.line("no seeded inputs run (\(reason)); give a folder of samples")
    }
    if let probes = report.probes {
      console.line(
        "\(probes.agreeing) of \(Units.count(probes.count, "probe")) give the bits that the file "
          + "states; SQNR \(Units.decibels(probes.medianDecibels)), worst "
          + Units.decibels(probes.worstDecibels)
          + (probes.areInputsMade ? ", on made inputs" : ""))
    }
    if let kernels = report.identicalKernels, let count = report.selfTestSamples {
      let inputs =
        report.truth == .probes ? "probe" : samples == nil ? "seeded input" : "sample"
      console.line(
        "\(kernels.joined(separator: ", ")): the same bits on \(Units.count(count, inputs))")
    }
    let worst = report.saturated.first.map {
      "; most in \($0.name.abbreviated): \(Units.percent($0.share, digits: 2))"
    }
    if let share = report.saturation {
      console.line(
        "activations at an end of their range: \(Units.percent(share, digits: 3))" + (worst ?? ""))
    }
    if report.outputs.isEmpty {
      console.line(
        "accuracy was not measured: give samples and --reference in.onnx, or samples with expected outputs"
      )
    } else {
      console.line("compared with \(truthDescription(report.truth))")
      console.table(of: report.outputs)
    }
    if let profile = report.profile { show(profile, console) }
    guard perValue, let values = report.values else { return }
    if values.isEmpty {
      console.line("the file and the reference have no inner values of the same name")
      return
    }
    console.table(
      ["value", "operation", "SQNR"],
      values.map {
        [$0.name.abbreviated, $0.operation, Units.decibels($0.signalToNoiseDecibels)]
      }, trailing: [2])
    let lowest = values.sorted { $0.signalToNoiseDecibels < $1.signalToNoiseDecibels }.prefix(3)
    console.line(
      "worst: "
        + lowest.map { "\($0.name.abbreviated) \(Units.decibels($0.signalToNoiseDecibels))" }
        .joined(separator: ", "))
  }

  private func show(_ profile: [RunReport.ProfileEntry], _ console: Console) {
    console.table(
      ["slowest nodes", "operation", "ms", "share"],
      profile.sorted { $0.milliseconds > $1.milliseconds }.prefix(10).map {
        [
          $0.node.abbreviated, $0.operation, Units.significant($0.milliseconds),
          Units.percent($0.share),
        ]
      }, trailing: [2, 3])
  }

  private func truthDescription(_ truth: VerificationReport.Truth) -> String {
    let inputs = samples == nil ? " on seeded inputs" : ""
    return truth == .reference ? "\(reference ?? "the reference")\(inputs)" : truth.rawValue
  }
}
