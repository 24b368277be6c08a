import QMOperations
import QMTensor

/// A network as it is written to a `.qm` file and run: a flat list of nodes over numbered values.
///
/// Values are numbered in a fixed order: the inputs, the constants, then the outputs of the nodes
/// in the order of the nodes. So `inputs` is `0..<inputs.count`, constant `k` is value
/// `inputs.count + k`, and a node reads only values with smaller numbers than its outputs.
/// ``validate(limits:)`` proves this and everything else that running a program relies on.
public struct Program: Sendable, Equatable {
  /// An input, a constant or the output of a node.
  public struct Value: Sendable, Hashable {
    /// The type; for a constant, that of its tensor with the constant's quantization.
    public var type: ValueType
    /// The user's name, or empty. Inputs have names, all different.
    public var name: String
    /// Index of the constant that the value is; nil for inputs and outputs of nodes.
    public var constant: Int?

    /// A value from its parts.
    public init(_ type: ValueType, name: String = "", constant: Int? = nil) {
      self.type = type
      self.name = name
      self.constant = constant
    }
  }

  /// A tensor that is known before a run, such as weights.
  public struct Constant: Sendable {
    /// The stored elements.
    public var tensor: Tensor
    /// How the stored elements map to numbers.
    public var quantization: Quantization

    /// A constant; without `quantization`, the stored elements are the numbers.
    public init(_ tensor: Tensor, _ quantization: Quantization = .none) {
      self.tensor = tensor
      self.quantization = quantization
    }

    /// Element type, shape and quantization.
    public var type: ValueType {
      ValueType(tensor.elementType, Shape(tensor.shape), quantization)
    }
  }

  /// One operation with its operands.
  public struct Node: Sendable, Hashable {
    /// The operation with its attributes.
    public var operation: Operation
    /// The user's name, or empty; not necessarily unique.
    public var name: String
    /// Indices of the values that the node reads; nil for an absent optional input.
    public var inputs: [Int?]
    /// Indices of the values that the node computes.
    public var outputs: [Int]

    /// A node from its parts.
    public init(_ operation: Operation, name: String = "", inputs: [Int?], outputs: [Int]) {
      self.operation = operation
      self.name = name
      self.inputs = inputs
      self.outputs = outputs
    }

    /// The node as the context of an error.
    public var context: QMError.Context { .node(name: name, operation: operation.name) }
  }

  /// A value that the program returns, under a name.
  public struct Output: Sendable, Hashable {
    /// The user's name; all outputs have different names.
    public var name: String
    /// Index of the value.
    public var value: Int

    /// An output from its parts.
    public init(name: String, value: Int) {
      self.name = name
      self.value = value
    }
  }

  /// All values: the inputs, the constants, then the outputs of the nodes.
  public var values: [Value]
  /// The constants.
  public var constants: [Constant]
  /// The nodes, in the order in which they run.
  public var nodes: [Node]
  /// Indices of the values that are inputs: `0..<inputs.count`.
  public var inputs: [Int]
  /// The outputs, at least one.
  public var outputs: [Output]
  /// Information that running the program does not need.
  public var metadata: Metadata

  /// A program from its parts, which are not validated here (``validate(limits:)``).
  public init(
    values: [Value], constants: [Constant], nodes: [Node], inputs: [Int], outputs: [Output],
    metadata: Metadata = Metadata()
  ) {
    self.values = values
    self.constants = constants
    self.nodes = nodes
    self.inputs = inputs
    self.outputs = outputs
    self.metadata = metadata
  }

  /// The program without the names of its inner values and nodes. It computes the same.
  public func strippedOfNames() -> Program {
    var program = self
    for index in values.indices.dropFirst(inputs.count) { program.values[index].name = "" }
    for index in nodes.indices { program.nodes[index].name = "" }
    return program
  }
}

extension Program.Constant: Equatable {
  /// Whether the quantizations and all bytes of the tensors are equal.
  public static func == (left: Self, right: Self) -> Bool {
    left.quantization == right.quantization && left.tensor.isIdentical(to: right.tensor)
  }
}
