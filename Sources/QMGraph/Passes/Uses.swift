/// The producer and the consumers of each value.
struct Uses {
  /// Index of the node that computes a value.
  private let producers: [Graph.ValueID: Int]
  /// Indices of the nodes that read a value, one entry per operand.
  private let consumers: [Graph.ValueID: [Int]]
  private let outputs: Set<Graph.ValueID>

  init(_ graph: Graph) {
    var producers: [Graph.ValueID: Int] = [:]
    var consumers: [Graph.ValueID: [Int]] = [:]
    for (index, node) in graph.nodes.enumerated() {
      for case .some(let input) in node.inputs { consumers[input, default: []].append(index) }
      for output in node.outputs { producers[output] = index }
    }
    self.producers = producers
    self.consumers = consumers
    outputs = Set(graph.outputs.map(\.value))
  }

  func producer(of value: Graph.ValueID) -> Int? { producers[value] }
  func consumers(of value: Graph.ValueID) -> [Int] { consumers[value] ?? [] }
  func isOutput(_ value: Graph.ValueID) -> Bool { outputs.contains(value) }

  /// The only node that reads the value; nil if there are several or the value is an output.
  func onlyConsumer(of value: Graph.ValueID) -> Int? {
    let readers = consumers(of: value)
    return readers.count == 1 && !outputs.contains(value) ? readers[0] : nil
  }
}
