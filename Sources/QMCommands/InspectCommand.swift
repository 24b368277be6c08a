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
    let work = try within(.file(file)) { () throws(QMError) -> Work? in
      try InspectCommand.work(Program(opened))
    }
    let report = InspectionReport(path: file, opened, work: work)
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
      ["constant", "bits", "shape", "scales", "stored", "inflated", "layout"],
      report.constants.map {
        [
          $0.name.abbreviated, "\($0.bits)", "\($0.shape)", $0.granularity ?? "–",
          Units.bytes($0.storedBytes), Units.bytes($0.inflatedBytes), $0.layout,
        ]
      }, trailing: [1, 4, 5])
    console.line()
    console.table(of: report.nodes)
    console.line()
    console.line(
      "\(Units.count(report.weights, "weight")): codes of "
        + "\(Units.fixed(report.bitsPerWeightInCodes, 2)) bits on average, "
        + "\(Units.fixed(report.bitsPerWeightInFile, 2)) bits in the file; "
        + "\(Units.percent(report.quantizedWeightShare)) quantized")
    if let share = report.integerMultiplyAddShare, let count = report.multiplyAdds {
      console.line(
        "\(Units.fixed(Double(count) / 1e6, 3)) million multiply-adds per run, "
          + "\(Units.percent(share)) on integers")
    }
  }
}
