import QMOperations
import QMTensor

/// A network as nodes over typed values, in an order in which it can run.
///
/// A node is added only through ``append(_:name:_:outputNames:)``, which checks its types, so a
/// graph is well typed by construction. Names are the user's; those of values are unique.
public struct Graph: Sendable {
  public struct ValueID: Hashable, Sendable, Comparable {
    public let index: Int
    init(_ index: Int) { self.index = index }
    public static func < (left: ValueID, right: ValueID) -> Bool { left.index < right.index }
  }

  public struct Value: Sendable {
    public let name: String
    public let type: ValueType
    /// The elements, where the value is a constant.
    public let constant: Tensor?
    /// Codes that stand for exactly these elements, where the network came with them.
    public let codes: QuantizedTensor?
    /// Whether training may change the constant, so that no exact pass may rely on its elements.
    public let isParameter: Bool

    init(
      name: String, type: ValueType, constant: Tensor? = nil, codes: QuantizedTensor? = nil,
      isParameter: Bool = false
    ) {
      self.name = name
      self.type = type
      self.constant = constant
      self.codes = codes
      self.isParameter = isParameter
    }
  }

  public struct Node: Sendable {
    public let operation: Operation
    public let name: String
    /// nil: an optional input that is absent.
    public let inputs: [ValueID?]
    public let outputs: [ValueID]

    /// Input `position`; nil where it is absent, also because the node has fewer.
    public func input(_ position: Int) -> ValueID? {
      position < inputs.count ? inputs[position] : nil
    }

    /// Input `position`.
    /// - Throws: `malformed` if it is absent.
    func requiredInput(_ position: Int) throws(QMError) -> ValueID {
      guard let input = input(position) else { throw .malformed("input \(position) is missing") }
      return input
    }
  }

  /// A value that leaves the graph, under the name that the user knows.
  public struct Output: Sendable {
    public let name: String
    public let value: ValueID
  }

  public private(set) var values: [Value] = []
  public private(set) var nodes: [Node] = []
  public private(set) var inputs: [ValueID] = []
  public private(set) var outputs: [Output] = []
  private var names: Set<String> = []
  /// Of names that were taken: where the search for a free one goes on.
  private var nextNumbers: [String: Int] = [:]

  /// Which graph this is, by its structure. Graphs that are built alike have equal identities.
  public private(set) var identity = Identity()

  public init() {}

  public subscript(id: ValueID) -> Value { values[id.index] }

  /// A new input.
  /// - Throws: `malformed` if the name is taken.
  public mutating func addInput(name: String, _ type: ValueType) throws(QMError) -> ValueID {
    guard !names.contains(name) else {
      throw .malformed("two values are named '\(name.abbreviated)'")
    }
    let id = add(Value(name: name, type: type))
    inputs.append(id)
    identity.add("input")
    return id
  }

  /// A new constant. The name is made unique where it is taken.
  /// - Parameter codes: that stand for exactly these numbers, if the constant came with them.
  public mutating func addConstant(
    name: String, _ tensor: Tensor, _ quantization: Quantization = .none,
    codes: QuantizedTensor? = nil, isParameter: Bool = false
  ) -> ValueID {
    let type = ValueType(tensor.elementType, Shape(tensor.shape), quantization)
    return add(
      Value(
        name: uniqueName(name), type: type, constant: tensor, codes: codes,
        isParameter: isParameter))
  }

  /// What is known of the inputs of a node.
  public func operands(of node: Node) -> [Operand?] { operands(node.inputs) }

  /// Adds a node behind all others.
  /// - Parameter outputNames: the user's names of the outputs; those left out are made up from the
  ///   node's name, and one that is taken is made unique.
  /// - Returns: its outputs.
  /// - Throws: what the operation's type rule throws, with the node as context.
  @discardableResult
  public mutating func append(
    _ operation: Operation, name: String, _ inputs: [ValueID?], outputNames: [String] = []
  ) throws(QMError) -> [ValueID] {
    let types = try within(.node(name: name, operation: operation.name)) {
      () throws(QMError) in try operation.body.outputTypes(for: operands(inputs))
    }
    var outputs: [ValueID] = []
    for (index, type) in types.enumerated() {
      let given = index < outputNames.count ? outputNames[index] : ""
      let proposal = given.isEmpty ? (index == 0 ? name : "\(name):\(index)") : given
      outputs.append(
        add(Value(name: uniqueName(proposal), type: type)))
    }
    nodes.append(Node(operation: operation, name: name, inputs: inputs, outputs: outputs))
    identity.add(operation.name)
    for input in inputs { identity.add(input?.index ?? -1) }
    return outputs
  }

  /// What an operation is told of these values.
  func operands(_ values: [ValueID?]) -> [Operand?] {
    values.map { $0.map { Operand(self[$0].type, constant: self[$0].constant) } }
  }

  /// Makes a value leave the graph.
  /// - Throws: `malformed` if another output has the name.
  public mutating func addOutput(name: String, _ value: ValueID) throws(QMError) {
    guard !outputs.contains(where: { $0.name == name }) else {
      throw .malformed("two outputs are named '\(name.abbreviated)'")
    }
    outputs.append(Output(name: name, value: value))
  }

  private mutating func setConstant(
    of id: ValueID, _ tensor: Tensor, codes: QuantizedTensor?, isParameter: Bool
  ) {
    values[id.index] = Value(
      name: self[id].name, type: self[id].type, constant: tensor, codes: codes,
      isParameter: isParameter)
  }

  /// A name that no value has: `proposal`, or `proposal~2`, `proposal~3`, ….
  private mutating func uniqueName(_ proposal: String) -> String {
    guard names.contains(proposal) else { return proposal }
    var number = nextNumbers[proposal] ?? 2
    while names.contains("\(proposal)~\(number)") { number += 1 }
    nextNumbers[proposal] = number + 1
    return "\(proposal)~\(number)"
  }

  private mutating func add(_ value: Value) -> ValueID {
    names.insert(value.name)
    identity.add(value.name)
    values.append(value)
    return ValueID(values.count - 1)
  }
}

// MARK: Parameters

extension Graph {
  /// The values that training may change, in their order.
  public var parameters: [ValueID] {
    values.indices.map { ValueID($0) }.filter { self[$0].isParameter }
  }

  /// Makes a constant a parameter, which training may change.
  /// - Throws: `usage` unless the value is a float32 constant.
  public mutating func makeParameter(_ id: ValueID) throws(QMError) {
    guard let constant = self[id].constant, constant.elementType == .float32 else {
      throw .usage("value '\(self[id].name.abbreviated)' is no float32 constant")
    }
    setConstant(of: id, constant, codes: self[id].codes, isParameter: true)
  }

  /// Gives a parameter other elements. Codes that stood for the old ones are forgotten.
  /// - Throws: `usage` unless the value is a parameter of the tensor's type and shape.
  public mutating func setParameter(_ id: ValueID, to tensor: Tensor) throws(QMError) {
    guard self[id].isParameter, self[id].type == tensor.type else {
      throw .usage("value '\(self[id].name.abbreviated)' is no parameter of type \(tensor.type)")
    }
    setConstant(of: id, tensor, codes: nil, isParameter: true)
  }

  /// The graph with constants in the place of its parameters.
  func withoutParameters() -> Graph {
    var graph = self
    for id in parameters {
      guard let constant = self[id].constant else { continue }
      graph.setConstant(of: id, constant, codes: self[id].codes, isParameter: false)
    }
    return graph
  }
}

extension Graph {
  /// A graph's structure as a number: its nodes, their operands, the names of its values. Equal in
  /// every process, so that what is kept of a graph can say which one it speaks of.
  ///
  /// Elements of constants have no part in it: training changes weights, and the graph stays. Nor
  /// does what leaves the graph.
  public struct Identity: Hashable, Sendable, Codable, CustomStringConvertible {
    /// FNV-1a of 64 bits.
    private var hash: UInt64 = 0xcbf2_9ce4_8422_2325

    /// 16 hexadecimal digits at most.
    public var description: String { String(hash, radix: 16) }

    fileprivate mutating func add(_ name: String) {
      for byte in name.utf8 { add(byte) }
      // No UTF-8 text has this byte: two names in a row are not one.
      add(0xff)
    }

    fileprivate mutating func add(_ number: Int) {
      for shift in stride(from: 0, to: Int.bitWidth, by: 8) {
        add(UInt8(truncatingIfNeeded: number >> shift))
      }
    }

    private mutating func add(_ byte: UInt8) {
      hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3
    }
  }
}
