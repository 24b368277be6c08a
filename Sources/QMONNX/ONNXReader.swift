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
    /// Outputs whose extents are declared otherwise than they follow from the network.
    public var misdeclaredOutputs: [String]
  }

  /// The network in the file at `path`, in float. Weights stay in the mapped file.
  /// - Parameter changes: where it is cut, and what is set. Nodes and inputs that the outputs do
  ///   not need are not read.
  /// - Throws: `cannotOpen`; `usage` for a value that does not exist; `invalidInput` for weights
  ///   that name no constant or do not fit; `malformed` or `unsupported`, with the file, and the node or the byte offset as context.
  public static func read(
    path: String, changes: ONNXChanges = ONNXChanges(), limits: ONNXLimits = ONNXLimits()
  ) throws(QMError) -> Graph {
    try readWithInformation(path: path, changes: changes, limits: limits).graph
  }

  /// As ``read(path:changes:limits:)``, with what else the file says.
  public static func readWithInformation(
    path: String, changes: ONNXChanges = ONNXChanges(), limits: ONNXLimits = ONNXLimits()
  ) throws(QMError) -> (graph: Graph, information: Information) {
    let file = try Buffer.mapping(path: path)
    return try within(.file(path)) { () throws(QMError) in
      let model = try ONNXModel(bytes: file.bytes, limits: limits)
      let files = TensorFiles(
        file: file, folder: try canonicalPath(folder(of: path)), limits: limits)
      return try graph(of: model, files: files, changes: changes, limits: limits)
    }
  }

  /// As ``read(path:changes:limits:)``, of a file that is in memory already. Its tensors share
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
  /// - Throws: as ``read(path:changes:limits:)``.
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
    of source: ONNXModel, files: TensorFiles, changes: ONNXChanges = ONNXChanges(),
    limits: ONNXLimits
  ) throws(QMError) -> (graph: Graph, information: Information) {
    var model = source
    let opset = try supportedOpset(of: model)
    let (functions, whole) = (Set(model.functions), model.graph)
    try whole.requireConstants(named: changes.weights.keys)
    func makeBuilder() -> GraphBuilder {
      GraphBuilder(
        opset: opset, functions: functions, files: files, weights: changes.weights, limits: limits)
    }
    let probe = TypeProbe(network: whole, makeBuilder: makeBuilder)
    var settings = try changes.typedSettings(probe)
    let inputs = try changes.typedInputs(probe)
    if !changes.outputs.isEmpty || !changes.inputs.isEmpty || !settings.isEmpty {
      try model.graph.cut(
        to: changes.outputs.isEmpty ? whole.outputs.map(\.name) : changes.outputs,
        from: Set(changes.inputs.map(\.name)).union(settings.keys))
    }
    // A setting of an input that nothing reads any more says nothing.
    let (ownInputs, leftInputs) = (whole.inputs.map(\.name), model.graph.inputs.map(\.name))
    for name in Set(ownInputs).subtracting(leftInputs) { settings[name] = nil }
    let builder = makeBuilder()
    let defaulted = try builder.build(model.graph, settings: settings, inputs: inputs)
    let information = Information(
      producer: model.producer, irVersion: model.irVersion, opset: opset,
      nodeCount: model.graph.nodes.count, defaultedInputs: defaulted,
      misdeclaredOutputs: misdeclared(model.graph, builder.graph))
    return (builder.graph, information)
  }

  /// - Throws: `malformed` or `unsupported` for versions that cannot be read.
  private static func supportedOpset(of model: ONNXModel) throws(QMError) -> Int {
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
    return opset
  }

  /// The graph decides; a declaration that cannot be true is worth a remark.
  private static func misdeclared(_ source: ONNXGraph, _ graph: Graph) -> [String] {
    source.outputs.compactMap { output in
      guard let declared = output.type?.axes,
        let value = graph.outputs.first(where: { $0.name == output.name })?.value
      else { return nil }
      let computed = graph[value].type.shape
      let isPossible =
        declared.count == computed.rank
        && zip(declared, computed.axes).allSatisfy { declared, computed in
          guard let one = declared.extent, let other = computed.extent else { return true }
          return one == other
        }
      return isPossible ? nil : output.name
    }
  }
}

extension ONNXGraph {
  /// - Throws: `invalidInput` with the names that no initializer and no Constant node has.
  fileprivate func requireConstants(named names: some Collection<String>) throws(QMError) {
    guard !names.isEmpty else { return }
    let known = constantNames
    let unknown = names.filter { !known.contains($0) }.sorted()
    guard !unknown.isEmpty else { return }
    let listed = unknown.prefix(16).map { "'\($0.abbreviated)'" }.joined(separator: ", ")
    throw .invalidInput(
      "no constant has the name \(listed)"
        + (unknown.count > 16 ? " and \(unknown.count - 16) others" : "")
        + " of the given weights; leave them out or rename them")
  }

  /// Names of initializers and of what Constant nodes give, those within branches too.
  private var constantNames: Set<String> {
    var known = Set(initializers.map(\.name))
    for node in nodes {
      if node.operation == "Constant" { known.formUnion(node.outputs) }
      for attribute in node.attributes {
        if case .graph(let graph) = attribute.value { known.formUnion(graph.constantNames) }
      }
    }
    return known
  }
}
