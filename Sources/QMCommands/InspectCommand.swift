import ArgumentParser
import QMFormat
import QMOperations
import QMReport
import QMRuntime
import QMTensor

/// `qinspect`: shows the content of a `.qm` or `.onnx` file.
public struct InspectCommand: ParsableCommand {
  /// Name, help and version of the tool.
  public static let configuration = CommandConfiguration(
    commandName: "qinspect",
    abstract: "Show the content of a .qm file and how each node runs, or that of an .onnx file.",
    version: toolVersion)

  @Argument(help: ArgumentHelp("The file.", valueName: "out.qm|in.onnx"))
  var file: String

  @OptionGroup var console: ConsoleOptions

  /// The command with default options; parsing sets them.
  public init() {}

  /// Prints the report.
  public func run() throws {
    let console = Console(tool: "qinspect", self.console)
    if try Network.isONNX(file) { return try inspectNetwork(console) }
    let opened = try QMFile(path: file)
    let report = try within(.file(file)) { () throws(QMError) in
      let program = try Program(opened)
      return try InspectionReport(
        path: file, opened, program.constants, work: InspectCommand.work(program))
    }
    show(report, console)
    try console.json(report)
    try console.finish()
  }

  /// The multiply-adds of a run on seeded inputs; nil if no input shapes were found that run.
  private static func work(_ program: Program) throws(QMError) -> Work? {
    let model = try Model(program, options: Model.Options(runByteLimit: 1 << 30))
    guard let inputs = try? SeededInputs(model).tensors(seed: 0) else { return nil }
    return try Work(of: program, Session(model), inputs)
  }

  private func show(_ report: InspectionReport, _ console: Console) {
    console.line("\(report.file): \(Units.bytes(report.bytes)), made by \(report.producer)")
    console.line("content \(report.digest)")
    if !report.sourceDigest.isEmpty {
      console.line("source  \(report.sourceDigest)")
    }
    for entry in report.recipe + report.entries {
      console.line("  \(entry.key.abbreviated): \(entry.value.abbreviated)")
    }
    for (kind, ports) in [("input", report.inputs), ("output", report.outputs)] {
      for port in ports {
        console.line(
          "\(kind) \(port.name.abbreviated): \(port.type) [\(port.shape.joined(separator: ", "))]")
      }
    }
    for measurement in report.measurements {
      console.line(
        "measured \(measurement.output.abbreviated): \(measurement.measure) "
          + "\(Units.significant(measurement.value, digits: 6)) (\(Units.count(measurement.samples, "sample")))"
      )
    }
    console.line()
    console.table(
      [
        "constant", "bits", "entropy", "in the file", "shape", "scales", "stored", "inflated",
        "layout",
      ],
      report.constants.map {
        [
          $0.name.abbreviated, "\($0.bits)", $0.entropyBits.map { Units.fixed($0, 2) } ?? "–",
          $0.storedBits.map { Units.fixed($0, 2) } ?? "–", "\($0.shape)", $0.granularity ?? "–",
          Units.bytes($0.storedBytes), Units.bytes($0.inflatedBytes), $0.layout,
        ]
      }, trailing: [1, 2, 3, 6, 7])
    console.line()
    console.table(of: report.nodes)
    console.line()
    console.table(
      ["part", "bytes"], report.parts.map { [$0.name, "\($0.bytes)"] }, trailing: [1])
    console.line()
    console.line(
      "\(Units.count(report.weights, "weight")): codes of "
        + "\(Units.fixed(report.bitsPerWeightInCodes, 2)) bits on average, "
        + "\(Units.fixed(report.bitsPerWeightInFile, 2)) bits in the file, "
        + "\(Units.fixed(report.bitsPerWeightWithScales, 2)) with scales; entropy "
        + "\(Units.fixed(report.entropyPerWeight, 2)); "
        + "\(Units.percent(report.quantizedWeightShare)) quantized")
    if let share = report.integerMultiplyAddShare, let count = report.multiplyAdds {
      console.line(
        "\(Units.fixed(Double(count) / 1e6, 3)) million multiply-adds per run, "
          + "\(Units.percent(share)) on integers")
    }
  }
}
