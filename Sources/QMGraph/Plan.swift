import QMOperations
import QMTensor

/// What quantization decided: for each weight the very codes that go into the file, for each
/// activation scale and zero point. Keys are values and nodes of the one float graph that the plan was
/// made for.
public struct Plan: Sendable {
  /// The graph that the plan speaks of.
  public let graph: Graph.Identity

  /// Leaves to the network what it came with: its own codes of weights, and the values that it
  /// rounds itself, which nobody rounds twice.
  ///
  /// Given: a graph with Quantize and Dequantize nodes, or constants with codes, from an already
  /// quantized file.
  /// - Throws: `usage` if the plan was made for another graph.
  public mutating func adoptStoredCodes(of graph: Graph) throws(QMError) {
    try requireMade(for: graph)
    /// Values that have codes, also rearranged ones.
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
        // Corrected for the error of other codes.
        biases[index] = nil
      }
    }
    for value in coded { activations[value] = nil }
  }

  /// How the value feeds its readers.
  public enum Activation: Hashable, Sendable {
    /// Codes with the same parameters in every run.
    case fixed(QuantizationParameters)
    /// Quantized before each product that reads it, with parameters found in the run.
    case dynamic
  }

  public var weights: [Graph.ValueID: QuantizedTensor] = [:]
  /// Nodes that read everything unrounded, by index.
  public var floatNodes: Set<Int> = []
  /// Values that are not named stay float.
  public var activations: [Graph.ValueID: Activation] = [:]
  /// Biases of products that replace the graph's, float32, one number per output channel; by index
  /// of the node.
  public var biases: [Int: Tensor] = [:]

  /// A plan that leaves everything in float32.
  public init(for graph: Graph) { self.graph = graph.identity }

  /// - Throws: `usage` if the plan was made for another graph: its keys would mean other values.
  func requireMade(for graph: Graph) throws(QMError) {
    guard self.graph == graph.identity else {
      throw .usage("the plan was made for another graph")
    }
  }
}
