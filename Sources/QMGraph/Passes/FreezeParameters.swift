import QMTensor

/// Given: a parameter, which training may change.
/// Result: a constant, which other passes may fold.
///
/// Outputs are equal bit for bit.
public struct FreezeParameters: Pass {
  public static let name = "freeze-parameters"

  /// The pass; it has no options.
  public init() {}

  public func rewrite(_ graph: Graph) throws(QMError) -> Rewritten {
    var rewriter = try Rewriter(graph.withoutParameters())
    for node in graph.nodes { try rewriter.copy(node) }
    return try rewriter.finished()
  }
}
