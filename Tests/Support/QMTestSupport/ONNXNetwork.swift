import QMTensor

/// Builds a small ONNX file in memory, for tests of networks that no fixture has.
///
/// Field numbers are those of `schema/onnx.proto`.
public struct ONNXNetwork: Sendable {
  /// The value of an attribute.
  public enum Attribute: Sendable {
    case integer(Int)
    case integers([Int])
    case number(Float)
    case numbers([Float])
    case text(String)
    case texts([String])
    case tensor(Tensor)
    case network(ONNXNetwork)
  }

  /// A node, named after its first output.
  public struct Node: Sendable {
    /// ONNX's name of the operator (`op_type`).
    public var operation: String
    /// Names of values; an empty name is an absent optional input.
    public var inputs: [String]
    /// Names of values.
    public var outputs: [String]
    /// In the order in which they are written.
    public var attributes: [(name: String, value: Attribute)]
    /// Empty for ONNX's own domain.
    public var domain: String

    /// A node of an operator.
    /// - Parameter inputs: an empty name is an absent optional input.
    public init(
      _ operation: String, _ inputs: [String], _ outputs: [String],
      _ attributes: [(name: String, value: Attribute)] = [], domain: String = ""
    ) {
      self.operation = operation
      self.inputs = inputs
      self.outputs = outputs
      self.attributes = attributes
      self.domain = domain
    }
  }

  /// Version of ONNX's operator set.
  public var opset: Int
  /// In the order in which they are written.
  public var nodes: [Node] = []
  /// Inputs with their declared types.
  public var inputs: [(name: String, type: ValueType)] = []
  /// Initializers.
  public var constants: [(name: String, tensor: Tensor)] = []
  /// Initializers whose elements are written as `int32_data`, with the number of their type in ONNX.
  public var typedConstants: [(name: String, type: Int, shape: [Int], elements: [Int])] = []
  /// Names of the outputs, whose types are not declared.
  public var outputs: [String] = []

  /// A network without nodes.
  public init(opset: Int) { self.opset = opset }

  /// The bytes of the `.onnx` file.
  public func encoded() throws(QMError) -> Buffer {
    var model = Message()
    model.add(1, 8)
    model.add(7, graph())
    var operatorSet = Message()
    operatorSet.add(1, "")
    operatorSet.add(2, opset)
    model.add(8, operatorSet)
    for domain in Set(nodes.map(\.domain)).subtracting([""]).sorted() {
      var other = Message()
      other.add(1, domain)
      other.add(2, 1)
      model.add(8, other)
    }
    let bytes = model.bytes
    do {
      return try bytes.withUnsafeBytes { try Buffer.copying($0) }
    } catch let error as QMError {
      throw error
    } catch {
      throw .internalFault("\(error)")
    }
  }

  private func graph() -> Message {
    var graph = Message()
    for node in nodes { graph.add(1, encoded(node)) }
    graph.add(2, "network")
    for (name, tensor) in constants { graph.add(5, encoded(tensor, name: name)) }
    for (name, type, shape, elements) in typedConstants {
      var message = Message()
      for extent in shape { message.add(1, extent) }
      message.add(2, type)
      for element in elements { message.add(5, element) }
      message.add(8, name)
      graph.add(5, message)
    }
    for (name, type) in inputs { graph.add(11, port(name, type)) }
    for name in outputs { graph.add(12, port(name, nil)) }
    return graph
  }

  private func port(_ name: String, _ type: ValueType?) -> Message {
    var port = Message()
    port.add(1, name)
    guard let type else { return port }
    var shape = Message()
    for axis in type.shape.axes {
      var extent = Message()
      switch axis {
      case .fixed(let count): extent.add(1, count)
      case .free(let name): extent.add(2, name)
      }
      shape.add(1, extent)
    }
    var tensor = Message()
    tensor.add(1, type.elementType.onnxNumber)
    tensor.add(2, shape)
    var value = Message()
    value.add(1, tensor)
    port.add(2, value)
    return port
  }

  private func encoded(_ node: Node) -> Message {
    var message = Message()
    for input in node.inputs { message.add(1, input) }
    for output in node.outputs { message.add(2, output) }
    message.add(3, node.outputs.first ?? "")
    message.add(4, node.operation)
    for (name, value) in node.attributes { message.add(5, encoded(value, name: name)) }
    if !node.domain.isEmpty { message.add(7, node.domain) }
    return message
  }

  private func encoded(_ attribute: Attribute, name: String) -> Message {
    var message = Message()
    message.add(1, name)
    switch attribute {
    case .number(let value):
      message.add(2, value)
      message.add(20, 1)
    case .integer(let value):
      message.add(3, value)
      message.add(20, 2)
    case .text(let value):
      message.add(4, value)
      message.add(20, 3)
    case .tensor(let value):
      message.add(5, encoded(value, name: ""))
      message.add(20, 4)
    case .network(let value):
      message.add(6, value.graph())
      message.add(20, 5)
    case .numbers(let values):
      for value in values { message.add(7, value) }
      message.add(20, 6)
    case .integers(let values):
      for value in values { message.add(8, value) }
      message.add(20, 7)
    case .texts(let values):
      for value in values { message.add(9, value) }
      message.add(20, 8)
    }
    return message
  }

  private func encoded(_ tensor: Tensor, name: String) -> Message {
    var message = Message()
    for extent in tensor.shape { message.add(1, extent) }
    message.add(2, tensor.elementType.onnxNumber)
    if !name.isEmpty { message.add(8, name) }
    message.add(9, withExtendedLifetime(tensor) { Array(tensor.bytes) })
    return message
  }

  /// The bytes of a protobuf message.
  private struct Message {
    var bytes: [UInt8] = []

    mutating func add(_ field: Int, _ value: Int) {
      variable(field << 3)
      variable(value)
    }
    mutating func add(_ field: Int, _ value: Float) {
      variable(field << 3 | 5)
      for shift in stride(from: 0, to: 32, by: 8) {
        bytes.append(UInt8(truncatingIfNeeded: value.bitPattern >> shift))
      }
    }
    mutating func add(_ field: Int, _ value: [UInt8]) {
      variable(field << 3 | 2)
      variable(value.count)
      bytes += value
    }
    mutating func add(_ field: Int, _ value: String) { add(field, Array(value.utf8)) }
    mutating func add(_ field: Int, _ value: Message) { add(field, value.bytes) }

    private mutating func variable(_ value: Int) {
      var rest = UInt64(bitPattern: Int64(value))
      while rest >= 0x80 {
        bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
        rest >>= 7
      }
      bytes.append(UInt8(rest))
    }
  }
}

extension ElementType {
  /// The number of the type in ONNX's TensorProto.DataType.
  public var onnxNumber: Int {
    switch self {
    case .float32: 1
    case .uint8: 2
    case .int8: 3
    case .uint16: 4
    case .int16: 5
    case .int32: 6
    case .int64: 7
    case .bool: 9
    case .float16: 10
    case .float64: 11
    case .uint32: 12
    case .uint64: 13
    case .bfloat16: 16
    }
  }
}
