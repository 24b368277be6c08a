import QMGraph
import QMOperations
import QMTensor

/// Corrects biases for the change of each output channel's mean that rounding the weights causes,
/// where that brings the outputs closer to the float network.
struct CorrectBiasesOfWeights: ConversionStep {
  func observations(_ state: ConversionState) -> Set<Observation> {
    guard case .codes = state.recipe.weights else { return [] }
    return Set(
      state.products.map {
        Observation(.means, of: OperandPlace(node: $0.index, operand: ProductOperand.input))
      })
  }

  func apply(
    to state: inout ConversionState, progress: (Conversion.Phase) -> Void
  ) throws(QMError) {
    guard let reference = state.reference else { return }
    let biases = try state.biases(correcting: state.plan)
    let graph = state.graph
    let activations = state.plan.activations
    state.plan.activations = [:]
    state.plan = try reference.keepingGains(
      of: biases, in: state.plan, halvings: state.recipe.effort.halvings,
      program: { (plan) throws(QMError) in try graph.inserting(plan).flattened().program })
    state.plan.activations = activations
  }
}

/// Corrects biases also for the rounding of the products' inputs, where that brings the outputs closer
/// to the float network.
struct CorrectBiasesOfActivations: ConversionStep {
  func apply(
    to state: inout ConversionState, progress: (Conversion.Phase) -> Void
  ) throws(QMError) {
    guard let reference = state.reference, state.recipe.activations == .int8 else { return }
    var parameters: [Graph.ValueID: QuantizationParameters] = [:]
    for product in state.products {
      if case .fixed(let fixed) = state.plan.activations[product.input] {
        parameters[product.input] = fixed
      }
    }
    guard !parameters.isEmpty else { return }
    let means = try reference.means(of: parameters)
    let graph = state.graph
    // Products whose inputs are not rounded keep the bias corrected with means over all samples.
    let biases = try state.correctedBiases(of: state.plan) { product in
      guard let (exact, rounded) = means[product.input],
        let shifts = state.means(
          zip(exact.means, rounded.means).map { $1 - $0 }, inWindowsOf: product),
        let means = state.windowMeans(of: product)
      else { return nil }
      return (means, zip(means, shifts).map { $0 + $1 })
    }
    state.plan = try reference.keepingGains(
      of: biases, in: state.plan, halvings: state.recipe.effort.halvings,
      program: { (plan) throws(QMError) in
        try graph.inserting(plan).lowered().flattened().program
      })
  }
}

extension ConversionState {
  /// The mean of each element of a product's windows: as observed, or, for windows too long for
  /// second moments, from the means of the channels.
  fileprivate func windowMeans(of product: Product) -> [Double]? {
    windowMeans[OperandPlace(node: product.index, operand: ProductOperand.weights)]
      ?? statistics.means[OperandPlace(node: product.index, operand: ProductOperand.input)]
      .flatMap { means($0.means, inWindowsOf: product) }
  }

  /// Means of channels at the positions that the channels have in the windows of a product. The
  /// zeros of padding are ignored.
  fileprivate func means(_ channels: [Double], inWindowsOf product: Product) -> [Double]? {
    guard let shape = graph[product.weights].constant?.shape, let ofGroup = shape.last, ofGroup > 0,
      channels.count % ofGroup == 0
    else { return nil }
    let taps = shape.dropFirst().reduce(1, *) / ofGroup
    return stride(from: 0, to: channels.count, by: ofGroup).flatMap { first in
      (0..<taps).flatMap { _ in channels[first..<first + ofGroup] }
    }
  }

  /// The biases that correct the rounding of a plan's weights, by index of the node.
  func biases(correcting plan: Plan) throws(QMError) -> [Int: Tensor] {
    var biases = try correctedBiases(of: plan) { product in
      windowMeans(of: product).map { (exact: $0, rounded: $0) }
    }
    for (index, node) in quantizableNodes {
      if let bias = try recurrentBias(of: node, at: index, correcting: plan) {
        biases[index] = bias
      }
    }
    return biases
  }

  /// The bias of a recurrent layer that corrects the rounding of its weights by the means of its
  /// inputs, and of its recurrence by those of its states: float32 `[D, 2·G·H]`.
  private func recurrentBias(
    of node: Graph.Node, at index: Int, correcting plan: Plan
  ) throws(QMError) -> Tensor? {
    guard case .recurrent(let recurrent) = node.operation, let values = recurrentWeights(of: node),
      values.allSatisfy({ plan.weights[$0] != nil && graph[$0].stored == nil })
    else { return nil }
    let own = node.input(RecurrentOperand.bias)
    guard own.map({ graph[$0].constant != nil }) ?? true,
      let recurrence = graph[values[1]].constant, recurrence.shape.count == 2
    else { return nil }
    let hidden = recurrence.shape[1]
    let rows = recurrent.cell.gateCount * hidden
    let directions = recurrence.shape[0] / rows
    var bias =
      own.flatMap { graph[$0].constant?.elements(as: Float.self) }
      ?? [Float](repeating: 0, count: directions * 2 * rows)
    let operands = [RecurrentOperand.weights, RecurrentOperand.recurrence]
    for (part, (operand, value)) in zip(operands, values).enumerated() {
      guard let means = windowMeans[OperandPlace(node: index, operand: operand)],
        let weights = graph[value].constant, let rounded = plan.weights[value],
        let shifts = try BiasCorrection.corrected(
          nil, weights: weights, rounded: rounded, means: means, roundedMeans: means)
      else { continue }
      // The candidate of this cell multiplies states that a gate has changed, of unknown means.
      let corrected = recurrent.cell == .gru && part == 1 ? rows - hidden : rows
      let elements = shifts.elements(as: Float.self)
      for direction in 0..<directions {
        for row in 0..<corrected {
          bias[(2 * direction + part) * rows + row] += elements[direction * rows + row]
        }
      }
    }
    return try Tensor([directions, 2 * rows], bias)
  }

  /// Corrected biases by index of the node, for all products with rounded weights and known means.
  /// - Parameter means: means of the windows of a product, before and after rounding its input.
  fileprivate func correctedBiases(
    of plan: Plan, _ means: (Product) -> (exact: [Double], rounded: [Double])?
  ) throws(QMError) -> [Int: Tensor] {
    var biases: [Int: Tensor] = [:]
    // Weights that the network's file stores as codes are not rounded again. A steep function
    // magnifies the shift of small numbers, which matter as much as large ones there.
    for product in products
    where graph[product.weights].stored == nil && !steepFunctions.follow(product.node) {
      let bias = product.node.input(ProductOperand.bias).map { graph[$0].constant }
      guard let means = means(product), let constant = graph[product.weights].constant,
        let rounded = plan.weights[product.weights], bias.map({ $0 != nil }) ?? true
      else { continue }
      biases[product.index] = try BiasCorrection.corrected(
        bias.flatMap { $0 }, weights: constant, rounded: rounded, means: means.exact,
        roundedMeans: means.rounded)
    }
    return biases
  }
}
