import QMGraph
import QMOperations
import QMTensor

/// Reads `.onnx` files.
public enum ONNXReader {
  /// Versions of ONNX's operator set that are supported.
  public static let opsets = 1...28

  /// Facts about a file in addition to its graph.
  public struct Information: Hashable, Sendable {
    /// Name and version of the tool that wrote the file, or empty.
    public var producer: String
    /// Version of the file format.
    public var irVersion: Int
    /// Version of ONNX's own operator set.
    public var opset: Int
    /// Number of ONNX nodes that were read.
    public var nodeCount: Int
    /// Inputs that have a default and became constants.
    public var defaultedInputs: [String]
    /// Outputs whose declared shape contradicts the shape that the network computes.
    public var misdeclaredOutputs: [String]
    /// Float types other than float32 that computed values are declared to have. They are computed
    /// in float32, and converted where they leave the network.
    public var convertedTypes: [ElementType]
  }

  /// Reads the network in the file at `path` as a float32 graph. Weights stay in the mapped file.
  /// - Parameter changes: other inputs and outputs, fixed values, new weights. Nodes and inputs on
  ///   which no output depends are not read.
  /// - Throws: `cannotOpen`; `usage` for a value that does not exist; `invalidInput` for weights
  ///   that name no constant or have another shape; `malformed` or `unsupported`, with the file and
  ///   the node or byte offset as context.
  public static func read(
    path: String, changes: ONNXChanges = ONNXChanges(), limits: ONNXLimits = ONNXLimits()
  ) throws(QMError) -> Graph {
    try readWithInformation(path: path, changes: changes, limits: limits).graph
  }

  /// As ``read(path:changes:limits:)``, with facts about the file.
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

  /// As ``read(path:changes:limits:)`` for a file in memory. The graph's constants share the
  /// buffer.
  /// - Throws: also `unsupported` for a tensor in another file, because there is no folder.
  public static func read(
    bytes: Buffer, limits: ONNXLimits = ONNXLimits()
  ) throws(QMError) -> Graph {
    let model = try ONNXModel(bytes: bytes.bytes, limits: limits)
    let files = TensorFiles(file: bytes, folder: nil, limits: limits)
    return try graph(of: model, files: files, limits: limits).graph
  }

  /// Names of the inputs without a default of the network in the file at `path`, in its order.
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

  /// The tensor in an ONNX `.pb` file, and its name there.
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
    try model.inlineFunctions(limits: limits)
    let opset = try supportedOpset(of: model)
    let noise = changes.noise(in: model.graph)
    model.graph.replaceNoise { noise[$0] }
    let whole = model.graph
    try whole.requireConstants(named: changes.weights.keys)
    func makeBuilder() -> GraphBuilder {
      GraphBuilder(opset: opset, files: files, weights: changes.weights, limits: limits)
    }
    var typed = whole
    typed.replaceNoise { _ in 0 }
    let probe = TypeProbe(network: typed, makeBuilder: makeBuilder)
    var settings = try changes.typedSettings(probe, except: Set(noise.keys))
    let inputs = try changes.typedInputs(probe)
    if !changes.outputs.isEmpty || !changes.inputs.isEmpty || !settings.isEmpty {
      try model.graph.cut(
        to: changes.outputs.isEmpty ? whole.outputs.map(\.name) : changes.outputs,
        from: Set(changes.inputs.map(\.name)).union(settings.keys))
    }
    // A setting of an input that was cut off has no effect.
    let (ownInputs, leftInputs) = (whole.inputs.map(\.name), model.graph.inputs.map(\.name))
    for name in Set(ownInputs).subtracting(leftInputs) { settings[name] = nil }
    let builder = makeBuilder()
    let defaulted = try builder.build(model.graph, settings: settings, inputs: inputs)
    let information = Information(
      producer: model.producer, irVersion: model.irVersion, opset: opset,
      nodeCount: model.graph.nodes.count, defaultedInputs: defaulted,
      misdeclaredOutputs: misdeclared(model.graph, builder.graph),
      convertedTypes: builder.convertedTypes.sorted { $0.rawValue < $1.rawValue })
    return (builder.graph, information)
  }

  /// - Throws: `malformed` if no version is given, `unsupported` if it cannot be read.
  private static func supportedOpset(of model: ONNXModel) throws(QMError) -> Int {
    // IR 3 is the first version that names operator sets; 14 is the newest that ONNX has defined.
    guard (3...16).contains(model.irVersion) else {
      throw .unsupported("IR version \(model.irVersion); expected 3 to 16")
    }
    guard
      let opset = model.operatorSets[""] ?? (model.graph.hasOwnOperators ? nil : opsets.upperBound)
    else { throw .malformed("no version of ONNX's own operator set is imported") }
    guard opsets.contains(opset) else {
      throw .unsupported(
        "operator set \(opset); expected \(opsets.lowerBound) to \(opsets.upperBound); convert the model with onnx.version_converter"
      )
    }
    return opset
  }

  /// Names of the outputs whose declared shape cannot be the computed one. The computed one is
  /// used.
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
  /// - Throws: `invalidInput` if a name is not that of an initializer or Constant node.
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

  /// Whether an operator of ONNX's own operator set is used, so that its version matters. Nodes that
  /// were in a function know theirs.
  fileprivate var hasOwnOperators: Bool {
    nodes.contains { $0.domain.isEmpty && $0.opset == nil }
  }

  /// Names of initializers and outputs of Constant nodes, including those in branches.
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
