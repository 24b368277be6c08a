import QMOperations
import QMTensor

/// A rewriting of a graph that leaves its outputs as they were: equal bit for bit, or, where a
/// pass says so, up to the rounding of float arithmetic.
///
/// Each pass states what it looks for (Given) and what stands there afterwards (Result).
public protocol Pass: Sendable {
  static var name: String { get }

  /// The graph after the pass, and where the values of the graph before it are.
  func rewrite(_ graph: Graph) throws(QMError) -> Rewritten
}

extension Pass {
  /// The graph after the pass.
  public func run(on graph: Graph) throws(QMError) -> Graph { try rewrite(graph).graph }
}

/// A graph after some passes, and where the values of the graph before them are.
public struct Rewritten: Sendable {
  public let graph: Graph
  public let correspondence: Correspondence

  /// The same with one pass more.
  func then(_ pass: some Pass) throws(QMError) -> Rewritten {
    try then { (graph) throws(QMError) in try pass.rewrite(graph) }
  }

  /// The same with one rewriting more.
  func then(_ rewrite: (Graph) throws(QMError) -> Rewritten) throws(QMError) -> Rewritten {
    let next = try rewrite(graph)
    return Rewritten(
      graph: next.graph, correspondence: correspondence.then(next.correspondence))
  }
}

/// The passes that make a network as it was exported into one that can be quantized and run fast,
/// in two lists, each in its order.
///
/// Training and export work on the graph between them: its weights are the network's own.
public enum DefaultPasses {
  /// Passes after which the graph is still the network that was exported: constants folded, what an
  /// exporter spelled out recognized, what says nothing removed. Nothing is folded into a weight.
  public static let exact: [any Pass] = [
    FoldConstants(),
    DropIdentities(),
    FoldPadding(),
    RecognizeActivations(),
    RecognizeNormalization(),
    RecognizeSoftmax(),
    RecognizeEmbedding(),
  ]

  /// Passes after which the graph is as it runs: parameters fixed, scales and shifts in the weights
  /// beside them, additions and functions in the products before them, channels last.
  public static let fusions: [any Pass] = [
    FreezeParameters(),
    HoistElementwise(),
    FoldAffine(),
    FoldScalars(),
    FoldConstants(),
    FuseEpilogues(),
    AssignLayouts(),
    MergeMoves(),
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
