import QMOperations
import QMTensor

/// Given: a node on which no output of the graph depends.
/// Result: the node is removed. Inputs of the graph stay even if nothing reads them.
public struct RemoveDeadNodes: Pass {
  public static let name = "remove-dead-nodes"

  /// The pass; it has no options.
  public init() {}

  public func rewrite(_ graph: Graph) throws(QMError) -> Rewritten {
    var needed = Set(graph.outputs.map(\.value))
    var isKept = [Bool](repeating: false, count: graph.nodes.count)
    for index in graph.nodes.indices.reversed() {
      let node = graph.nodes[index]
      guard node.outputs.contains(where: needed.contains) else { continue }
      isKept[index] = true
      for case .some(let input) in node.inputs { needed.insert(input) }
    }
    var rewriter = try Rewriter(graph)
    for (index, node) in graph.nodes.enumerated() where isKept[index] { try rewriter.copy(node) }
    return try rewriter.finished()
  }
}
