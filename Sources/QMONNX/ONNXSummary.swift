import QMTensor

/// What an `.onnx` file holds, whether or not it can be read as a network.
public struct ONNXSummary: Codable, Hashable, Sendable {
  /// An input, an output or a weight.
  public struct Port: Codable, Hashable, Sendable {
    /// Its name in the file.
    public let name: String
    /// Element type, `float32`; for one that cannot be read, ONNX's number of it.
    public let type: String
    /// The extent, or the name of a dynamic axis, of each axis; nil if the file states no shape.
    public let shape: [String]?
  }

  /// The nodes of one operator, those in branches and bodies included.
  public struct Operator: Codable, Hashable, Sendable {
    /// Name, with its domain unless that is ONNX's own: `com.microsoft.Gelu`.
    public let name: String
    /// Number of nodes.
    public let count: Int
    /// Whether nodes of the operator can be read in the file's operator set.
    public let isSupported: Bool

    enum CodingKeys: String, CodingKey {
      case name, count
      case isSupported = "supported"
    }
  }

  /// Path of the file.
  public let file: String
  /// Size of the file, in bytes.
  public let bytes: Int
  /// Name and version of the tool that wrote the file, or empty.
  public let producer: String
  /// Version of ONNX's own operator set; nil if the file states none.
  public let opset: Int?
  /// The inputs without a default.
  public let inputs: [Port]
  /// The outputs.
  public let outputs: [Port]
  /// The operators, by name.
  public let operators: [Operator]
  /// The initializers, in the order of the file.
  public let weights: [Port]

  /// Lists the content of a file.
  /// - Throws: `cannotOpen`; `malformed` or `unsupported`, with the file as context.
  public init(path: String, limits: ONNXLimits = ONNXLimits()) throws(QMError) {
    let buffer = try Buffer.mapping(path: path)
    let model = try within(.file(path)) { () throws(QMError) in
      var model = try ONNXModel(bytes: buffer.bytes, limits: limits)
      try model.inlineFunctions(limits: limits)
      return model
    }
    file = path
    bytes = buffer.count
    producer = model.producer
    opset = model.operatorSets[""]
    let defaulted = Set(model.graph.initializers.map(\.name))
    inputs = model.graph.inputs.filter { !defaulted.contains($0.name) }.map(Port.init)
    outputs = model.graph.outputs.map(Port.init)
    weights = model.graph.initializers.map(Port.init)
    var counts: [String: Int] = [:]
    model.graph.count(into: &counts)
    let opset = opset ?? 0
    operators = counts.sorted { $0.key < $1.key }.map { name, count in
      Operator(
        name: name, count: count,
        isSupported: OperatorTable.entries[name]?.opsets.contains(opset) ?? false)
    }
  }
}

extension ONNXSummary.Port {
  fileprivate init(_ info: ONNXValueInfo) {
    name = info.name
    type = info.type.map { ONNXSummary.Port.typeName($0.dataType) } ?? "no tensor"
    shape = info.type?.axes?.map(\.description)
  }

  fileprivate init(_ tensor: ONNXTensor) {
    name = tensor.name
    type = ONNXSummary.Port.typeName(tensor.dataType)
    shape = tensor.shape.map(String.init)
  }

  private static func typeName(_ number: Int32) -> String {
    (try? ElementType(onnx: number)).map { "\($0)" } ?? "type \(number)"
  }
}

extension ONNXGraph {
  /// Adds the number of nodes of each operator, by its full name.
  fileprivate func count(into counts: inout [String: Int]) {
    for node in nodes {
      counts[node.fullOperation, default: 0] += 1
      for attribute in node.attributes {
        if case .graph(let graph) = attribute.value { graph.count(into: &counts) }
      }
    }
  }
}
