import QMOperations
import QMTensor

/// Given: a matrix product or convolution with constant weights that reads an input of the network, at
/// most moved; the largest weights of its input channels differ by more than 8 times, as they do
/// where the inputs were normalized by constants, or cut out by a window, that are now in the weights.
/// Result: each channel of the input is multiplied by its largest weight over that of all channels, and
/// its weights are divided by the same. One scale for all channels of the weights, and one for those
/// of the input, are then fine enough.
///
/// Given: such a product that reads values joined along the channels, of which the largest weights differ
/// by more than 8 times, as they do where a network joins small and large numbers.
/// Result: each of these values is multiplied by the power of two next to the same ratio, and its weights
/// are divided by it, which is exact.
///
/// Only for quantization: in float32 nothing is gained. Outputs are equal up to float rounding.
public struct EqualizeColumns: Pass {
  public static let name = "equalize-columns"

  /// Ratio of the largest weights of two channels from which all are scaled.
  private static let ratio: Float = 8
  /// Least factor of an input. A channel with smaller weights adds nothing to a sum of float32
  /// numbers of one size.
  private static let leastFactor: Float = 0x1p-40

  /// The pass; it has no options.
  public init() {}

  public func rewrite(_ graph: Graph) throws(QMError) -> Rewritten {
    let uses = Uses(graph)
    var rewriter = try Rewriter(graph)
    let moved = graph.movedInputs
    for node in graph.nodes {
      guard let input = node.input(ProductOperand.input), graph[input].type.elementType == .float32,
        let weights = ownWeights(of: node, graph, uses)
      else {
        try rewriter.copy(node)
        continue
      }
      var equalized: (input: Graph.ValueID, factors: Tensor)?
      if moved.contains(input), let factors = try factors(weights) {
        let columns = rewriter.addConstant(name: "\(node.name).columns", factors)
        equalized = (
          try rewriter.append(
            .binary(Binary(.multiply)), name: "\(node.name).equalized",
            [rewriter.value(input), columns])[0], factors
        )
      } else if let joined = joinedValues(input, graph, uses),
        let factors = factors(weights, blocks: joined.extents)
      {
        equalized = try join(joined, factors, for: node, &rewriter)
      }
      guard let equalized else {
        try rewriter.copy(node)
        continue
      }
      var inputs = node.inputs.map { input in input.map { rewriter.value($0) } }
      inputs[ProductOperand.input] = equalized.input
      if let weightsID = node.input(ProductOperand.weights) {
        inputs[ProductOperand.weights] = rewriter.addConstant(
          name: graph[weightsID].name,
          try Operation.binary(Binary(.divide)).evaluate([weights, equalized.factors])[0])
      }
      try rewriter.append(node.operation, name: node.name, inputs, replacing: node.outputs)
    }
    return try rewriter.finished().then(RemoveDeadNodes())
  }

  /// The constant weights of a product that no other node reads.
  private func ownWeights(of node: Graph.Node, _ graph: Graph, _ uses: Uses) -> Tensor? {
    guard let weightsID = node.input(ProductOperand.weights), isProduct(node.operation),
      let weights = graph[weightsID].constant, weights.elementType == .float32,
      graph[weightsID].stored == nil, uses.onlyConsumer(of: weightsID) != nil,
      node.inputs.count <= ProductOperand.weightScales
    else { return nil }
    return weights
  }

  /// Values that are joined along their last axis.
  private struct Joined {
    let concatenate: Concatenate
    let values: [Graph.ValueID]
    /// Their extents along this axis.
    let extents: [Int]
  }

  private func joinedValues(_ value: Graph.ValueID, _ graph: Graph, _ uses: Uses) -> Joined? {
    guard let producer = uses.producer(of: value),
      case .concatenate(let concatenate) = graph.nodes[producer].operation,
      concatenate.axis == graph[value].type.shape.rank - 1
    else { return nil }
    let values = graph.nodes[producer].inputs.compactMap { $0 }
    let extents = values.compactMap { graph[$0].type.shape.axes.last?.extent }
    guard values.count > 1, extents.count == values.count else { return nil }
    return Joined(concatenate: concatenate, values: values, extents: extents)
  }

  /// Joins the values multiplied by factors.
  private func join(
    _ joined: Joined, _ factors: [Float], for node: Graph.Node, _ rewriter: inout Rewriter
  ) throws(QMError) -> (Graph.ValueID, factors: Tensor) {
    var values: [Graph.ValueID] = []
    var columns: [Float] = []
    for (place, value) in joined.values.enumerated() {
      columns += [Float](repeating: factors[place], count: joined.extents[place])
      values.append(
        try factors[place] == 1
          ? rewriter.value(value)
          : rewriter.append(
            .unary(Unary(.affine(scale: factors[place], offset: 0))),
            name: "\(node.name).equalized.\(place)", [rewriter.value(value)])[0])
    }
    let result = try rewriter.append(
      .concatenate(joined.concatenate), name: "\(node.name).joined", values)[0]
    return (result, try Tensor([columns.count], columns))
  }

  /// A power of two for each block of channels; nil if the blocks are of about one size.
  private func factors(_ weights: Tensor, blocks: [Int]) -> [Float]? {
    let largest = EqualizeColumns.largest(weights)
    guard largest.count == blocks.reduce(0, +) else { return nil }
    var (start, sizes) = (0, [Float]())
    for count in blocks {
      sizes.append(largest[start..<start + count].max() ?? 0)
      start += count
    }
    let normal = sizes.filter { $0.isNormal }
    guard let high = normal.max(), let low = normal.min(), high.isFinite,
      low < high / EqualizeColumns.ratio
    else { return nil }
    return sizes.map { size in
      guard size.isNormal else { return 1 }
      let ratio = max(size / high, EqualizeColumns.leastFactor)
      let power = Float(sign: .plus, exponent: ratio.exponent, significand: 1)
      return ratio.significand >= 1.5 ? power * 2 : power
    }
  }

  private func isProduct(_ operation: Operation) -> Bool {
    switch operation {
    case .matrixMultiply(let product): product.rightLayout == .channelsFirst
    case .convolution(let convolution):
      convolution.order == .channelsLast && convolution.groups == 1 && !convolution.isTransposed
    default: false
    }
  }

  /// The factor of each channel of the input, along the last axis of the weights; nil if the channels
  /// are of about one size.
  private func factors(_ weights: Tensor) throws(QMError) -> Tensor? {
    let largest = EqualizeColumns.largest(weights)
    let sizes = largest.filter { $0.isNormal }
    guard largest.count > 1, let high = sizes.max(), let low = sizes.min(),
      high.isFinite, low < high / EqualizeColumns.ratio
    else { return nil }
    return try Tensor(
      [largest.count],
      largest.map { $0.isNormal ? max($0 / high, EqualizeColumns.leastFactor) : 1 })
  }

  /// The largest magnitude of each channel, along the last axis.
  private static func largest(_ weights: Tensor) -> [Float] {
    let count = weights.shape.last ?? 1
    var largest = [Float](repeating: 0, count: count)
    weights.withElements(as: Float.self) { elements in
      for (index, element) in elements.enumerated() {
        largest[index % count] = max(largest[index % count], abs(element))
      }
    }
    return largest
  }
}

extension Graph {
  /// The inputs of the network, and what data movement alone makes of them.
  fileprivate var movedInputs: Set<ValueID> {
    var moved = Set(inputs)
    for node in nodes {
      let source = node.operation.body.elementSource(operandCount: node.inputs.count)
      if case .moved(let operands) = source,
        operands.compactMap(node.input).allSatisfy(moved.contains)
      {
        moved.formUnion(node.outputs)
      }
    }
    return moved
  }

  /// Indices of the products that read an input of the network scaled by factors, after
  /// ``EqualizeColumns``, of which more than a quarter are below 1/64 of the largest one.
  public var productsOfUnlikeColumns: Set<Int> {
    let moved = movedInputs
    var unlike: Set<ValueID> = []
    var products: Set<Int> = []
    for (index, node) in nodes.enumerated() {
      if case .binary(let binary) = node.operation, binary.function == .multiply,
        node.input(0).map(moved.contains) ?? false,
        let factors = node.input(1).flatMap({ self[$0].constant }), factors.shape.count == 1,
        factors.elementType == .float32, factors.elementCount > 1
      {
        let sorted = factors.elements(as: Float.self).map { abs($0) }.sorted()
        if sorted[sorted.count / 4] < sorted[sorted.count - 1] / 64 {
          unlike.formUnion(node.outputs)
        }
      } else if let input = node.input(ProductOperand.input), unlike.contains(input),
        !node.operation.body.accumulators.products.isEmpty
      {
        products.insert(index)
      }
    }
    return products
  }
}
