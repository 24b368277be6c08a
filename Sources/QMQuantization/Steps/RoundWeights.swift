import QMGraph
import QMOperations
import QMTensor

/// Rounds the weights of products and recurrent layers by ``GPTQ`` where enough samples were observed,
/// and otherwise, and those of tables, to the nearest codes. In a network
/// that is quantized already, weights that it leaves in float32 stay float32, unless the recipe
/// gives their node a width.
struct RoundWeights: ConversionStep {
  func observations(_ state: ConversionState) -> Set<Observation> {
    guard case .codes = state.recipe.weights else { return [] }
    return Set(
      state.graph.placesOfWeights
        .filter { !state.floatNodes.contains($0.node) }
        .map { Observation(.secondMoments, of: $0) })
  }

  func apply(
    to state: inout ConversionState, progress: (Conversion.Phase) -> Void
  ) throws(QMError) {
    guard case .codes(let bits) = state.recipe.weights else { return }
    progress(.rounding)
    let activations = state.recipe.activations
    for (index, node) in state.quantizableNodes {
      let width = state.widths[index] ?? bits
      let rounding = NearestRounding(bits: width, granularity: state.recipe.granularity)
      if let weights = state.recurrentWeights(of: node) {
        try round(weights, of: node, at: index, rounding, in: &state)
        // A recurrent layer always quantizes its input dynamically, unless the recipe says float.
        if activations != .float, let input = node.input(RecurrentOperand.input) {
          state.dynamic.insert(input)
        }
      } else if let table = state.embedding(of: node) {
        let rows = NearestRounding(bits: width, granularity: .perChannel(axis: 0))
        try round([table], of: node, at: index, rows, in: &state)
      } else if let weights = state.constantWeights(of: node) {
        let product = NearestRounding(
          bits: width, granularity: granularity(of: weights, in: node, state))
        try round([weights], of: node, at: index, product, in: &state)
        if activations != .float, mayOverflow(weights, of: node, state) {
          state.plan.weights[weights] = nil
          state.plan.floatNodes.insert(index)
          continue
        }
        if activations == .dynamic, let input = node.input(ProductOperand.input) {
          state.dynamic.insert(input)
        }
      }
    }
    for value in state.dynamic { state.plan.activations[value] = .dynamic }
  }

  /// The granularity of a product's weights: per group if the recipe has a group size and the
  /// weights have more than one group, else the recipe's granularity.
  private func granularity(
    of weights: Graph.ValueID, in node: Graph.Node, _ state: ConversionState
  ) -> Granularity {
    let operands = node.operation.body.weightOperands(of: state.graph.operands(of: node))
    guard let size = state.recipe.groupSize, let axis = operands.first?.groupAxis,
      let shape = state.graph[weights].constant?.shape, shape[axis] > size
    else { return state.recipe.granularity }
    return .perGroup(axis: axis, size: size)
  }

  /// Whether the sums of a product of int8 codes are not proven to stay within 32 bits: there are too
  /// many.
  private func mayOverflow(
    _ weights: Graph.ValueID, of node: Graph.Node, _ state: ConversionState
  ) -> Bool {
    guard let codes = state.plan.weights[weights]?.codes else { return false }
    return !node.operation.body.accumulators.products.allSatisfy {
      AccumulatorBound.keepsHalf(codes, $0.layout, by: .int8)
    }
  }

  private func round(
    _ weights: [Graph.ValueID], of node: Graph.Node, at index: Int, _ rounding: NearestRounding,
    in state: inout ConversionState
  ) throws(QMError) {
    if state.graph.isQuantized, state.widths[index] == nil,
      weights.contains(where: { state.graph[$0].stored == nil })
    {
      return
    }
    for weights in weights where state.plan.weights[weights] == nil {
      guard let constant = state.graph[weights].constant, constant.elementCount > 0,
        let position = node.inputs.firstIndex(of: weights)
      else { continue }
      let covariance = state.covariances[OperandPlace(node: index, operand: position)]
      let (kernels, threads) = (state.kernels, state.threads)
      state.plan.weights[weights] = try within(
        .node(name: node.name, operation: node.operation.name)
      ) { () throws(QMError) in
        guard let covariance else { return try rounding.quantize(constant) }
        let grid = try rounding.grid(for: constant, importance: covariance.importance)
        return try grid.quantized(
          GPTQ(covariance, kernels: kernels, threads: threads).round(constant, to: grid).codes)
      }
    }
  }
}
