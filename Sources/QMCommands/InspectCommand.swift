import ArgumentParser
import QMFormat
import QMOperations
import QMReport
import QMRuntime
import QMTensor

/// `qinspect`: shows the content of a `.qm` or `.onnx` file.
public struct InspectCommand: ToolCommand {
  /// Name, help and version of the tool.
  public static let configuration = CommandConfiguration(
    commandName: "qinspect",
    abstract: "Show the content of a .qm file and how each node runs, or that of an .onnx file.",
    discussion: """
      Examples:
        qinspect out.qm --graph out.svg
        qinspect in.onnx
      """,
    version: toolVersion)

  @Argument(help: ArgumentHelp("The file.", valueName: "out.qm|in.onnx"), completion: .file())
  var file: String

  @Option(
    help: ArgumentHelp(
      """
      Draw the network, with shapes, bits and shares of bytes and multiply-adds: a picture (.svg), or \
      the language of Graphviz (.dot).
      """,
      valueName: "out.svg|.dot"),
    completion: .file())
  var graph: String?

  @OptionGroup var console: ConsoleOptions

  /// The command with default options; parsing sets them.
  public init() {}

  /// Checks the options that do not depend on files.
  public func checkOptions() throws {
    if let graph, !graph.lowercased().hasSuffix(".svg"), !graph.lowercased().hasSuffix(".dot") {
      throw ValidationError("--graph \(graph): expected a name that ends in .svg or .dot")
    }
  }

  /// Prints the report.
  public func run() throws {
    let console = Console(tool: "qinspect", self.console)
    if let graph, Process.isSameFile(graph, file) {
      throw QMError.usage("the drawing would replace the file; give another name")
        .within(.file(graph))
    }
    if try Network.isONNX(file) { return try inspectNetwork(console) }
    let opened = try QMFile(path: file)
    let (report, drawing) = try within(.file(file)) {
      () throws(QMError) -> (InspectionReport, GraphReport?) in
      let program = try Program(opened)
      let work = try InspectCommand.multiplyAdds(of: program)
      return (
        InspectionReport(
          path: file, opened, program.constants, probes: try opened.probes(),
          work: work.map { Work(of: program, $0) }),
        graph.map { _ in
          GraphReport(path: file, opened, multiplyAdds: work)
        }
      )
    }
    if let graph, let drawing { try write(drawing, to: graph) }
    show(report, console)
    try console.json(report)
    try console.finish()
  }

  func write(_ drawing: GraphReport, to path: String) throws(QMError) {
    let text = path.lowercased().hasSuffix(".dot") ? drawing.dot : try drawing.svg()
    try Process.uninterrupted { () throws(QMError) in
      try AtomicFile.write(Array(text.utf8), to: path)
    }
  }

  /// The multiply-adds of a run on seeded inputs, by node; nil if no input shapes were found that run.
  static func multiplyAdds(of program: Program) throws(QMError) -> [Int: Int]? {
    let model = try Model(program, options: Model.Options(runByteLimit: 1 << 30))
    guard let inputs = try? SeededInputs(model).tensors(seed: 0) else { return nil }
    return try Work.multiplyAddsByNode(of: program, Session(model), inputs)
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
    if let probes = report.probes {
      console.line(Units.count(probes, "probe"))
      console.line()
    }
    console.table(
      ["part", "bytes"], report.parts.map { [$0.name, "\($0.bytes)"] }, trailing: [1])
    guard report.weights > 0 else { return }
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
