import QMOperations
import QMTensor

/// A rewriting of a graph that leaves its outputs as they were: equal bit for bit, or, where a
/// pass says so, up to the rounding of float arithmetic.
///
/// Each pass states what it looks for (Given) and what stands there afterwards (Result).
public protocol Pass: Sendable {
  static var name: String { get }
  func run(on graph: Graph) throws(QMError) -> Graph
}

/// The passes that make a network as it was exported into one that can be quantized and run fast,
/// in their order.
public enum DefaultPasses {
  public static let all: [any Pass] = [
    FoldConstants(),
    DropIdentities(),
    FoldPadding(),
    RecognizeActivations(),
    RecognizeNormalization(),
    RecognizeSoftmax(),
    RecognizeEmbedding(),
    HoistElementwise(),
    FoldAffine(),
    FoldScalars(),
    FoldConstants(),
    FuseEpilogues(),
    AssignLayouts(),
    MergeMoves(),
    RemoveDeadNodes(),
  ]

  /// The graph after all of them.
  public static func run(on graph: Graph) throws(QMError) -> Graph {
    var graph = graph
    for pass in all { graph = try pass.run(on: graph) }
    return graph
  }
}

/// Who makes and who reads each value.
struct Uses {
  /// Index of the node that computes a value.
  private let producers: [Graph.ValueID: Int]
  /// Indices of the nodes that read a value, one entry per reading.
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

  /// The one node that reads the value, if there is one and the value does not leave the graph.
  func onlyConsumer(of value: Graph.ValueID) -> Int? {
    let readers = consumers(of: value)
    return readers.count == 1 && !outputs.contains(value) ? readers[0] : nil
  }
}

/// A new graph grown from an old one, node by node, with a map from old values to new.
struct Rewriter {
  let source: Graph
  private(set) var graph = Graph()
  private var map: [Graph.ValueID: Graph.ValueID] = [:]

  init(_ source: Graph) throws(QMError) {
    self.source = source
    for input in source.inputs {
      map[input] = try graph.addInput(name: source[input].name, source[input].type)
    }
  }

  /// The new value that stands for an old one. Constants come over when they are first asked for.
  mutating func value(_ old: Graph.ValueID) -> Graph.ValueID {
    if let new = map[old] { return new }
    guard let constant = source[old].constant else {
      preconditionFailure("value \(source[old].name) is read before it is rewritten")
    }
    let new = graph.addConstant(
      name: source[old].name, constant, source[old].type.quantization, codes: source[old].codes)
    map[old] = new
    return new
  }

  /// Whether the value has been rewritten already.
  func hasValue(_ old: Graph.ValueID) -> Bool { map[old] != nil || source[old].constant != nil }

  /// Lets `new` stand for `old` from now on.
  mutating func replace(_ old: Graph.ValueID, by new: Graph.ValueID) { map[old] = new }

  mutating func addConstant(
    name: String, _ tensor: Tensor, _ quantization: Quantization = .none,
    codes: QuantizedTensor? = nil
  ) -> Graph.ValueID {
    graph.addConstant(name: name, tensor, quantization, codes: codes)
  }

  /// A node between new values.
  mutating func append(
    _ operation: Operation, name: String, _ inputs: [Graph.ValueID?], outputNames: [String] = []
  ) throws(QMError) -> [Graph.ValueID] {
    try graph.append(operation, name: name, inputs, outputNames: outputNames)
  }

  /// A node between new values whose outputs stand for the old ones and keep their names.
  mutating func append(
    _ operation: Operation, name: String, _ inputs: [Graph.ValueID?],
    replacing old: [Graph.ValueID]
  ) throws(QMError) {
    let new = try graph.append(
      operation, name: name, inputs, outputNames: old.map { source[$0].name })
    for (old, new) in zip(old, new) { map[old] = new }
  }

  /// The old node as it was.
  mutating func copy(_ node: Graph.Node) throws(QMError) {
    let inputs = node.inputs.map { input in input.map { value($0) } }
    try append(node.operation, name: node.name, inputs, replacing: node.outputs)
  }

  /// The new graph, with the old one's outputs.
  mutating func finish() throws(QMError) -> Graph {
    for output in source.outputs {
      try graph.addOutput(name: output.name, value(output.value))
    }
    return graph
  }
}
