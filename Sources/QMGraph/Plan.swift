import QMOperations
import QMTensor

/// What quantization decided: for each weight the very codes that go into the file, for each
/// activation its grid, and why. Keys are values and nodes of the one float graph that the plan was
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

  /// The affine grid of an activation, fixed for all runs.
  public struct Grid: Hashable, Sendable {
    public var elementType: ElementType
    public var scale: Float
    public var zeroPoint: Int32

    public init(_ elementType: ElementType = .int8, scale: Float, zeroPoint: Int32) {
      self.elementType = elementType
      self.scale = scale
      self.zeroPoint = zeroPoint
    }

    /// The finest grid that covers the range and holds the number 0 exactly.
    /// - Parameters: bounds of the range, in real units; 0 is always inside.
    public init(_ elementType: ElementType = .int8, covering minimum: Float, _ maximum: Float) {
      let (low, high) = (Double(min(minimum, 0)), Double(max(maximum, 0)))
      let lowest: Double = elementType == .int16 ? -32768 : -128
      let highest: Double = elementType == .int16 ? 32767 : 127
      var scale = Float((high - low) / (highest - lowest))
      // An empty range, or one so small that its scale times that of weights could leave the normal
      // numbers: any grid holds its one number, 0.
      if scale < 0x1p-68 { scale = 1 }
      let zero = (lowest - low / Double(scale)).rounded(.toNearestOrEven)
      self.init(
        elementType, scale: scale, zeroPoint: Int32(Swift.min(Swift.max(zero, lowest), highest)))
    }

    /// The int16 grid around 0 for numbers up to a magnitude, with room for four times as much.
    public init(wide magnitude: Float) {
      let scale = magnitude / 32767 * 4
      self.init(.int16, scale: scale < 0x1p-68 ? 1 : scale, zeroPoint: 0)
    }
  }

  /// How the value feeds its readers.
  public enum Activation: Hashable, Sendable {
    /// Codes on one grid in every run.
    case fixed(Grid)
    /// Quantized before each product that reads it, on grids found in the run.
    case dynamic
  }

  /// Why an activation stays float32 where others have a fixed grid.
  public enum Kept: Hashable, Sendable {
    /// Between the first products and a power spectrum or its logarithm.
    case signalFront
    /// Between the last products and an output.
    case outputTail
    /// Rounding it alone leaves an output this ratio of signal to noise power: too little.
    case damage(Double)
    /// It held NaN or infinities over the samples, as masks of attention do.
    case nonFinite
    /// It is in a branch that no sample takes.
    case unseen
  }

  public var weights: [Graph.ValueID: QuantizedTensor] = [:]
  /// Nodes that read everything unrounded, by index.
  public var floatNodes: Set<Int> = []
  /// Values that are not named stay float.
  public var activations: [Graph.ValueID: Activation] = [:]
  /// Biases of products that replace the graph's, float32, one number per output channel; by index
  /// of the node.
  public var biases: [Int: Tensor] = [:]
  /// Activations that an integer operation could read as codes, and why they stay real numbers.
  public var kept: [Graph.ValueID: Kept] = [:]

  /// A plan that leaves everything in float32.
  public init(for graph: Graph) { self.graph = graph.identity }

  /// - Throws: `usage` if the plan was made for another graph: its keys would mean other values.
  func requireMade(for graph: Graph) throws(QMError) {
    guard self.graph == graph.identity else {
      throw .usage("the plan was made for another graph")
    }
  }
}
