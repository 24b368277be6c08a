import QMOperations
import QMTensor

/// Given: a node that hands its input on unchanged: Identity; Cast to the type it has; Transpose
/// that keeps the order; Reshape, Expand or Flatten to the extents it has; Concatenate of one.
/// Result: its readers read the input.
public struct DropIdentities: Pass {
  public static let name = "drop-identities"

  public init() {}

  public func run(on graph: Graph) throws(QMError) -> Graph {
    var rewriter = try Rewriter(graph)
    for node in graph.nodes {
      if let input = node.input(0), isIdentity(node, in: graph) {
        rewriter.replace(node.outputs[0], by: rewriter.value(input))
      } else {
        try rewriter.copy(node)
      }
    }
    return try rewriter.finish()
  }

  private func isIdentity(_ node: Graph.Node, in graph: Graph) -> Bool {
    guard let input = node.input(0) else { return false }
    let (before, after) = (graph[input].type, graph[node.outputs[0]].type)
    switch node.operation {
    case .identity:
      return true
    case .cast:
      return before == after
    case .transpose(let transpose):
      return transpose.permutation == Array(transpose.permutation.indices)
    case .concatenate:
      return node.inputs.count == 1
    case .reshape, .expand, .flatten, .squeeze, .unsqueeze:
      return before.shape.extents != nil && before == after
    default:
      return false
    }
  }
}
