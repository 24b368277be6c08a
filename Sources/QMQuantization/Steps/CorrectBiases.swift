import QMGraph
import QMOperations
import QMTensor

/// Corrects biases for what rounding the weights does to the mean of each output channel.
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

/// Corrects biases for what rounding the inputs to their codes does too, where that brings the worst
/// output closer to the float network: it does on most networks only.
struct CorrectBiasesOfActivations: ConversionStep {
  func apply(
    to state: inout ConversionState, progress: (Conversion.Phase) -> Void
  ) throws(QMError) {
    // Recurrent networks feed back what a corrected bias shifts, and are left as they are.
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
    // Products whose inputs stay as they are keep what is known of them from all samples.
    corrected.biases.merge(try state.correctedBiases { means[$0.input] }) { $1 }
    var candidates: [ReferenceRuns.Candidate] = []
    for plan in [state.plan, corrected] {
      let program = try state.graph.inserting(plan).lowered().flattened().program
      candidates.append(.init(program: program))
    }
    try reference.measure(
      &candidates, onSamples: state.recipe.thresholds.measuredSamples, progress: progress)
    let isBetter = candidates[1].worstSignalToNoise > candidates[0].worstSignalToNoise
    if isBetter { state.plan = corrected }
    state.measured = candidates[isBetter ? 1 : 0]
  }
}

extension ConversionState {
  fileprivate var hasRecurrentLayers: Bool {
    graph.nodes.contains { if case .recurrent = $0.operation { true } else { false } }
  }

  /// Corrected biases by number of the node, as far as means of the inputs are known.
  /// - Parameter means: of a product's input over the same samples, as it is and as its codes stand
  ///   for it.
  fileprivate func correctedBiases(
    _ means: (Product) -> (exact: ChannelMeans, rounded: ChannelMeans)?
  ) throws(QMError) -> [Int: Tensor] {
    var biases: [Int: Tensor] = [:]
    // Weights that the network brought as codes are not rounded.
    for product in products where graph[product.weights].codes == nil {
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
