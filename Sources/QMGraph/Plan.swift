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
      for sum in node.operation.body.accumulators.products where sum.input != nil {
        guard let value = node.input(sum.weights), self.weights[value] != nil,
          let codes = graph[value].codes
        else { continue }
        self.weights[value] = codes
        // This bias was corrected for the error of the codes that were just replaced.
        biases[index] = nil
      }
    }
    for value in coded { activations[value] = nil }
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
  /// Indices of the nodes that run in float32: they read all operands unrounded.
  public var floatNodes: Set<Int> = []
  /// The activations that are quantized; all others stay float32.
  public var activations: [Graph.ValueID: Activation] = [:]
  /// Biases that replace the graph's, by index of the product's node: float32, one number per
  /// output channel.
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
