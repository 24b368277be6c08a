import QMGraph
import QMOperations

/// Sets of values that must share scale and zero point.
///
/// Data movement, and what picks elements by comparing them, keep their input's set; Concat, Where
/// and If merge the sets of their inputs.
struct ParameterGroups {
  private var parents: [Int]
  private let graph: Graph
  private let producers: [Graph.ValueID: Int]

  /// - Parameter tail: values that lead to outputs alone. Such a value keeps a set of its own where
  ///   its elements are also read by layers: a state output that is concatenated with a layer's
  ///   input would lose precision to it.
  init(_ graph: Graph, tail: Set<Graph.ValueID>) {
    self.graph = graph
    parents = Array(graph.values.indices)
    var producers: [Graph.ValueID: Int] = [:]
    for (index, node) in graph.nodes.enumerated() {
      for output in node.outputs { producers[output] = index }
    }
    self.producers = producers
    for node in graph.nodes {
      for input in ParameterGroups.sources(of: node) {
        for output in node.outputs where tail.contains(input) || !tail.contains(output) {
          join(input.index, output.index)
        }
      }
    }
  }

  /// The group of a value.
  func group(of value: Graph.ValueID) -> Int { root(value.index) }

  /// The node that computes a value.
  func producer(of value: Graph.ValueID) -> Graph.Node? {
    producers[value].map { graph.nodes[$0] }
  }

  /// The range that the function behind a value cannot leave; nil where there is none to tell.
  func analyticRange(of value: Graph.ValueID) -> ClosedRange<Float>? {
    producer(of: value)?.operation.body.analyticRange
  }

  /// Whether each element of a value is one of these values', or of a constant.
  func isMoved(_ value: Graph.ValueID, fromAllOf known: Set<Graph.ValueID>) -> Bool {
    let origins = origins(of: value)
    return !origins.isEmpty && origins.allSatisfy(known.contains)
  }

  /// Whether an element of a value may be one of these values'.
  func isMoved(_ value: Graph.ValueID, fromAnyOf values: Set<Graph.ValueID>) -> Bool {
    origins(of: value).contains(where: values.contains)
  }

  /// The inputs whose elements the outputs of a node hold.
  private static func sources(of node: Graph.Node) -> [Graph.ValueID] {
    node.operation.body.elementSource(operandCount: node.inputs.count).operands
      .compactMap(node.input)
  }

  /// The values whose elements the elements of a value are, if it holds others' elements.
  private func origins(of value: Graph.ValueID) -> [Graph.ValueID] {
    guard let node = producer(of: value) else { return [] }
    return ParameterGroups.sources(of: node).filter { graph[$0].constant == nil }
  }

  private func root(_ index: Int) -> Int {
    var index = index
    while parents[index] != index { index = parents[index] }
    return index
  }

  private mutating func join(_ left: Int, _ right: Int) {
    let (low, high) = (min(root(left), root(right)), max(root(left), root(right)))
    parents[high] = low
  }
}
