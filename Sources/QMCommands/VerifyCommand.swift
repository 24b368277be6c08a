import ArgumentParser
import QMFormat
import QMOperations
import QMQuantization
import QMReport
import QMRuntime
import QMTensor

/// `qverify`: a `.qm` file proven against what is known to be right.
public struct VerifyCommand: ParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "qverify",
    abstract: "Check a .qm file, and how close it is to the float network.",
    discussion: """
      Truth, in this order: outputs that lie beside the samples, --reference. With neither, the \
      file's structure is checked, and that every way to compute it gives the same bits.
      A file of weights is compared with the arrays that it was made of: give them (.npz, .npy) in \
      the place of samples.
      Exit status 1 if an output is more than 3 dB worse than the file says, or under --tolerance.
      """,
    version: toolVersion)

  @Argument(help: ArgumentHelp("The file to check.", valueName: "out.qm"))
  var file: String

  @Argument(
    help: ArgumentHelp(
      "Folder of samples, or the arrays of a file of weights.", valueName: "samples|in.npz"))
  var samples: String?

  @Option(
    help: ArgumentHelp(
      "The network that is right: the float .onnx, or another .qm.", valueName: "in.onnx"))
  var reference: String?

  @Flag(help: "Compare every value that both networks have, to see where the error arises.")
  var perValue = false

  @Option(
    help: ArgumentHelp(
      "Fail if an output's signal-to-noise ratio is lower.", valueName: "dB"))
  var tolerance: Double?

  @Option(help: "Take this many of the samples, evenly over all.")
  var limitSamples: Int?

  @OptionGroup var machine: MachineOptions
  @OptionGroup var console: ConsoleOptions

  public init() {}

  public func validate() throws {
    if let tolerance, !tolerance.isFinite {
      throw ValidationError("--tolerance is a finite number of dB; found \(tolerance)")
    }
    if let limitSamples, limitSamples < 1 {
      throw ValidationError("--limit-samples is at least 1; found \(limitSamples)")
    }
    if perValue, reference == nil { throw ValidationError("--per-value needs --reference") }
  }

  /// How much worse than the file says an output may be, in dB.
  static let allowedLoss = 3.0
  /// Asked of an output of which the file says nothing, in dB.
  private static let leastSignalToNoise = 20.0
  /// Beyond this a difference is float rounding, which another float runtime does otherwise; in dB.
  private static let exactSignalToNoise = 60.0

  public func run() throws {
    let console = Console(tool: "qverify", self.console)
    console.progress("reading")
    let opened = try QMFile(path: file)
    let program = try within(.file(file)) { () throws(QMError) in
      try opened.container.checkDigest()
      return try Program(opened)
    }
    if program.inputs.isEmpty, let samples {
      return try compareArrays(program, opened, CheckpointFile.arrays(path: samples), console)
    }
    let referenceProgram = try reference.map { (path) throws(QMError) in
      try cut(path, like: program)
    }
    let folder = try samples.map { (path) throws(QMError) in
      try Samples.open(path, for: program, limit: limitSamples)
    }
    var verification = try Verification(
      program, of: FileSize(path: file, bytes: opened.container.byteCount), samples: folder,
      reference: referenceProgram, options: machine.modelOptions)
    try verification.run(perValue: perValue) { phase in
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
    show(report, console)
    let failure = failure(report, program)
    report.passed = failure == nil
    try console.json(report)
    try console.finish()
    if let failure { throw failure }
  }

  /// The reference, cut where the file was.
  private func cut(_ path: String, like program: Program) throws(QMError) -> Program {
    var cuts: Recipe.Network
    do throws(QMError) {
      cuts = try Recipe(entries: program.metadata.recipe).network
    } catch {
      throw QMError.unsupported(
        "its recipe does not read: written by an earlier version; convert again"
      ).within(.file(file))
    }
    // The file's own outputs say which values are outputs.
    cuts.outputs = []
    var changes = try NetworkOptions.changes(cuts)
    let whole = try Network.program(path: path, changes: changes)
    let outputs = program.outputs.map(\.name)
    guard Set(whole.outputs.map(\.name)) != Set(outputs) else { return whole }
    changes.outputs = outputs
    return (try? Network.program(path: path, changes: changes)) ?? whole
  }

  // MARK: Verdict

  /// What the file says of an output, in dB.
  func stored(_ output: String, _ program: Program) -> Double? {
    program.metadata.measurements.first {
      $0.measure == .signalToNoise && program.outputs[$0.output].name == output
    }.map { Double($0.value) }
  }

  /// The least signal-to-noise ratio that is accepted of an output, and why.
  private func bar(_ output: String, _ program: Program) -> (decibels: Double, reason: String) {
    if let tolerance { return (tolerance, "--tolerance") }
    guard let stored = stored(output, program) else {
      return (
        VerifyCommand.leastSignalToNoise, "what is asked of a file without figures of its own"
      )
    }
    let allowed = stored - VerifyCommand.allowedLoss
    return (
      min(allowed, VerifyCommand.exactSignalToNoise),
      "\(Units.decibels(VerifyCommand.allowedLoss)) less than the \(Units.decibels(stored)) that the file says"
    )
  }

  private func failure(_ report: VerificationReport, _ program: Program) -> QMError? {
    for output in report.outputs {
      let bar = bar(output.name, program)
      guard !(output.signalToNoiseDecibels >= bar.decibels) else { continue }
      return QMError(
        .outOfTolerance,
        "SQNR \(Units.decibels(output.signalToNoiseDecibels)) is under "
          + "\(Units.decibels(bar.decibels)), \(bar.reason)",
        context: [.file(file), .value(output.name)])
    }
    return nil
  }

  // MARK: Report

  private func show(_ report: VerificationReport, _ console: Console) {
    console.line(
      "structure and checksums hold: \(Units.bytes(report.bytes)), "
        + "\(Units.count(report.nodes, "node")), \(Units.count(report.constants, "constant"))")
    if let reason = report.notRun {
      console.line("no seeded input runs (\(reason)); give a folder of samples")
    }
    if let kernels = report.identicalKernels, let count = report.selfTestSamples {
      let inputs = samples == nil ? "seeded input" : "sample"
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
        "accuracy was not measured: give samples and --reference in.onnx, or outputs beside the samples"
      )
    } else {
      console.line("compared with \(truthDescription(report.truth))")
      console.table(of: report.outputs)
    }
    guard let values = report.values else { return }
    if values.isEmpty {
      console.line("no inner value of the file has the name of one of the reference")
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

  private func truthDescription(_ truth: VerificationReport.Truth) -> String {
    let inputs = samples == nil ? " on seeded inputs" : ""
    return truth == .reference ? "\(reference ?? "the reference")\(inputs)" : truth.rawValue
  }
}
