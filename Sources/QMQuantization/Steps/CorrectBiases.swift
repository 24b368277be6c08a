import QMGraph
import QMOperations
import QMTensor

/// Corrects biases for the change of each output channel's mean that rounding the weights causes.
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
    let means = state.statistics.means
    state.plan.biases = try state.correctedBiases { product in
      means[OperandPlace(node: product.index, operand: ProductOperand.input)]
        .map { (exact: $0, rounded: $0) }
    }
  }
}

/// Corrects biases also for the rounding of the products' inputs, if that brings the worst output
/// closer to the float network, which it does for most networks.
struct CorrectBiasesOfActivations: ConversionStep {
  func apply(
    to state: inout ConversionState, progress: (Conversion.Phase) -> Void
  ) throws(QMError) {
    // A recurrent network feeds the shift of a corrected bias back into its state, so it is left
    // out.
    guard let reference = state.reference, state.recipe.activations == .int8,
      !state.hasRecurrentLayers
    else { return }
    var parameters: [Graph.ValueID: QuantizationParameters] = [:]
    for product in state.products {
      if case .fixed(let fixed) = state.plan.activations[product.input] {
        parameters[product.input] = fixed
      }
    }
    guard !parameters.isEmpty else { return }
    let means = try reference.means(of: parameters)
    var corrected = state.plan
    // Products whose inputs are not rounded keep the bias corrected with means over all samples.
    corrected.biases.merge(try state.correctedBiases { means[$0.input] }) { $1 }
    var candidates: [ReferenceRuns.Candidate] = []
    for plan in [state.plan, corrected] {
      let program = try state.graph.inserting(plan).lowered().flattened().program
      candidates.append(.init(program: program))
    }
    try reference.measure(
      &candidates, at: reference.roles.choose, progress: progress)
    if candidates[1].worstSignalToNoise > candidates[0].worstSignalToNoise {
      state.plan = corrected
    }
  }
}

extension ConversionState {
  fileprivate var hasRecurrentLayers: Bool {
    graph.nodes.contains { if case .recurrent = $0.operation { true } else { false } }
  }

  /// Corrected biases by index of the node, for all products with known means.
  /// - Parameter means: channel means of a product's input, before and after rounding, over the
  ///   same samples.
  fileprivate func correctedBiases(
    _ means: (Product) -> (exact: ChannelMeans, rounded: ChannelMeans)?
  ) throws(QMError) -> [Int: Tensor] {
    var biases: [Int: Tensor] = [:]
    // Weights that the network's file stores as codes are not rounded again.
    for product in products where graph[product.weights].stored == nil {
      let bias = product.node.input(ProductOperand.bias).map { graph[$0].constant }
      guard let means = means(product), let constant = graph[product.weights].constant,
        let rounded = plan.weights[product.weights], bias.map({ $0 != nil }) ?? true
      else { continue }
      biases[product.index] = try BiasCorrection.corrected(
        bias.flatMap { $0 }, weights: constant, rounded: rounded, means: means.exact.means,
        roundedMeans: means.rounded.means)
    }
    return biases
  }
}
