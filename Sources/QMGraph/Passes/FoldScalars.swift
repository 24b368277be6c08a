import QMOperations
import QMTensor

/// Given: a chain of additions, subtractions, multiplications and divisions by constant numbers.
/// Result: one `affine(scale, offset)`, which can be fused into a neighbouring product or computed
/// by a lookup table.
///
/// Given: an `affine` read only by a matrix product or convolution with constant weights; for a
/// convolution either the offset or the padding is 0, because padding is not shifted.
/// Result: the scale is in the weights and the offset in the bias, computed in float64 and rounded
/// once.
///
/// Given: a matrix product of two activations, one of which is a scaled value that nothing else
/// reads.
/// Result: the product of the unscaled values, then the scaling.
///
/// Outputs are equal up to float rounding.
public struct FoldScalars: Pass {
  public static let name = "fold-scalars"

  /// The pass; it has no options.
  public init() {}

  public func rewrite(_ graph: Graph) throws(QMError) -> Rewritten {
    try joined(graph).then(folded)
  }

  // MARK: A chain of numbers as one function

  private struct Affine {
    var source: Graph.ValueID
    var scale: Double = 1
    var offset: Double = 0
  }

  private func joined(_ graph: Graph) throws(QMError) -> Rewritten {
    let matching = Matching(graph)
    var rewriter = try Rewriter(graph)
    var known: [Graph.ValueID: Affine] = [:]
    for node in graph.nodes {
      let output = node.outputs[0]
      guard var affine = step(node, matching) else {
        try rewriter.copy(node)
        continue
      }
      if let earlier = known[affine.source], matching.uses.onlyConsumer(of: affine.source) != nil {
        affine.offset += earlier.offset * affine.scale
        affine.scale *= earlier.scale
        affine.source = earlier.source
      }
      let (scale, offset) = (Float(affine.scale), Float(affine.offset))
      guard scale.isNormal, offset.isFinite else {
        try rewriter.copy(node)
        continue
      }
      known[output] = affine
      let function: UnaryFunction =
        scale == -1 && offset == 0 ? .negate : .affine(scale: scale, offset: offset)
      try rewriter.append(
        .unary(Unary(function)), name: node.name, [rewriter.value(affine.source)],
        replacing: node.outputs)
    }
    return try rewriter.finished().then(RemoveDeadNodes())
  }

  /// The node as an affine function of one operand; nil if it is none.
  private func step(_ node: Graph.Node, _ matching: Matching) -> Affine? {
    let output = node.outputs[0]
    switch matching.unary(output) {
    case (.affine(let scale, let offset), let source)?:
      return Affine(source: source, scale: Double(scale), offset: Double(offset))
    case (.negate, let source)?: return Affine(source: source, scale: -1)
    default: break
    }
    for (place, function) in [
      BinaryFunction.add, .subtract, .multiply, .divide,
    ].enumerated() {
      guard let (left, right) = matching.operands(output, of: function) else { continue }
      // A constant with more axes than the other operand would add axes to the result.
      if let number = matching.scalar(right), matching.shape(left) == matching.shape(output) {
        let number = Double(number)
        switch place {
        case 0: return Affine(source: left, offset: number)
        case 1: return Affine(source: left, offset: -number)
        case 2: return Affine(source: left, scale: number)
        default: return Affine(source: left, scale: 1 / number)
        }
      }
      if let number = matching.scalar(left), matching.shape(right) == matching.shape(output) {
        let number = Double(number)
        switch place {
        case 0: return Affine(source: right, offset: number)
        case 1: return Affine(source: right, scale: -1, offset: number)
        case 2: return Affine(source: right, scale: number)
        default: return nil
        }
      }
    }
    return nil
  }

  // MARK: Folding into the next product

  private func folded(_ graph: Graph) throws(QMError) -> Rewritten {
    let matching = Matching(graph)
    var rewriter = try Rewriter(graph)
    for node in graph.nodes {
      if let (inputs, scale) = scaledOperand(node, matching) {
        let product = try rewriter.append(
          node.operation, name: node.name, inputs.map { rewriter.value($0) },
          outputNames: [node.name + ".unscaled"])
        try rewriter.append(
          .unary(Unary(.affine(scale: scale, offset: 0))), name: node.name + ".scaled", product,
          replacing: node.outputs)
        continue
      }
      guard let input = node.input(ProductOperand.input),
        case .affine(let scale, let offset)? = matching.unary(input)?.0,
        let source = matching.unary(input)?.1, matching.uses.onlyConsumer(of: input) != nil,
        // A scaling that follows a product is fused into that product instead.
        !isProduct(matching.producer(of: source)) || matching.uses.onlyConsumer(of: source) == nil,
        let weightsID = node.input(ProductOperand.weights),
        let weights = graph[weightsID].constant, weights.elementType == .float32,
        let channels = weights.shape.first, channels > 0,
        node.inputs.count <= ProductOperand.weightScales,
        takes(node.operation, offset: offset, weights: weights)
      else {
        try rewriter.copy(node)
        continue
      }
      var bias = [Double](repeating: 0, count: channels)
      if let biasID = node.input(ProductOperand.bias) {
        guard let constant = graph[biasID].constant, constant.elementType == .float32,
          constant.elementCount == channels
        else {
          try rewriter.copy(node)
          continue
        }
        bias = constant.elements(as: Float.self).map(Double.init)
      }
      let size = weights.elementCount / channels
      let scaled = try weights.withElements(as: Float.self) { (elements) throws(QMError) in
        try Tensor(weights.shape, as: Float.self) { scaled in
          for channel in 0..<channels {
            var sum = 0.0
            for index in (channel * size)..<((channel + 1) * size) {
              sum += Double(elements[index])
              scaled[index] = Float(Double(elements[index]) * Double(scale))
            }
            bias[channel] += sum * Double(offset)
          }
        }
      }
      var inputs: [Graph.ValueID?] = [
        rewriter.value(source),
        rewriter.addConstant(
          name: graph[weightsID].name, scaled,
          stored: try graph[weightsID].stored?.scaled(by: [Double(scale)])),
      ]
      if offset != 0 || node.input(ProductOperand.bias) != nil {
        let name = node.input(ProductOperand.bias).map { graph[$0].name } ?? "\(node.name).bias"
        inputs.append(
          rewriter.addConstant(name: name, try Tensor([channels], bias.map { Float($0) })))
      }
      try rewriter.append(node.operation, name: node.name, inputs, replacing: node.outputs)
      rewriter.record(
        .init(inputScale: Double(scale), inputShift: Double(offset)), into: node,
        output: node.outputs[0])
    }
    return try rewriter.finished().then(RemoveDeadNodes())
  }

  /// The unscaled operands of a product of two activations, and the factor of the scaled one.
  private func scaledOperand(
    _ node: Graph.Node, _ matching: Matching
  ) -> (inputs: [Graph.ValueID], scale: Float)? {
    guard case .matrixMultiply(let product) = node.operation, product.epilogue == Epilogue(),
      node.inputs.count == 2, let left = node.input(0), let right = node.input(1), left != right,
      [left, right].allSatisfy({ matching.graph[$0].constant == nil })
    else { return nil }
    for (place, operand) in [left, right].enumerated() {
      if case (.affine(let scale, 0), let source)? = matching.unary(operand),
        matching.uses.onlyConsumer(of: operand) != nil
      {
        return (place == 0 ? [source, right] : [left, source], scale)
      }
    }
    return nil
  }

  private func isProduct(_ node: Graph.Node?) -> Bool {
    switch node?.operation {
    case .convolution, .matrixMultiply: true
    default: false
    }
  }

  private func takes(_ operation: Operation, offset: Float, weights: Tensor) -> Bool {
    switch operation {
    case .matrixMultiply(let product):
      return product.rightLayout == .channelsFirst && weights.shape.count == 2
    case .convolution(let convolution):
      guard offset != 0 else { return true }
      // Outputs of a transposed convolution use different subsets of the weights, so the offset has
      // no single bias.
      guard !convolution.isTransposed else { return false }
      guard case .explicit(let before, let after) = convolution.padding else { return false }
      return (before + after).allSatisfy { $0 == 0 }
    default: return false
    }
  }
}
