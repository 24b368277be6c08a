import QMOperations
import QMTensor

/// A rewriting of a graph that preserves its outputs: bit for bit, or up to float rounding where
/// the pass says so.
///
/// Each pass documents the pattern that it looks for (Given) and what replaces it (Result).
public protocol Pass: Sendable {
  /// Words joined by hyphens, such as "fold-affine".
  static var name: String { get }

  /// The graph after the pass, with the correspondence of its values to those before it.
  func rewrite(_ graph: Graph) throws(QMError) -> Rewritten
}

extension Pass {
  /// The graph after the pass.
  public func run(on graph: Graph) throws(QMError) -> Graph { try rewrite(graph).graph }
}

/// A graph after some passes, with the correspondence of its values to those before them.
public struct Rewritten: Sendable {
  /// The graph after the passes.
  public let graph: Graph
  /// Maps values of the graph before the passes to values of ``graph``.
  public let correspondence: Correspondence

  /// The result of one more pass.
  func then(_ pass: some Pass) throws(QMError) -> Rewritten {
    try then { (graph) throws(QMError) in try pass.rewrite(graph) }
  }

  /// The result of one more rewriting.
  func then(_ rewrite: (Graph) throws(QMError) -> Rewritten) throws(QMError) -> Rewritten {
    let next = try rewrite(graph)
    return Rewritten(
      graph: next.graph, correspondence: correspondence.then(next.correspondence))
  }
}

/// The passes between an exported network and a graph that can be quantized and runs fast: two
/// lists, each in the order in which the passes run.
///
/// Training and export work on the graph between the two lists: its weights are still the
/// network's.
public enum DefaultPasses {
  /// Passes that keep the network's weights: they fold constants, recognize operations that the
  /// exporter spelled out, and remove nodes without effect. Nothing is folded into a weight.
  public static let exact: [any Pass] = [
    FoldConstants(),
    DropIdentities(),
    FoldPadding(),
    RecognizeActivations(),
    RecognizeNormalization(),
    RecognizeSoftmax(),
    RecognizeEmbedding(),
  ]

  /// Passes that prepare the graph to run: parameters become constants, scales and shifts are
  /// folded into weights, additions and functions are fused into the products before them, channels
  /// are last.
  public static let fusions: [any Pass] = [
    FreezeParameters(),
    HoistElementwise(),
    FoldAffine(),
    FoldScalars(),
    FoldConstants(),
    FuseEpilogues(),
    AssignLayouts(),
    MergeMoves(),
    ShareConstants(),
    RemoveDeadNodes(),
  ]

  /// The graph after the exact passes, then the fusions.
  public static func run(on graph: Graph) throws(QMError) -> Graph {
    try fused(runExact(on: graph)).graph
  }

  /// The graph after the exact passes.
  public static func runExact(on graph: Graph) throws(QMError) -> Graph {
    var graph = graph
    for pass in exact { graph = try pass.run(on: graph) }
    return graph
  }

  /// The graph after the fusions.
  /// - Parameter exact: a graph after the exact passes, also one with other parameters.
  public static func fused(_ exact: Graph) throws(QMError) -> Rewritten {
    var result = Rewritten(graph: exact, correspondence: Correspondence(of: exact))
    for pass in fusions { result = try result.then(pass) }
    return result
  }
}
