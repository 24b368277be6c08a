import QMOperations
import QMTensor

/// Given: a convolution or matrix product with constant weights, followed by nodes that scale and
/// shift each output channel by constants, each the only reader of the one before:
/// BatchNormalization; Add, Subtract, Multiply or Divide with a constant that varies along the
/// channels only; a negation or a scaling.
/// Result: one product, `w′ = s·w`, `b′ = s·b + t`, computed in float64 and rounded once.
///
/// Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
/// Integer-Arithmetic-Only Inference", section 3.2. Outputs are equal up to float rounding.
public struct FoldAffine: Pass {
  public static let name = "fold-affine"

  /// The pass; it has no options.
  public init() {}

  public func rewrite(_ graph: Graph) throws(QMError) -> Rewritten {
    let uses = Uses(graph)
    var rewriter = try Rewriter(graph)
    var folded: Set<Int> = []
    for (index, node) in graph.nodes.enumerated() where !folded.contains(index) {
      guard var product = Product(node, in: graph) else {
        try rewriter.copy(node)
        continue
      }
      var output = node.outputs[0]
      while let reader = uses.onlyConsumer(of: output),
        let affine = product.affine(of: graph.nodes[reader], on: output, in: graph)
      {
        product.apply(affine)
        folded.insert(reader)
        output = graph.nodes[reader].outputs[0]
      }
      guard output != node.outputs[0] else {
        try rewriter.copy(node)
        continue
      }
      var inputs = node.inputs.map { input in input.map { rewriter.value($0) } }
      while inputs.count <= ProductOperand.bias { inputs.append(nil) }
      inputs[ProductOperand.weights] = rewriter.addConstant(
        name: graph[product.weightsID].name, try product.foldedWeights(),
        stored: try graph[product.weightsID].stored?.scaled(by: product.scale))
      inputs[ProductOperand.bias] = rewriter.addConstant(
        name: product.biasName, try Tensor([product.bias.count], product.bias.map { Float($0) }))
      try rewriter.append(node.operation, name: node.name, inputs, replacing: [output])
      rewriter.record(
        .init(outputScale: product.scale, outputShift: product.shift), into: node, output: output)
    }
    return try rewriter.finished()
  }

  /// `scale · x + shift` per channel; each array holds one number for all channels or one for each.
  private struct Affine {
    var scale: [Double] = [1]
    var shift: [Double] = [0]
  }

  /// A product with constant weights, whose first axis is the output channels.
  private struct Product {
    let weightsID: Graph.ValueID
    let biasName: String
    let channelAxis: Int
    let rank: Int
    let weights: Tensor
    var scale: [Double]
    /// Added to the scaled output in addition to the node's own bias.
    var shift: [Double]
    var bias: [Double]

    init?(_ node: Graph.Node, in graph: Graph) {
      guard let weightsID = node.input(ProductOperand.weights),
        let weights = graph[weightsID].constant, weights.elementType == .float32,
        node.inputs.count <= ProductOperand.weightScales, let channels = weights.shape.first
      else { return nil }
      rank = graph[node.outputs[0]].type.shape.rank
      switch node.operation {
      case .convolution(let convolution):
        guard convolution.epilogue == Epilogue() else { return nil }
        channelAxis = convolution.order == .channelsFirst ? 1 : rank - 1
      case .matrixMultiply(let product):
        guard product.epilogue == Epilogue(), product.rightLayout == .channelsFirst,
          weights.shape.count == 2
        else { return nil }
        channelAxis = rank - 1
      default:
        return nil
      }
      var bias = [Double](repeating: 0, count: channels)
      biasName = "\(node.name).bias"
      if let biasID = node.input(ProductOperand.bias) {
        guard let constant = graph[biasID].constant, constant.elementType == .float32,
          constant.elementCount == channels
        else { return nil }
        bias = constant.elements(as: Float.self).map(Double.init)
      }
      self.weightsID = weightsID
      self.weights = weights
      scale = [Double](repeating: 1, count: channels)
      shift = [Double](repeating: 0, count: channels)
      self.bias = bias
    }

    /// What `node` computes from the product's output; nil unless it is affine per channel.
    func affine(of node: Graph.Node, on value: Graph.ValueID, in graph: Graph) -> Affine? {
      switch node.operation {
      case .batchNormalization(let normalization):
        guard node.input(0) == value,
          channelAxis == (normalization.order == .channelsFirst ? 1 : rank - 1)
        else { return nil }
        var statistics: [[Double]] = []
        for case .some(let input) in node.inputs.dropFirst() {
          guard let constant = graph[input].constant, constant.elementType == .float32,
            constant.elementCount == bias.count
          else { return nil }
          statistics.append(constant.elements(as: Float.self).map(Double.init))
        }
        guard statistics.count == 4 else { return nil }
        var affine = Affine(scale: [], shift: [])
        for channel in bias.indices {
          let scale =
            statistics[0][channel]
            / (statistics[3][channel] + Double(normalization.epsilon)).squareRoot()
          affine.scale.append(scale)
          affine.shift.append(statistics[1][channel] - scale * statistics[2][channel])
        }
        return affine
      case .unary(let unary) where unary.output == .float32:
        switch unary.function {
        case .negate: return Affine(scale: [-1])
        case .affine(let scale, let offset):
          return Affine(scale: [Double(scale)], shift: [Double(offset)])
        default: return nil
        }
      case .binary(let binary) where binary.secondFunction == nil && binary.output == .float32:
        let isLeft = node.input(0) == value
        guard node.input(0) != node.input(1), let other = node.input(isLeft ? 1 : 0),
          let numbers = perChannel(graph[other])
        else { return nil }
        switch binary.function {
        case .add: return Affine(shift: numbers)
        case .subtract:
          return isLeft
            ? Affine(shift: numbers.map { -$0 }) : Affine(scale: [-1], shift: numbers)
        case .multiply: return Affine(scale: numbers)
        case .divide:
          guard isLeft, !numbers.contains(0) else { return nil }
          return Affine(scale: numbers.map { 1 / $0 })
        default: return nil
        }
      default:
        return nil
      }
    }

    /// The constant as one number, or one per channel; nil if it varies along another axis.
    private func perChannel(_ value: Graph.Value) -> [Double]? {
      guard let constant = value.constant, constant.elementType == .float32,
        constant.shape.count <= rank
      else { return nil }
      let axis = channelAxis - (rank - constant.shape.count)
      for (index, extent) in constant.shape.enumerated() where extent != 1 {
        guard index == axis, extent == bias.count else { return nil }
      }
      return constant.elements(as: Float.self).map(Double.init)
    }

    mutating func apply(_ affine: Affine) {
      for channel in bias.indices {
        let scale = affine.scale[affine.scale.count == 1 ? 0 : channel]
        let shift = affine.shift[affine.shift.count == 1 ? 0 : channel]
        self.scale[channel] *= scale
        self.shift[channel] = scale * self.shift[channel] + shift
        bias[channel] = scale * bias[channel] + shift
      }
    }

    func foldedWeights() throws(QMError) -> Tensor {
      let size = weights.elementCount / max(scale.count, 1)
      return try weights.withElements(as: Float.self) { (elements) throws(QMError) in
        try Tensor(weights.shape, as: Float.self) { folded in
          for index in elements.indices {
            folded[index] = Float(scale[index / size] * Double(elements[index]))
          }
        }
      }
    }
  }
}
