import QMGraph
import QMOperations
import QMTensor

/// Reads `.onnx` files.
public enum ONNXReader {
  /// The oldest and the newest operator set that is read.
  public static let opsets = 1...28

  /// What a file says beside its graph.
  public struct Information: Hashable, Sendable {
    /// Name and version of the tool that wrote the file, or empty.
    public var producer: String
    public var irVersion: Int
    /// Version of ONNX's own operator set.
    public var opset: Int
    public var nodeCount: Int
    /// Inputs that have a default and became constants.
    public var defaultedInputs: [String]
  }

  /// The network in the file at `path`, in float. Weights stay in the mapped file.
  /// - Parameter outputs: names of values to leave the graph in the place of its own outputs, or
  ///   empty. Nodes and inputs that they do not need are not read.
  /// - Parameter settings: values that inputs have for good; they are no inputs any more.
  /// - Throws: `cannotOpen`; `usage` for an output that does not exist; `malformed` or
  ///   `unsupported`, with the file, and the node or the byte offset as context.
  public static func read(
    path: String, outputs: [String] = [], settings: [String: Tensor] = [:],
    limits: ONNXLimits = ONNXLimits()
  ) throws(QMError) -> Graph {
    try readWithInformation(path: path, outputs: outputs, settings: settings, limits: limits).graph
  }

  /// As ``read(path:outputs:settings:limits:)``, with what else the file says.
  public static func readWithInformation(
    path: String, outputs: [String] = [], settings: [String: Tensor] = [:],
    limits: ONNXLimits = ONNXLimits()
  ) throws(QMError) -> (graph: Graph, information: Information) {
    let file = try Buffer.mapping(path: path)
    return try within(.file(path)) { () throws(QMError) in
      var model = try ONNXModel(bytes: file.bytes, limits: limits)
      if !outputs.isEmpty { try model.graph.cut(to: outputs) }
      let files = TensorFiles(
        file: file, folder: try canonicalPath(folder(of: path)), limits: limits)
      return try graph(of: model, files: files, settings: settings, limits: limits)
    }
  }

  /// As ``read(path:outputs:settings:limits:)``, of a file that is in memory already. Its tensors share
  /// the buffer; external data are refused, for there is no folder to look in.
  public static func read(
    bytes: Buffer, limits: ONNXLimits = ONNXLimits()
  ) throws(QMError) -> Graph {
    let model = try ONNXModel(bytes: bytes.bytes, limits: limits)
    let files = TensorFiles(file: bytes, folder: nil, limits: limits)
    return try graph(of: model, files: files, limits: limits).graph
  }

  /// Names of the inputs of the network in the file at `path`, those without a default, in order.
  /// - Throws: `cannotOpen`; `malformed` or `unsupported`, with the file as context.
  public static func inputNames(
    path: String, limits: ONNXLimits = ONNXLimits()
  ) throws(QMError) -> [String] {
    let file = try Buffer.mapping(path: path)
    return try within(.file(path)) { () throws(QMError) in
      let graph = try ONNXModel(bytes: file.bytes, limits: limits).graph
      let defaulted = Set(graph.initializers.map(\.name))
      return graph.inputs.map(\.name).filter { !defaulted.contains($0) }
    }
  }

  /// The tensor in an ONNX `.pb` file, with the name that it has there.
  /// - Throws: as ``read(path:outputs:settings:limits:)``.
  public static func readTensor(
    path: String, limits: ONNXLimits = ONNXLimits()
  ) throws(QMError) -> (name: String, tensor: Tensor) {
    let file = try Buffer.mapping(path: path)
    return try within(.file(path)) { () throws(QMError) in
      let source = try ONNXTensor(bytes: file.bytes, limits: limits)
      let files = TensorFiles(file: file, folder: nil, limits: limits)
      return (source.name, try files.tensor(source))
    }
  }

  private static func graph(
    of model: ONNXModel, files: TensorFiles, settings: [String: Tensor] = [:], limits: ONNXLimits
  ) throws(QMError) -> (graph: Graph, information: Information) {
    // IR 3 is the first that names operator sets; 14 is the newest that ONNX has defined.
    guard (3...16).contains(model.irVersion) else {
      throw .unsupported("IR version \(model.irVersion); expected 3 to 16")
    }
    guard let opset = model.operatorSets[""] else {
      throw .malformed("no version of ONNX's own operator set is imported")
    }
    guard opsets.contains(opset) else {
      throw .unsupported(
        "operator set \(opset); expected \(opsets.lowerBound) to \(opsets.upperBound); convert the model with onnx.version_converter"
      )
    }
    let builder = GraphBuilder(
      opset: opset, functions: Set(model.functions), files: files, limits: limits)
    let defaulted = try builder.build(model.graph, settings: settings)
    let information = Information(
      producer: model.producer, irVersion: model.irVersion, opset: opset,
      nodeCount: model.graph.nodes.count, defaultedInputs: defaulted)
    return (builder.graph, information)
  }
}
