import QMGraph
import QMOperations

/// Sets of values that must share scale and zero point.
///
/// Data movement, and operations that select elements by comparing them (such as MaxPool), keep the
/// set of their input; Concat, Where and If merge the sets of their inputs. An input of a Concat whose
/// range is much smaller than that of the result keeps a set of its own, because a shared scale would
/// round it to few codes.
struct ParameterGroups {
  private var parents: [Int]
  private let graph: Graph
  private let producers: [Graph.ValueID: Int]

  /// Ranges that differ by more than this ratio share no scale in a Concat.
  private static let mostRatio: Float = 4

  /// - Parameters:
  ///   - tail: values on which only outputs depend. Such a value is not merged into the set of a
  ///     layer's input: a state output that is also concatenated with a layer's input would lose
  ///     precision by sharing its range.
  ///   - magnitudes: the largest magnitude of values, if it is known.
  init(_ graph: Graph, tail: Set<Graph.ValueID>, magnitudes: [Graph.ValueID: Float] = [:]) {
    self.graph = graph
    parents = Array(graph.values.indices)
    var producers: [Graph.ValueID: Int] = [:]
    for (index, node) in graph.nodes.enumerated() {
      for output in node.outputs { producers[output] = index }
    }
    self.producers = producers
    for node in graph.nodes {
      for input in ParameterGroups.sources(of: node)
      where !ParameterGroups.isSeparate(input, in: node, magnitudes) {
        for output in node.outputs where tail.contains(input) || !tail.contains(output) {
          join(input.index, output.index)
        }
      }
    }
  }

  private static func isSeparate(
    _ input: Graph.ValueID, in node: Graph.Node, _ magnitudes: [Graph.ValueID: Float]
  ) -> Bool {
    guard case .concatenate = node.operation, let magnitude = magnitudes[input],
      let result = magnitudes[node.outputs[0]]
    else { return false }
    return magnitude > 0 && magnitude * mostRatio < result
  }

  /// The group of a value.
  func group(of value: Graph.ValueID) -> Int { root(value.index) }

  /// The node that computes a value.
  func producer(of value: Graph.ValueID) -> Graph.Node? {
    producers[value].map { graph.nodes[$0] }
  }

  /// The range of the function that computes a value, such as 0…1 of a sigmoid; nil if the function
  /// has no bounds.
  func analyticRange(of value: Graph.ValueID) -> ClosedRange<Float>? {
    producer(of: value)?.operation.body.analyticRange
  }

  /// Whether a value is moved from other values, all of which are in `known` or constant.
  func isMoved(_ value: Graph.ValueID, fromAllOf known: Set<Graph.ValueID>) -> Bool {
    let origins = origins(of: value)
    return !origins.isEmpty && origins.allSatisfy(known.contains)
  }

  /// Whether a value is moved from at least one of these values.
  func isMoved(_ value: Graph.ValueID, fromAnyOf values: Set<Graph.ValueID>) -> Bool {
    origins(of: value).contains(where: values.contains)
  }

  /// The inputs whose elements the node moves to its outputs.
  private static func sources(of node: Graph.Node) -> [Graph.ValueID] {
    node.operation.body.elementSource(operandCount: node.inputs.count).operands
      .compactMap(node.input)
  }

  /// The activations whose elements a value holds; empty if it is computed.
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
