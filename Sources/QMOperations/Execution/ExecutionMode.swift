/// How a node computes. Raw values are written in files.
public enum ExecutionMode: UInt8, Hashable, Sendable, CaseIterable {
  /// In integers: the node reads codes and does not dequantize them.
  case integer = 0
  /// As a look-up in a table of 256 entries, one for each code.
  case table = 1
  /// Data movement, or a computation of integers or Booleans: nothing is rounded.
  case move = 2
  /// In float32.
  case float = 3

  /// The name in reports.
  public var name: String {
    switch self {
    case .integer: "integer"
    case .table: "table"
    case .move: "move"
    case .float: "float"
    }
  }
}
