import QMOperations
import QMTensor

/// A network in the form that is written to a `.qm` file and run: flat and numbered.
///
/// Values are numbered in one fixed order: the inputs, the constants, then the outputs of the
/// nodes in the order of the nodes. So `inputs` is `0..<inputs.count`, constant `k` is value
/// `inputs.count + k`, and a node reads only values with smaller numbers than its outputs.
/// ``validate(limits:)`` proves this and everything else that a reader relies on.
public struct Program: Sendable, Equatable {
  public struct Value: Sendable, Hashable {
    /// Of a constant: the type of its tensor with the constant's quantization.
    public var type: ValueType
    /// The user's name; empty where there is none. Inputs have one, no two the same.
    public var name: String
    /// Number of the constant whose elements the value has.
    public var constant: Int?

    public init(_ type: ValueType, name: String = "", constant: Int? = nil) {
      self.type = type
      self.name = name
      self.constant = constant
    }
  }

  public struct Constant: Sendable {
    public var tensor: Tensor
    public var quantization: Quantization

    public init(_ tensor: Tensor, _ quantization: Quantization = .none) {
      self.tensor = tensor
      self.quantization = quantization
    }

    public var type: ValueType {
      ValueType(tensor.elementType, Shape(tensor.shape), quantization)
    }
  }

  public struct Node: Sendable, Hashable {
    public var operation: Operation
    /// The user's name; empty where there is none. Not necessarily unique.
    public var name: String
    /// Numbers of values; nil where an optional input is absent.
    public var inputs: [Int?]
    public var outputs: [Int]

    public init(_ operation: Operation, name: String = "", inputs: [Int?], outputs: [Int]) {
      self.operation = operation
      self.name = name
      self.inputs = inputs
      self.outputs = outputs
    }

    /// Where an error arose, in the user's words.
    public var context: QMError.Context { .node(name: name, operation: operation.name) }
  }

  /// A value that leaves the program, under the name that the user knows.
  public struct Output: Sendable, Hashable {
    public var name: String
    public var value: Int

    public init(name: String, value: Int) {
      self.name = name
      self.value = value
    }
  }

  public var values: [Value]
  public var constants: [Constant]
  public var nodes: [Node]
  public var inputs: [Int]
  public var outputs: [Output]
  public var metadata: Metadata

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
  /// Tensors are compared byte by byte.
  public static func == (left: Self, right: Self) -> Bool {
    left.quantization == right.quantization && left.tensor.isIdentical(to: right.tensor)
  }
}
