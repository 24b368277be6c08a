import QMOperations
import QMTensor

/// Given: weights of the same type with the same elements, of which several nodes have a copy, or into
/// which each of several products folded the same factor.
/// Result: one constant, which all these nodes read.
///
/// Parameters stay apart, because training changes them, and so do weights with codes of their own.
/// Other constants that happen to be equal, such as biases of zeros, stay apart for the same reason.
public struct ShareConstants: Pass {
  public static let name = "share-constants"

  /// Constants with fewer elements take less in a file than what tells them apart.
  private static let leastCount = 64

  /// The pass; it has no options.
  public init() {}

  public func rewrite(_ graph: Graph) throws(QMError) -> Rewritten {
    var rewriter = try Rewriter(graph)
    var seen: Set<Graph.ValueID> = []
    /// Different constants by the hash of a few of their elements.
    var different: [Int: [Graph.ValueID]] = [:]
    for value in graph.nodes.flatMap(graph.weights(of:)) {
      guard let constant = graph[value].constant, constant.elementCount >= Self.leastCount,
        !graph[value].isParameter, graph[value].stored == nil, seen.insert(value).inserted
      else { continue }
      let key = ShareConstants.key(constant)
      let same = different[key]?.first {
        graph[$0].type == graph[value].type
          && graph[$0].constant?.isIdentical(to: constant) ?? false
      }
      if let same {
        rewriter.replace(value, by: rewriter.value(same))
      } else {
        different[key, default: []].append(value)
      }
    }
    for node in graph.nodes { try rewriter.copy(node) }
    return try rewriter.finished()
  }

  /// A hash of the shape and of 64 bytes that are spread over the elements.
  private static func key(_ constant: Tensor) -> Int {
    var hasher = Hasher()
    hasher.combine(constant.shape)
    let bytes = constant.bytes
    for place in 0..<64 { hasher.combine(bytes[place * (bytes.count - 1) / 63]) }
    return hasher.finalize()
  }
}

extension Graph {
  /// The operands of a node that it multiplies and sums, or looks up rows in.
  fileprivate func weights(of node: Node) -> [ValueID] {
    node.operation.body.weightOperands(of: operands(of: node)).compactMap {
      node.input($0.position)
    }
  }
}
