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
  /// Memory that a run on seeded inputs may take, in bytes: nobody has said what extents to expect.
  private static let selfTestByteLimit = 1 << 29
  /// Samples of a self-test, at most; the reference loops are slow.
  private static let selfTestCount = 3
  /// Samples of a comparison value by value, at most.
  private static let perValueCount = 8

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
    if let referenceProgram { try requireSamePorts(program, referenceProgram) }
    let folder = try samples.map { (path) throws(QMError) in
      try Samples(path: path, for: program, limit: limitSamples)
    }

    var report = Report(
      file: file, bytes: opened.container.byteCount, nodes: program.nodes.count,
      constants: program.constants.count)
    var options = machine.modelOptions
    if folder == nil { options.runByteLimit = VerifyCommand.selfTestByteLimit }
    let model = try within(.file(file)) { () throws(QMError) in
      try Model(program, options: options)
    }
    let inputs: Inputs
    do throws(QMError) { inputs = try Inputs(folder, model) } catch {
      guard referenceProgram == nil else { throw error }
      inputs = Inputs()
      report.notRun = error.description
    }
    let compared = try compare(model, referenceProgram, inputs, &report, console)
    if !compared, report.notRun == nil { try selfTest(program, inputs, &report, console) }
    if perValue, let referenceProgram {
      try comparePerValue(program, referenceProgram, inputs, &report, console)
    }
    show(report, program, console)
    let failure = failure(report, program)
    report.passed = failure == nil
    try console.json(report)
    try console.finish()
    if let failure { throw failure }
  }

  /// The reference, cut where the file was.
  private func cut(_ path: String, like program: Program) throws(QMError) -> Program {
    var changes = try NetworkOptions.changes(of: program)
    let whole = try Network.program(path: path, changes: changes)
    let outputs = program.outputs.map(\.name)
    guard Set(whole.outputs.map(\.name)) != Set(outputs) else { return whole }
    changes.outputs = outputs
    return (try? Network.program(path: path, changes: changes)) ?? whole
  }

  /// Given samples, or seeded inputs where there are none.
  private struct Inputs {
    let samples: Samples?
    let seeded: SeededInputs?

    init(_ samples: Samples?, _ model: Model) throws(QMError) {
      self.samples = samples
      seeded = samples == nil ? try SeededInputs(model) : nil
    }

    /// None at all.
    init() { (samples, seeded) = (nil, nil) }

    var count: Int { samples?.count ?? (seeded == nil ? 0 : 4) }

    func name(of index: Int) -> String { samples?.name(of: index) ?? "seed \(index)" }

    func sample(
      _ index: Int
    ) throws(QMError) -> (inputs: [String: Tensor], expected: [String: Tensor]) {
      if let samples {
        let sample = try samples.sample(index)
        return (sample.inputs, sample.expected)
      }
      return (try seeded?.tensors(seed: UInt64(index)) ?? [:], [:])
    }
  }

  private func requireSamePorts(_ program: Program, _ other: Program) throws(QMError) {
    func names(_ program: Program) -> [[String]] {
      [program.inputs.map { program.values[$0].name }.sorted(), program.outputs.map(\.name).sorted()]
    }
    let (found, expected) = (names(program), names(other))
    for (kind, pair) in zip(["inputs", "outputs"], zip(found, expected)) where pair.0 != pair.1 {
      func list(_ names: [String]) -> String { names.map(\.abbreviated).joined(separator: ", ") }
      throw QMError(
        .outOfTolerance,
        "the reference has the \(kind) \(list(pair.1)); the file has \(list(pair.0))",
        context: [.file(file)])
    }
  }

  /// Runs every sample once.
  /// - Returns: whether there was a truth to compare with.
  private func compare(
    _ model: Model, _ reference: Program?, _ inputs: Inputs, _ report: inout Report,
    _ console: Console
  ) throws(QMError) -> Bool {
    let session = Session(model)
    let float = try reference.map { (program) throws(QMError) in
      Session(try Model(program, options: machine.modelOptions))
    }
    var saturation = Saturation(model.program)
    var comparisons: [String: Comparison] = [:]
    var truths: Set<Truth> = []
    for index in 0..<inputs.count {
      try within(.sample(inputs.name(of: index))) { () throws(QMError) in
        let (tensors, beside) = try inputs.sample(index)
        let found = try session.run(
          tensors, observing: { (value, view) throws(QMError) in saturation.observe(value, view) })
        var expected = beside
        if !beside.isEmpty {
          truths.insert(.besideSamples)
        } else if let float {
          truths.insert(.reference)
          expected = try float.run(tensors)
        }
        for (name, tensor) in expected {
          guard let other = found[name] else { continue }
          guard tensor.shape == other.shape else {
            throw QMError(
              .outOfTolerance,
              "extents \(other.shape) are not those of the truth, \(tensor.shape)",
              context: [.file(file), .value(name)])
          }
          // NumPy files may hold the truth in another float type.
          let truth = try tensor.converted(to: other.elementType)
          try comparisons[name, default: Comparison()].add(reference: truth, measured: other)
        }
      }
      console.progress("comparing", done: index + 1, of: inputs.count)
    }
    report.samples = inputs.count
    report.truth = truths.contains(.besideSamples) ? .besideSamples : truths.first ?? .none
    report.outputs = model.outputs.compactMap { output in
      comparisons[output.name].map { OutputReport(output.name, $0) }
    }
    // Seeded inputs are not what the ranges were made for.
    if inputs.samples != nil, saturation.total.elementCount > 0 {
      report.saturation = saturation.total.share
      report.saturated = saturation.shares.prefix(3).filter { $0.saturatedCount > 0 }
        .map { .init(name: $0.name, share: $0.share) }
    }
    return !comparisons.isEmpty
  }

  private func selfTest(
    _ program: Program, _ inputs: Inputs, _ report: inout Report, _ console: Console
  ) throws(QMError) {
    var test = try SelfTest(
      program, threadCount: machine.threads,
      runByteLimit: samples == nil ? VerifyCommand.selfTestByteLimit : .max)
    for index in 0..<min(inputs.count, VerifyCommand.selfTestCount) {
      console.progress(
        "running the reference loops", done: index,
        of: min(inputs.count, VerifyCommand.selfTestCount))
      try within(.file(file)) { () throws(QMError) in
        try within(.sample(inputs.name(of: index))) { () throws(QMError) in
          try test.check(inputs.sample(index).inputs)
        }
      }
    }
    report.identicalKernels = test.kernelSets.map(\.rawValue)
    report.selfTestSamples = test.inputCount
  }

  private func comparePerValue(
    _ program: Program, _ reference: Program, _ inputs: Inputs, _ report: inout Report,
    _ console: Console
  ) throws(QMError) {
    var values = try ValueComparison(program, against: reference, options: machine.modelOptions)
    let count = min(inputs.count, VerifyCommand.perValueCount)
    for index in 0..<count {
      try within(.sample(inputs.name(of: index))) { () throws(QMError) in
        try values.add(inputs.sample(index).inputs)
      }
      console.progress("comparing values", done: index + 1, of: count)
    }
    report.values = values.entries.map {
      .init(
        name: $0.name, operation: $0.operation,
        signalToNoiseDecibels: $0.comparison.signalToNoise)
    }
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
      return (VerifyCommand.leastSignalToNoise, "what is asked of a file without figures of its own")
    }
    let allowed = stored - VerifyCommand.allowedLoss
    return (
      min(allowed, VerifyCommand.exactSignalToNoise),
      "\(Units.decibels(VerifyCommand.allowedLoss)) less than the \(Units.decibels(stored)) that the file says"
    )
  }

  private func failure(_ report: Report, _ program: Program) -> QMError? {
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

  private enum Truth: String, Encodable {
    case besideSamples = "outputs beside the samples"
    case reference = "reference"
    case none
  }

  private struct Report: Encodable {
    struct Share: Encodable {
      let name: String
      let share: Double
    }
    struct Value: Encodable {
      let name: String
      let operation: String
      let signalToNoiseDecibels: Double

      enum CodingKeys: String, CodingKey {
        case name, operation
        case signalToNoiseDecibels = "sqnr_db"
      }
    }

    let file: String
    let bytes: Int
    let nodes: Int
    let constants: Int
    var samples = 0
    var truth = Truth.none
    var outputs: [OutputReport] = []
    /// Share of the activations on fixed grids that met an end of their range; nil where there are
    /// none, or no samples.
    var saturation: Double?
    var saturated: [Share] = []
    /// Ways to compute that gave the same bits; nil where that was not tested.
    var identicalKernels: [String]?
    var selfTestSamples: Int?
    /// Why no run was made; nil where one was.
    var notRun: String?
    var values: [Value]?
    var passed = true

    enum CodingKeys: String, CodingKey {
      case file, bytes, nodes, constants, samples, truth, outputs, saturation, saturated, values
      case passed
      case identicalKernels = "identical_kernels"
      case selfTestSamples = "self_test_samples"
      case notRun = "not_run"
    }
  }

  private func show(_ report: Report, _ program: Program, _ console: Console) {
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
        "accuracy was not measured: give samples and --reference in.onnx, or outputs beside the samples")
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

  private func truthDescription(_ truth: Truth) -> String {
    let inputs = samples == nil ? " on seeded inputs" : ""
    return truth == .reference ? "\(reference ?? "the reference")\(inputs)" : truth.rawValue
  }
}
