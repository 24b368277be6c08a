import QMOperations
import QMTensor

/// Given: a node that returns its input unchanged: Identity; Cast to the input's type; Transpose
/// that keeps the order; Reshape, Expand, Flatten, Squeeze or Unsqueeze to the input's shape;
/// Concatenate of one input; multiplication with 1 or division by 1; If with a constant condition.
/// Result: the node's readers read its input.
public struct DropIdentities: Pass {
  public static let name = "drop-identities"

  /// The pass; it has no options.
  public init() {}

  public func rewrite(_ graph: Graph) throws(QMError) -> Rewritten {
    var rewriter = try Rewriter(graph)
    for node in graph.nodes {
      if let input = identity(node, in: graph) {
        rewriter.replace(node.outputs[0], by: rewriter.value(input))
      } else {
        try rewriter.copy(node)
      }
    }
    return try rewriter.finished()
  }

  /// The input that the node returns unchanged; nil if it changes all of them.
  private func identity(_ node: Graph.Node, in graph: Graph) -> Graph.ValueID? {
    guard let input = node.input(0) else { return nil }
    let (before, after) = (graph[input].type, graph[node.outputs[0]].type)
    let isSame: Bool
    switch node.operation {
    case .identity:
      isSame = true
    case .cast:
      isSame = before == after
    case .transpose(let transpose):
      isSame = transpose.permutation == Array(transpose.permutation.indices)
    case .if:
      guard let condition = graph[input].constant else { return nil }
      return node.input(condition.elements(as: Bool.self)[0] ? 1 : 2)
    case .concatenate:
      isSame = node.inputs.count == 1
    // Without axes it checks in the run that no dynamic axis is 1.
    case .squeeze(let squeeze) where squeeze.axes == nil && before.shape.extents == nil:
      isSame = false
    case .reshape, .expand, .flatten, .squeeze, .unsqueeze:
      isSame = before.shape.isCertainlyEqual(to: after.shape) && before == after
    case .binary(let binary) where binary.secondFunction == nil && binary.output == .float32:
      guard let right = node.input(1) else { return nil }
      switch binary.function {
      case .multiply where isOne(graph[input]) && graph[right].type == after: return right
      case .multiply, .divide: isSame = before == after && isOne(graph[right])
      default: return nil
      }
    default:
      return nil
    }
    return isSame ? input : nil
  }

  private func isOne(_ value: Graph.Value) -> Bool {
    guard let constant = value.constant, constant.elementType == .float32, !value.isParameter,
      constant.elementCount <= 1 << 16
    else { return false }
    return constant.elements(as: Float.self).allSatisfy { $0 == 1 }
  }
}
