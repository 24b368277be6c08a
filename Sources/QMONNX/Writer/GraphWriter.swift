import QMGraph
import QMOperations
import QMTensor

/// The ONNX graph that is written. Each family of operations has a file that adds its nodes.
struct GraphWriter {
  let graph: Graph
  private var nodes: [ONNXNode] = []
  private var initializers: [ONNXTensor] = []
  /// The nodes whose codes of weights ONNX cannot express.
  var floatNodes: [RaisedProgram.FloatNode] = []
  /// ONNX's name of each value that has one.
  private var names: [Graph.ValueID: String] = [:]
  /// Names that no further value may have.
  var taken: Set<String> = []
  /// The node that computes a value.
  private var producers: [Graph.ValueID: Int] = [:]
  /// int8 codes that are written as uint8, with codes and zero points 128 higher: ONNX Runtime makes
  /// them so on processors without products of int8, and 1.32 fails at it if it has moved a
  /// QuantizeLinear. Only the file's own nodes read them.
  private let unsigned: Set<Graph.ValueID>
  /// Names of the codes, the scale and the zero point of a DynamicQuantizeLinear, by its codes.
  var dynamicOutputs: [Graph.ValueID: [String]] = [:]
  /// The small constants that were added, so that equal ones are written once.
  private var constants: [ConstantKey: String] = [:]

  private struct ConstantKey: Hashable {
    let type: ElementType
    let shape: [Int]
    let bytes: [UInt8]
  }

  init(_ graph: Graph) throws(QMError) {
    self.graph = graph
    for (index, node) in graph.nodes.enumerated() {
      for output in node.outputs { producers[output] = index }
    }
    unsigned = graph.innerCodes
    taken = Set(graph.outputs.map(\.name))
    for input in graph.inputs { taken.insert(graph[input].name) }
    for input in graph.inputs { names[input] = graph[input].name }
    // A value that is one output has the output's name.
    var outputNames: [Graph.ValueID: [String]] = [:]
    for output in graph.outputs { outputNames[output.value, default: []].append(output.name) }
    for (value, names) in outputNames where producers[value] != nil {
      self.names[value] = names[0]
    }
  }

  /// The graph, without nodes and initializers that nothing reads.
  mutating func finish() throws(QMError) -> ONNXGraph {
    for output in graph.outputs where names[output.value] != output.name {
      add("Identity", [try name(of: output.value)], as: [output.name])
    }
    var live = Set(graph.outputs.map(\.name))
    var kept: [ONNXNode] = []
    for node in nodes.reversed() where node.outputs.contains(where: live.contains) {
      live.formUnion(node.namesRead)
      kept.append(node)
    }
    return ONNXGraph(
      name: "network", nodes: kept.reversed(),
      initializers: initializers.filter { live.contains($0.name) },
      inputs: graph.inputs.map { info(graph[$0].name, $0) },
      outputs: graph.outputs.map { info($0.name, $0.value) }, sparseInitializerCount: 0)
  }

  private func info(_ name: String, _ value: Graph.ValueID) -> ONNXValueInfo {
    let type = graph[value].type
    return ONNXValueInfo(
      name: name,
      type: ONNXValueInfo.TensorType(
        dataType: type.elementType.onnxType, axes: type.shape.axes))
  }

  // MARK: Values

  /// The node that computes a value; nil for inputs and constants.
  func producer(of value: Graph.ValueID) -> Graph.Node? { producers[value].map { graph.nodes[$0] } }

  func shape(_ value: Graph.ValueID) -> Shape { graph[value].type.shape }

  /// Whether int8 codes are written as uint8.
  func isUnsigned(_ value: Graph.ValueID) -> Bool { unsigned.contains(value) }

  /// ONNX's name of a value. A constant is added when it is first asked for.
  mutating func name(of value: Graph.ValueID) throws(QMError) -> String {
    if let known = names[value] { return known }
    let name: String
    if let tensor = graph[value].constant {
      name = try constant(tensor, graph[value].name, bits: graph[value].type.bits)
    } else {
      name = unique(graph[value].name)
    }
    names[value] = name
    return name
  }

  /// ONNX's name of input `position` of a node; empty if it is absent.
  mutating func input(_ node: Graph.Node, _ position: Int) throws(QMError) -> String {
    guard let input = node.input(position) else { return "" }
    return try name(of: input)
  }

  /// ONNX's names of the inputs of a node.
  mutating func inputs(_ node: Graph.Node) throws(QMError) -> [String] {
    var names: [String] = []
    for position in node.inputs.indices { names.append(try input(node, position)) }
    while names.last == "" { names.removeLast() }
    return names
  }

  /// An input of a node as int64, which some of ONNX's operators require.
  mutating func wideInput(_ node: Graph.Node, _ position: Int) throws(QMError) -> String {
    let name = try input(node, position)
    guard let value = node.input(position), graph[value].type.elementType != .int64 else {
      return name
    }
    return add(
      "Cast", [name], as: unique(name + ".int64"),
      [("to", .integer(Int64(ElementType.int64.onnxType)))])
  }

  /// A name that no value has yet.
  mutating func unique(_ proposal: String) -> String {
    let proposal = proposal.isEmpty ? "value" : proposal
    var name = proposal
    var number = 2
    while !taken.insert(name).inserted {
      name = "\(proposal)~\(number)"
      number += 1
    }
    return name
  }

  // MARK: Constants

  /// Adds an initializer; a small one that is known already is not added again.
  /// - Parameters:
  ///   - bits: of codes of weights; nil for other elements.
  ///   - isShared: whether equal small ones are one initializer.
  /// - Returns: its name.
  mutating func constant(
    _ tensor: Tensor, _ proposal: String, bits: Int? = nil, isShared: Bool = true
  ) throws(QMError) -> String {
    let isSmall = isShared && tensor.byteCount <= 64 && bits == nil
    let key = ConstantKey(
      type: tensor.elementType, shape: tensor.shape, bytes: isSmall ? Array(tensor.bytes) : [])
    if isSmall, let known = constants[key] { return known }
    let name = unique(proposal)
    if isSmall { constants[key] = name }
    var written = ONNXTensor(
      name: name, dataType: tensor.elementType.onnxType, shape: tensor.shape.map(Int64.init),
      pieces: [], external: nil, elements: tensor)
    if let bits, bits <= 4 {
      written.dataType = int4Type
      written.elements = try packedPairs(tensor)
    }
    initializers.append(written)
    return name
  }

  /// Codes of 4 bits, two in a byte, the first in the lower half.
  private func packedPairs(_ codes: Tensor) throws(QMError) -> Tensor {
    let elements = codes.elements(as: Int8.self)
    var bytes = [UInt8](repeating: 0, count: (elements.count + 1) / 2)
    for (index, code) in elements.enumerated() {
      bytes[index / 2] |= (UInt8(bitPattern: code) & 15) << UInt8(index % 2 * 4)
    }
    return try Tensor([bytes.count], bytes)
  }

  mutating func constant(_ number: Float, _ proposal: String) throws(QMError) -> String {
    try constant(Tensor([], [number]), proposal)
  }

  mutating func constant(_ numbers: [Int], _ proposal: String) throws(QMError) -> String {
    try constant(Tensor([numbers.count], numbers.map(Int64.init)), proposal)
  }

  // MARK: Nodes

  typealias Attributes = [(name: String, value: ONNXAttribute.Value)]

  /// Adds a node with these outputs.
  mutating func add(
    _ operation: String, _ inputs: [String], as outputs: [String], _ attributes: Attributes = []
  ) {
    var inputs = inputs
    while inputs.last == "" { inputs.removeLast() }
    nodes.append(
      ONNXNode(
        name: outputs[0], operation: operation, domain: "", inputs: inputs, outputs: outputs,
        attributes: attributes.map { ONNXAttribute(name: $0.name, value: $0.value) }, position: 0))
  }

  /// Adds a node with one output.
  /// - Returns: the output.
  @discardableResult
  mutating func add(
    _ operation: String, _ inputs: [String], as output: String, _ attributes: Attributes = []
  ) -> String {
    add(operation, inputs, as: [output], attributes)
    return output
  }

  /// Adds the node that gives the outputs of a node of the graph.
  mutating func emit(
    _ operation: String, _ inputs: [String], _ node: Graph.Node, _ attributes: Attributes = []
  ) throws(QMError) {
    var outputs: [String] = []
    for output in node.outputs { outputs.append(try name(of: output)) }
    add(operation, inputs, as: outputs, attributes)
  }

  /// A name for a value within the nodes of one node of the graph.
  mutating func stepName(_ node: Graph.Node, _ suffix: String) throws(QMError) -> String {
    unique(try name(of: node.outputs[0]) + "." + suffix)
  }
}

extension Graph {
  /// int8 codes that nodes compute and that only Dequantize and Table read.
  fileprivate var innerCodes: Set<ValueID> {
    var codes: Set<ValueID> = []
    for node in nodes {
      switch node.operation {
      case .quantize(let quantize) where quantize.elementType == .int8:
        codes.insert(node.outputs[0])
      case .table: codes.insert(node.outputs[0])
      case .dequantize: break
      default: codes.subtract(node.inputs.compactMap { $0 })
      }
    }
    return codes.subtracting(outputs.map(\.value))
  }
}

extension ValueType {
  /// The bits of codes of weights; nil for other types.
  fileprivate var bits: Int? {
    if case .weights(let bits, _) = quantization { bits.bits } else { nil }
  }
}

extension ONNXAttribute.Value {
  static func integer(_ number: Int) -> Self { .integer(Int64(number)) }
  static func integers(_ numbers: [Int]) -> Self { .integers(numbers.map(Int64.init)) }
  static func flag(_ flag: Bool) -> Self { .integer(flag ? 1 : 0) }
  static func text(_ text: String) -> Self { .string(Array(text.utf8)) }
}
