import ArgumentParser
import QMFormat
import QMGraph
import QMNumPy
import QMONNX
import QMQuantization
import QMReport
import QMSafetensors
import QMTensor

/// `qexport`: writes a `.qm` file as ONNX, or its weights as arrays.
public struct ExportCommand: ToolCommand {
  /// Name, help and version of the tool.
  public static let configuration = CommandConfiguration(
    commandName: "qexport",
    abstract: "Write a .qm file as an .onnx network, or its weights as .npz or .safetensors.",
    discussion: """
      An .onnx file has QuantizeLinear and DequantizeLinear, weights of at most 4 bits as int4, others \
      as int8. Ranges and scales that are computed in each run become float32 over the dequantized \
      weights; the report names these nodes. ONNX Runtime's sums may saturate on processors without \
      VNNI: set its session option session.x64quantprecision to 1 or, where that fails, turn its graph \
      optimization off.

      Examples:
        qexport out.qm out.onnx
        qexport out.qm weights.npz --reference in.onnx
      """,
    version: toolVersion)

  /// What is written, by the ending of the file's name.
  enum Format: String, CaseIterable {
    case onnx, npz, safetensors
  }

  @Argument(help: ArgumentHelp("The file to read.", valueName: "out.qm"), completion: .file())
  var model: String

  @Argument(
    help: ArgumentHelp("The file to write.", valueName: "out.onnx|weights.npz|weights.safetensors"),
    completion: .file())
  var output: String

  @Flag(help: "Write float32 everywhere: dequantized weights, and values without rounding.")
  var float = false

  @Option(
    help: ArgumentHelp(
      "The float network that the file was made from: arrays get its names, shapes and order of axes. "
        + "Without it, those of the constants that --float writes.",
      valueName: "in.onnx"),
    completion: .file())
  var reference: String?

  @OptionGroup var console: ConsoleOptions

  /// The command with default options; parsing sets them.
  public init() {}

  private var format: Format? {
    Format.allCases.first { output.lowercased().hasSuffix("." + $0.rawValue) }
  }

  /// Checks the options that do not depend on files.
  public func checkOptions() throws {
    guard format != nil else {
      throw ValidationError("\(output): expected a name that ends in .onnx, .npz or .safetensors")
    }
    if format == .onnx, reference != nil {
      throw ValidationError("--reference names arrays; leave it out for .onnx")
    }
    if format != .onnx, float {
      throw ValidationError("--float is for .onnx; arrays are float32 already")
    }
  }

  /// Writes the file, and prints the report.
  public func run() throws {
    let console = Console(tool: "qexport", self.console)
    guard !Process.isSameFile(model, output) else {
      throw QMError.usage("the output is the input; give another name").within(.file(output))
    }
    guard try Network.isProgram(model) else {
      throw QMError.usage("expected a .qm file").within(.file(model))
    }
    console.progress("reading")
    let program = try Program(contentsOf: model)
    let report =
      try format == .onnx ? exportNetwork(program, console) : exportArrays(program, console)
    show(report, console)
    try console.json(report)
    try console.finish()
  }

  private func exportNetwork(
    _ program: Program, _ console: Console
  ) throws(QMError) -> ExportReport {
    guard !program.inputs.isEmpty else {
      throw QMError.usage(
        "the file holds arrays without a network; give a name that ends in .npz or .safetensors"
      ).within(.file(output))
    }
    let (file, raised, information) = try within(.file(model)) { () throws(QMError) in
      let raised = try program.raised(float ? .float : .codes)
      let (bytes, information) = try ONNXWriter.encode(
        raised.graph, producer: "swift-qm", version: toolVersion)
      return (bytes, raised, information)
    }
    console.progress("writing")
    try Process.uninterrupted { () throws(QMError) in
      try withExtendedLifetime(file) { () throws(QMError) in
        try AtomicFile.write(UnsafeRawBufferPointer(file.bytes), to: output)
      }
    }
    var report = ExportReport(
      model: try size(of: model), output: FileSize(path: output, bytes: file.count),
      format: Format.onnx.rawValue)
    report.nodes = information.nodeCount
    report.codedWeights = information.codedWeights
    report.floatNodes = (raised.floatNodes + information.floatNodes).map {
      ExportReport.FloatNode(node: $0.name, operation: $0.operation, reason: $0.reason)
    }
    return report
  }

  // MARK: Arrays

  private func exportArrays(
    _ program: Program, _ console: Console
  ) throws(QMError) -> ExportReport {
    let weights = try weights(of: program)
    console.progress("writing")
    try Process.uninterrupted { () throws(QMError) in
      if format == .npz {
        try NPZArchive.write(weights.arrays.map { ($0.name, $0.tensor) }, to: output)
      } else {
        try SafetensorsWriter.write(weights.arrays, to: output)
      }
    }
    var report = ExportReport(
      model: try size(of: model), output: try size(of: output),
      format: (format ?? .npz).rawValue)
    report.arrays = weights.arrays.map(\.name)
    if reference != nil { report.missing = weights.missing }
    return report
  }

  private func weights(of program: Program) throws(QMError) -> RaisedWeights {
    if let reference {
      let source = try referenceNetwork(reference, like: program)
      return try within(.file(model)) { () throws(QMError) in try program.weights(of: source) }
    }
    return try within(.file(model)) { () throws(QMError) in
      let graph = try program.raised(.float).graph
      var weights = RaisedWeights()
      if program.inputs.isEmpty {
        weights.arrays = graph.outputs.compactMap { output in
          graph[output.value].constant.map { (output.name, $0) }
        }
      } else {
        weights.arrays = try ONNXWriter.weights(of: graph)
      }
      return weights
    }
  }

  /// The float network, cut as the recipe in the file says.
  private func referenceNetwork(
    _ path: String, like program: Program
  ) throws(QMError) -> Graph {
    let cuts: Recipe.Network
    do throws(QMError) {
      cuts = try Recipe(entries: program.metadata.recipe).network
    } catch {
      throw QMError.unsupported(
        "cannot read the recipe in the file, which an earlier version wrote; convert again"
      ).within(.file(model))
    }
    return try ONNXReader.read(path: path, changes: NetworkOptions.changes(cuts))
  }

  // MARK: Report

  private func size(of path: String) throws(QMError) -> FileSize {
    FileSize(path: path, bytes: try Buffer.mapping(path: path).count)
  }

  private func show(_ report: ExportReport, _ console: Console) {
    var parts = [Units.bytes(report.output.bytes)]
    if let nodes = report.nodes { parts.append(Units.count(nodes, "node")) }
    if let coded = report.codedWeights {
      parts.append("\(Units.count(coded, "weight tensor")) as codes")
    }
    if let arrays = report.arrays { parts.append(Units.count(arrays.count, "array")) }
    console.line("\(report.output.path): " + parts.joined(separator: ", "))
    if let missing = report.missing, !missing.isEmpty {
      console.line("left out, because the file does not hold them: " + missing.listed)
    }
    guard let floatNodes = report.floatNodes, !floatNodes.isEmpty else { return }
    console.line()
    console.table(
      ["node", "operation", "float32, because"],
      floatNodes.map { [$0.node.abbreviated, $0.operation, $0.reason] })
  }
}
