import QMOperations
import QMTensor

/// A network: nodes over typed values, in an order in which they can run.
///
/// A node is added only through ``append(_:name:_:outputNames:)``, which checks its types, so a
/// graph is well typed by construction. Names are the user's; names of values are unique.
public struct Graph: Sendable {
  /// Identifies a value of one graph.
  public struct ValueID: Hashable, Sendable, Comparable {
    /// Position in ``Graph/values``.
    public let index: Int
    init(_ index: Int) { self.index = index }
    public static func < (left: ValueID, right: ValueID) -> Bool { left.index < right.index }
  }

  /// A tensor of the graph: an input, a constant or the output of a node.
  public struct Value: Sendable {
    /// Unique in the graph.
    public let name: String
    /// Element type, shape and quantization.
    public let type: ValueType
    /// The elements; nil unless the value is a constant.
    public let constant: Tensor?
    /// How the network's file stores the elements, if as codes; else nil.
    public let stored: StoredCodes?
    /// Codes that dequantize to these elements; nil unless the network's file holds them.
    public var codes: QuantizedTensor? { stored?.codes }
    /// What the reader did to the file's constant to get this one.
    public let steps: [ConstantStep]
    /// Whether training may change the constant. No exact pass may rely on a parameter's elements.
    public let isParameter: Bool

    init(
      name: String, type: ValueType, constant: Tensor? = nil, stored: StoredCodes? = nil,
      steps: [ConstantStep] = [], isParameter: Bool = false
    ) {
      self.name = name
      self.type = type
      self.constant = constant
      self.stored = stored
      self.steps = steps
      self.isParameter = isParameter
    }
  }

  /// One operation applied to values.
  public struct Node: Sendable {
    /// What the node computes, with its attributes.
    public let operation: Operation
    /// The user's name of the node; not necessarily unique.
    public let name: String
    /// In the order of the operation's operands; nil for an optional input that is absent.
    public let inputs: [ValueID?]
    /// In the order of the operation's results.
    public let outputs: [ValueID]

    /// Input `position`; nil if it is absent or the node has fewer inputs.
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

  /// An output of the graph.
  public struct Output: Sendable {
    /// The user's name of the output; unique among the outputs.
    public let name: String
    /// The value that the output returns.
    public let value: ValueID
  }

  /// All values, in the order in which they were added.
  public private(set) var values: [Value] = []
  /// All nodes, in an order in which they can run.
  public private(set) var nodes: [Node] = []
  /// The inputs of the graph, in the order in which they were added.
  public private(set) var inputs: [ValueID] = []
  /// The outputs of the graph, in the order in which they were added.
  public private(set) var outputs: [Output] = []
  private var names: Set<String> = []
  /// For each name that was proposed twice, the first number that may still be free.
  private var nextNumbers: [String: Int] = [:]

  /// Identifies the graph by its structure. Graphs that were built alike have equal identities.
  public private(set) var identity = Identity()

  /// A graph without values and nodes.
  public init() {}

  /// The identifiers of all values, in the order of ``values``.
  public var valueIDs: [ValueID] { values.indices.map { ValueID($0) } }

  /// The value with this identifier.
  public subscript(id: ValueID) -> Value { values[id.index] }

  /// Adds an input.
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

  /// Adds a constant. A name that is taken gets a number.
  /// - Parameters:
  ///   - stored: how the file stores the elements, if as codes.
  ///   - steps: what was done to the file's constant.
  public mutating func addConstant(
    name: String, _ tensor: Tensor, _ quantization: Quantization = .none,
    stored: StoredCodes? = nil, steps: [ConstantStep] = [], isParameter: Bool = false
  ) -> ValueID {
    let type = ValueType(tensor.elementType, Shape(tensor.shape), quantization)
    return add(
      Value(
        name: uniqueName(name), type: type, constant: tensor, stored: stored, steps: steps,
        isParameter: isParameter))
  }

  /// The type, and the elements if constant, of each input of a node.
  public func operands(of node: Node) -> [Operand?] { operands(node.inputs) }

  /// Adds a node after all others.
  /// - Parameter outputNames: the user's names of the outputs. A missing name is derived from the
  ///   node's name; a name that is taken gets a number.
  /// - Returns: the outputs of the node.
  /// - Throws: the error of the operation's type rule, with the node as context.
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

  func operands(_ values: [ValueID?]) -> [Operand?] {
    values.map { $0.map { Operand(self[$0].type, constant: self[$0].constant) } }
  }

  /// Makes a value an output of the graph.
  /// - Throws: `malformed` if another output has the name.
  public mutating func addOutput(name: String, _ value: ValueID) throws(QMError) {
    guard !outputs.contains(where: { $0.name == name }) else {
      throw .malformed("two outputs are named '\(name.abbreviated)'")
    }
    outputs.append(Output(name: name, value: value))
  }

  private mutating func setConstant(
    of id: ValueID, _ tensor: Tensor, stored: StoredCodes?, isParameter: Bool
  ) {
    values[id.index] = Value(
      name: self[id].name, type: self[id].type, constant: tensor, stored: stored,
      steps: self[id].steps, isParameter: isParameter)
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
  /// The constants that training may change, in the order of ``values``.
  public var parameters: [ValueID] {
    values.indices.map { ValueID($0) }.filter { self[$0].isParameter }
  }

  /// Makes a constant a parameter, which training may change.
  /// - Throws: `usage` unless the value is a float32 constant.
  public mutating func makeParameter(_ id: ValueID) throws(QMError) {
    guard let constant = self[id].constant, constant.elementType == .float32 else {
      throw .usage("value '\(self[id].name.abbreviated)' is not a float32 constant")
    }
    setConstant(of: id, constant, stored: self[id].stored, isParameter: true)
  }

  /// Makes parameters of the constants that training may change: weights and biases of products and
  /// recurrent layers, embeddings, scales and shifts of normalizations, slopes, and what is added to or
  /// multiplied with values behind the first product.
  /// - Parameter statistics: whether means and variances of batch normalizations are parameters too;
  ///   otherwise they stay as they are.
  /// - Throws: `unsupported` for a mean or variance that is read in another place too, which would
  ///   change there as well.
  public mutating func makeTrainable(statistics: Bool = false) throws(QMError) {
    /// Values behind a product.
    var isBehind: Set<ValueID> = []
    var found: [ValueID] = []
    for node in nodes {
      let positions: [Int]
      switch node.operation {
      case .convolution, .matrixMultiply: positions = [ProductOperand.weights, ProductOperand.bias]
      case .recurrent:
        positions = [
          RecurrentOperand.weights, RecurrentOperand.recurrence, RecurrentOperand.bias,
          RecurrentOperand.peepholes,
        ]
      case .batchNormalization, .layerNormalization, .groupNormalization: positions = [1, 2]
      case .gather: positions = [0]
      case .binary(let binary):
        let isTrained =
          binary.function == .parametricRelu
          || (binary.function == .add || binary.function == .multiply)
            && node.inputs.contains { $0.map(isBehind.contains) ?? false }
        positions = isTrained ? [0, 1] : []
      default: positions = []
      }
      let isProduct =
        switch node.operation {
        case .convolution, .matrixMultiply, .recurrent: true
        default: false
        }
      if isProduct || node.inputs.contains(where: { $0.map(isBehind.contains) ?? false }) {
        isBehind.formUnion(node.outputs)
      }
      for position in positions {
        guard let id = node.input(position), let constant = self[id].constant,
          constant.elementType == .float32, constant.elementCount > 1, !self[id].isParameter,
          self[id].steps.allSatisfy(\.hasInverse)
        else { continue }
        found.append(id)
      }
    }
    if statistics {
      found += try ownStatistics()
    }
    for id in found { try makeParameter(id) }
  }

  /// Means and variances of batch normalizations.
  private func ownStatistics() throws(QMError) -> [ValueID] {
    var reads: [ValueID: Int] = [:]
    for node in nodes {
      for case let input? in node.inputs { reads[input, default: 0] += 1 }
    }
    var found: [ValueID] = []
    for node in nodes {
      guard case .batchNormalization = node.operation else { continue }
      for id in [3, 4].compactMap({ node.input($0) }) where self[id].constant != nil {
        guard reads[id] == 1 else {
          throw QMError.unsupported(
            "'\(self[id].name.abbreviated)' is read in \(reads[id] ?? 0) places, so that it cannot "
              + "follow one normalization; export the network with an array for each, or keep the "
              + "statistics frozen"
          ).within(.node(name: node.name, operation: node.operation.name))
        }
        found.append(id)
      }
    }
    return found
  }

  /// Replaces the elements of a parameter. Codes of the old elements are dropped.
  /// - Throws: `usage` unless the value is a parameter of the tensor's type and shape.
  public mutating func setParameter(_ id: ValueID, to tensor: Tensor) throws(QMError) {
    guard self[id].isParameter, self[id].type == tensor.type else {
      throw .usage(
        "value '\(self[id].name.abbreviated)' is not a parameter of type \(tensor.type)")
    }
    setConstant(of: id, tensor, stored: nil, isParameter: true)
  }

  /// The same graph in which every parameter is an ordinary constant.
  func withoutParameters() -> Graph {
    var graph = self
    for id in parameters {
      guard let constant = self[id].constant else { continue }
      graph.setConstant(of: id, constant, stored: self[id].stored, isParameter: false)
    }
    return graph
  }
}

extension Graph {
  /// A hash of a graph's structure: its nodes, their operands and the names of its values. The hash
  /// is the same in every process, so a file about a graph (statistics, a plan) can name its graph.
  ///
  /// Elements of constants are left out, because training changes weights but not the graph; so are
  /// the outputs.
  public struct Identity: Hashable, Sendable, Codable, CustomStringConvertible {
    /// 64-bit FNV-1a.
    private var hash: UInt64 = 0xcbf2_9ce4_8422_2325

    /// At most 16 hexadecimal digits.
    public var description: String { String(hash, radix: 16) }

    fileprivate mutating func add(_ name: String) {
      for byte in name.utf8 { add(byte) }
      // UTF-8 never contains this byte, so it separates two names that follow each other.
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
