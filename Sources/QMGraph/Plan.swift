import QMOperations
import QMTensor

/// The decisions of a quantization: for each weight the codes that go into the file, for each
/// activation its scale and zero point. The keys are values and nodes of the one float graph that
/// the plan was made for.
public struct Plan: Sendable {
  /// The graph that the plan was made for.
  public let graph: Graph.Identity

  /// Keeps the quantization of an already quantized network: its codes of weights replace the
  /// plan's, and values that its own Quantize nodes round are not rounded a second time.
  ///
  /// Given: a graph with Quantize and Dequantize nodes, or constants with codes.
  /// - Throws: `usage` if the plan was made for another graph.
  public mutating func adoptStoredCodes(of graph: Graph) throws(QMError) {
    try requireMade(for: graph)
    /// Dequantized values, also after data movement.
    var coded: Set<Graph.ValueID> = []
    for (index, node) in graph.nodes.enumerated() {
      switch node.operation {
      case .quantize:
        if let input = node.input(0) { activations[input] = nil }
      case .dequantize:
        coded.insert(node.outputs[0])
      default:
        let moved = node.operation.body.elementSource(operandCount: node.inputs.count).operands
          .compactMap(node.input)
        if !moved.isEmpty, moved.allSatisfy({ coded.contains($0) || graph[$0].constant != nil }),
          moved.contains(where: coded.contains)
        {
          coded.formUnion(node.outputs)
        }
      }
      for operand in node.operation.body.weightOperands(of: graph.operands(of: node)) {
        guard let value = node.input(operand.position), self.weights[value] != nil,
          let stored = graph[value].stored
        else { continue }
        self.weights[value] = try codes(stored, for: operand, of: node)
        // This bias was corrected for the error of the codes that were just replaced.
        biases[index] = nil
      }
    }
    for value in coded { activations[value] = nil }
  }

  /// The file's codes in a form that the node can read; nil if there is none, so that the node reads
  /// the elements in float32.
  private func codes(
    _ stored: StoredCodes, for operand: WeightOperand, of node: Graph.Node
  ) throws(QMError) -> QuantizedTensor? {
    guard var codes = stored.codes else { return nil }
    switch node.operation {
    case .recurrent:
      switch codes.granularity {
      case .perTensor, .perChannel(axis: operand.channelAxis): return codes
      default: return nil
      }
    default:
      // A lookup returns rows with their scales.
      if operand.use == .table, codes.granularity == .perTensor {
        let scale = codes.scales.elements(as: Float.self)[0]
        let count = codes.codes.shape[operand.channelAxis]
        codes.scales = try Tensor([count], [Float](repeating: scale, count: count))
        codes.granularity = .perChannel(axis: operand.channelAxis)
      }
      return codes
    }
  }

  /// How an activation is quantized.
  public enum Activation: Hashable, Sendable {
    /// With the same scale and zero point in every run.
    case fixed(QuantizationParameters)
    /// In front of each product that reads it, with a scale and zero point computed in the run.
    case dynamic
  }

  /// Codes and scales of the weights that are quantized.
  public var weights: [Graph.ValueID: QuantizedTensor] = [:]
  /// Weights that are stored as float16, rounded to nearest, and converted back when a model is
  /// opened. Their numbers must be finite as float16.
  public var halfWeights: Set<Graph.ValueID> = []
  /// Float32 constants that replace the graph's, of the same shapes.
  public var constants: [Graph.ValueID: Tensor] = [:]
  /// Indices of the nodes that run in float32: they read all operands unrounded.
  public var floatNodes: Set<Int> = []
  /// The activations that are quantized; all others stay float32.
  public var activations: [Graph.ValueID: Activation] = [:]
  /// Biases that replace the graph's, by index of the node: float32, one number per output channel of a
  /// product, `[D, 2·G·H]` of a recurrent layer.
  public var biases: [Int: Tensor] = [:]

  /// A plan that leaves everything in float32.
  public init(for graph: Graph) { self.graph = graph.identity }

  /// - Throws: `usage` if the plan was made for another graph; its keys would mean other values.
  func requireMade(for graph: Graph) throws(QMError) {
    guard self.graph == graph.identity else {
      throw .usage(
        "the plan was made for graph \(self.graph), not for this one, \(graph.identity)")
    }
  }
}

extension Graph {
  /// Whether the network quantizes activations itself.
  public var isQuantized: Bool {
    nodes.contains { node in
      switch node.operation {
      case .quantize, .dynamicQuantize: true
      default: false
      }
    }
  }
}
