/// How a node computes. Raw values are written in files.
public enum ExecutionMode: UInt8, Hashable, Sendable, CaseIterable {
  /// In integers: it reads codes, and dequantizes none.
  case integer = 0
  /// As a table of 256 entries, one for each code.
  case table = 1
  /// Elements are moved, or integers and truth values computed: nothing is rounded.
  case move = 2
  /// In float32.
  case float = 3

  /// The word for it in reports.
  public var name: String {
    switch self {
    case .integer: "integer"
    case .table: "table"
    case .move: "move"
    case .float: "float"
    }
  }
}
