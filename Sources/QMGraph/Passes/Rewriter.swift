import QMOperations
import QMTensor

/// Builds a new graph from an old one, node by node, and maps old values to new ones.
struct Rewriter {
  let source: Graph
  private(set) var graph = Graph()
  private var map: [Graph.ValueID: Graph.ValueID] = [:]
  private var correspondence = Correspondence()

  init(_ source: Graph) throws(QMError) {
    self.source = source
    for input in source.inputs {
      map[input] = try graph.addInput(name: source[input].name, source[input].type)
    }
  }

  /// The new value for an old one. A constant is copied when it is first asked for.
  mutating func value(_ old: Graph.ValueID) -> Graph.ValueID {
    if let new = map[old] { return new }
    guard let constant = source[old].constant else {
      preconditionFailure("value \(source[old].name) is read before it is rewritten")
    }
    let new = graph.addConstant(
      name: source[old].name, constant, source[old].type.quantization, stored: source[old].stored,
      isParameter: source[old].isParameter)
    map[old] = new
    return new
  }

  /// Whether ``value(_:)`` may be called: the old value is rewritten already, or a constant.
  func hasValue(_ old: Graph.ValueID) -> Bool { map[old] != nil || source[old].constant != nil }

  /// Makes `new` the new value for `old`.
  mutating func replace(_ old: Graph.ValueID, by new: Graph.ValueID) { map[old] = new }

  mutating func addConstant(
    name: String, _ tensor: Tensor, _ quantization: Quantization = .none,
    stored: StoredCodes? = nil, isParameter: Bool = false
  ) -> Graph.ValueID {
    graph.addConstant(name: name, tensor, quantization, stored: stored, isParameter: isParameter)
  }

  /// Adds a node that reads new values.
  mutating func append(
    _ operation: Operation, name: String, _ inputs: [Graph.ValueID?], outputNames: [String] = []
  ) throws(QMError) -> [Graph.ValueID] {
    try graph.append(operation, name: name, inputs, outputNames: outputNames)
  }

  /// Adds a node that reads new values. Its outputs replace old values and take their names.
  mutating func append(
    _ operation: Operation, name: String, _ inputs: [Graph.ValueID?],
    replacing old: [Graph.ValueID]
  ) throws(QMError) {
    let new = try graph.append(
      operation, name: name, inputs, outputNames: old.map { source[$0].name })
    for (old, new) in zip(old, new) { map[old] = new }
  }

  /// Copies a node unchanged.
  mutating func copy(_ node: Graph.Node) throws(QMError) {
    let inputs = node.inputs.map { input in input.map { value($0) } }
    try append(node.operation, name: node.name, inputs, replacing: node.outputs)
  }

  /// Records that the new product that computes `output` is the old node `product` with `folding`
  /// folded into it.
  mutating func record(
    _ folding: Correspondence.Folding, into product: Graph.Node, output: Graph.ValueID
  ) {
    guard let new = map[output] else { return }
    correspondence.record(folding, of: product.outputs[0], as: new)
  }

  /// Records that a new value holds an old one's elements with its axes permuted.
  mutating func record(_ old: Graph.ValueID, isPermuted permutation: [Int], as new: Graph.ValueID) {
    correspondence.record(old, as: .init(value: new, permutation: permutation))
  }

  /// The new graph with the outputs of the old one.
  mutating func finish() throws(QMError) -> Graph {
    for output in source.outputs {
      try graph.addOutput(name: output.name, value(output.value))
    }
    return graph
  }

  /// The new graph with the outputs of the old one, and the correspondence of their values.
  mutating func finished() throws(QMError) -> Rewritten {
    let graph = try finish()
    for (old, new) in map { correspondence.record(old, as: .init(value: new)) }
    return Rewritten(graph: graph, correspondence: correspondence)
  }
}
