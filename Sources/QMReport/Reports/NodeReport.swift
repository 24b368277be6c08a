import QMFormat
import QMOperations

/// How one node of a program runs.
public struct NodeReport: Codable, Hashable, Sendable {
  /// Name of the node, or empty.
  public let name: String
  /// Name of the operation: `Convolution`.
  public let operation: String
  /// Its attributes in one line: `axis 1, keeps axes true`; empty if it has none.
  public let attributes: String
  /// Name of its ``ExecutionMode``: `integer`, `table`, `move` or `float`.
  public let mode: String
  /// Why it runs so.
  public let reason: String

  /// The report of a node from the note on it.
  public init(_ node: Program.Node, _ note: Program.Metadata.Note) {
    name = node.name
    operation = node.operation.name
    attributes = node.operation.body.attributeText
    mode = note.mode.name
    reason = note.reason
  }

  /// The reports of all nodes of a program, in order.
  public static func all(of program: Program) -> [NodeReport] {
    program.nodes.map { NodeReport($0, program.note(of: $0)) }
  }
}
