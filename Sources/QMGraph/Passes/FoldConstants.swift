import QMOperations
import QMTensor

/// Given: a node whose inputs are all constants, or a Shape node of a value whose shape is known.
/// Result: its outputs as constants, computed by the interpreter.
///
/// Parameters do not count as constants, because training may change them. A node stays if
/// ``ConstantFolder`` finds its results too large for a file.
public struct FoldConstants: Pass {
  public static let name = "fold-constants"

  /// The pass; it has no options.
  public init() {}

  public func rewrite(_ graph: Graph) throws(QMError) -> Rewritten {
    var rewriter = try Rewriter(graph)
    let constantByteCount = graph.values.reduce(0) { $0 + ($1.constant?.byteCount ?? 0) }
    var folder = ConstantFolder(
      for: .graph, byteLimit: ConstantFolder.byteLimit(besides: constantByteCount))
    for node in graph.nodes {
      let inputs = node.inputs.map { input in input.map { rewriter.value($0) } }
      var operands = rewriter.graph.operands(inputs)
      for (place, input) in inputs.enumerated() {
        guard let input, rewriter.graph[input].isParameter else { continue }
        operands[place]?.constant = nil
      }
      let context = QMError.Context.node(name: node.name, operation: node.operation.name)
      let results = try within(context) { () throws(QMError) in
        try folder.results(of: node.operation, operands)
      }
      guard let results else {
        try rewriter.copy(node)
        continue
      }
      for (old, tensor) in zip(node.outputs, results) {
        rewriter.replace(old, by: rewriter.addConstant(name: graph[old].name, tensor))
      }
    }
    return try rewriter.finished()
  }
}
