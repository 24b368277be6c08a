import QMGraph
import QMOperations
import QMTensor

/// Constant weights of a network that a conversion rounds to codes.
struct NetworkWeights {
  /// The operand by which its first node reads it.
  let place: OperandPlace
  let value: Graph.ValueID
  let tensor: WeightTensor
}

extension ConversionState {
  /// The weights that the recipe rounds, in the order of their first nodes.
  func networkWeights() throws(QMError) -> [NetworkWeights] {
    var seen: Set<Graph.ValueID> = []
    var tensors: [NetworkWeights] = []
    for (index, node) in quantizableNodes {
      let table = embedding(of: node)
      let weights =
        recurrentWeights(of: node) ?? table.map { [$0] } ?? constantWeights(of: node).map { [$0] }
        ?? []
      // A quantized network keeps in float32 what it left in float32.
      let isKept =
        graph.isQuantized && widths[index] == nil
        && weights.contains { graph[$0].stored == nil }
      for value in weights where !isKept && seen.insert(value).inserted {
        guard let constant = graph[value].constant, constant.elementCount > 0,
          let position = node.inputs.firstIndex(of: value)
        else { continue }
        // Codes stand for finite numbers only: other constants stay in float32, such as a table of
        // biases with −∞ for what is masked.
        guard WeightGrid.isFinite(constant) else { continue }
        let place = OperandPlace(node: index, operand: position)
        tensors.append(
          NetworkWeights(
            place: place, value: value,
            tensor: WeightTensor(
              weights: constant, use: table == nil ? .product : .table,
              covariance: covariances[place], kernels: kernels, threads: threads)))
      }
    }
    return tensors
  }

  /// The grid of codes of `width` bits, with a scale for each channel, group or tensor as the recipe
  /// says.
  func fixedGrid(_ weights: NetworkWeights, _ width: BitWidth) throws(QMError) -> WeightGrid {
    let (tensor, node) = (weights.tensor, graph.nodes[weights.place.node])
    var granularity = recipe.granularity
    if tensor.use == .table {
      granularity = .perChannel(axis: 0)
    } else if let size = recipe.groupSize,
      let axis = node.operation.body.weightOperands(of: graph.operands(of: node)).first?.groupAxis,
      tensor.weights.shape[axis] > size
    {
      granularity = .perGroup(axis: axis, size: size)
    }
    return try NearestRounding(bits: width, granularity: granularity)
      .grid(for: tensor.weights, importance: tensor.covariance?.importance)
  }
}
