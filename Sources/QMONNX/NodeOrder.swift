import QMTensor

/// Puts nodes into an order in which they can run. ONNX requires such an order, but some writers do
/// not keep to it.
enum NodeOrder {
  /// The nodes in their own order if each reads only outputs of earlier nodes, else topologically
  /// sorted.
  /// - Parameter defined: names of inputs and initializers.
  /// - Throws: `malformed` if two nodes define one value, a node reads a value that nothing
  ///   produces, or the nodes form a cycle.
  static func sorted(
    _ nodes: [ONNXNode], defined: Set<String>
  ) throws(QMError) -> [ONNXNode] {
    var producers: [String: Int] = [:]
    for (index, node) in nodes.enumerated() {
      for output in node.outputs where !output.isEmpty {
        guard !defined.contains(output), producers.updateValue(index, forKey: output) == nil else {
          throw .malformed("the value '\(output.abbreviated)' is defined twice").within(
            node.context)
        }
      }
    }
    var isOrdered = true
    // For each node: how many of its inputs are still missing, and the nodes that read its outputs.
    var pending = [Int](repeating: 0, count: nodes.count)
    var waiting = [[Int]](repeating: [], count: nodes.count)
    for (index, node) in nodes.enumerated() {
      let own = Set(node.inputs)
      for input in node.namesRead where !input.isEmpty && !defined.contains(input) {
        guard let producer = producers[input] else {
          // A name that only the node's branches read may be defined inside them.
          guard own.contains(input) else { continue }
          throw .malformed("it reads '\(input.abbreviated)', which nothing produces").within(
            node.context)
        }
        pending[index] += 1
        waiting[producer].append(index)
        if producer >= index { isOrdered = false }
      }
    }
    guard !isOrdered else { return nodes }
    var order = nodes.indices.filter { pending[$0] == 0 }
    var next = 0
    while next < order.count {
      for index in waiting[order[next]] {
        pending[index] -= 1
        if pending[index] == 0 { order.append(index) }
      }
      next += 1
    }
    guard order.count == nodes.count else {
      let stuck = nodes[pending.firstIndex { $0 > 0 }!]
      throw .malformed("it depends on its own output: the nodes form a cycle").within(stuck.context)
    }
    return order.map { nodes[$0] }
  }
}

extension ONNXNode {
  fileprivate var context: QMError.Context {
    .node(name: label, operation: operation.abbreviated)
  }
}
