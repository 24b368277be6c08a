import QMFormat
import QMTensor

/// How one node runs, for `--json`.
struct NodeReport: Encodable {
  let name: String
  let operation: String
  let way: String
  let reason: String

  init(_ node: Program.Node, _ note: Program.Metadata.Note) {
    name = node.name
    operation = node.operation.name
    way = note.way.name
    reason = note.reason
  }
}

extension Program.Metadata.Way {
  var name: String {
    switch self {
    case .integer: "integer"
    case .table: "table"
    case .move: "move"
    case .float: "float"
    }
  }
}

extension Console {
  /// How every node runs, and how many run in each way.
  func table(of reports: [NodeReport]) {
    table(
      ["node", "operation", "runs as", "why"],
      reports.map { [$0.name.abbreviated, $0.operation, $0.way, $0.reason] })
    let counts = Program.Metadata.Way.allCases.map { way in
      "\(reports.count { $0.way == way.name }) \(way.name)"
    }
    line("  \(Units.count(reports.count, "node")): \(counts.joined(separator: ", "))")
  }
}
