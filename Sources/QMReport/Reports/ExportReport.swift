/// The result of writing a `.qm` file in another format.
public struct ExportReport: Report {
  /// A node that the `.qm` file computes on integers and the export in float32.
  public struct FloatNode: Codable, Hashable, Sendable {
    /// Name of the node, or empty.
    public let node: String
    /// Name of the operation: `Recurrent`.
    public let operation: String
    /// Why the format cannot say what the `.qm` file does.
    public let reason: String

    /// A node from its parts.
    public init(node: String, operation: String, reason: String) {
      self.node = node
      self.operation = operation
      self.reason = reason
    }
  }

  /// The `.qm` file.
  public let model: FileSize
  /// The file that was written.
  public let output: FileSize
  /// `onnx`, `npz` or `safetensors`.
  public let format: String
  /// Number of ONNX nodes; nil for arrays.
  public var nodes: Int?
  /// Number of weight tensors that are stored as codes; nil for arrays.
  public var codedWeights: Int?
  /// Nodes that are more exact in the export than in the `.qm` file; nil for arrays.
  public var floatNodes: [FloatNode]?
  /// Names of the arrays that were written; nil for a network.
  public var arrays: [String]?
  /// Names of weights of the float network that cannot be computed from the `.qm` file, and are left
  /// out; nil without a reference.
  public var missing: [String]?

  enum CodingKeys: String, CodingKey {
    case model, output, format, nodes, arrays, missing
    case codedWeights = "coded_weights"
    case floatNodes = "float_nodes"
  }

  /// A report without its details.
  public init(model: FileSize, output: FileSize, format: String) {
    self.model = model
    self.output = output
    self.format = format
  }
}
