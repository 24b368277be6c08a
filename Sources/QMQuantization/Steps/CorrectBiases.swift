import QMGraph
import QMOperations
import QMTensor

/// Corrects biases for what rounding the weights does to the mean of each output channel.
struct CorrectBiasesOfWeights: ConversionStep {
  func observations(_ state: ConversionState) -> Set<Observation> {
    guard case .codes = state.recipe.weights else { return [] }
    return Set(state.products.map { .means($0.input) })
  }

  func apply(
    to state: inout ConversionState, progress: (Conversion.Phase) -> Void
  ) throws(QMError) {
    state.plan.biases = try state.correctedBiases()
  }
}

/// Corrects biases for what rounding the inputs to their codes does too, where that brings the worst
/// output closer to the float network: it does on most networks only.
struct CorrectBiasesOfActivations: ConversionStep {
  var observesPlan: Bool { true }

  /// Recurrent networks feed back what a corrected bias shifts, and are left as they are.
  func observations(_ state: ConversionState) -> Set<Observation> {
    guard state.recipe.activations == .int8, !state.hasRecurrentLayers else { return [] }
    var observations: Set<Observation> = []
    for product in state.products {
      if case .fixed(let parameters) = state.plan.activations[product.input] {
        observations.insert(.roundedMeans(product.input, parameters))
      }
    }
    return observations
  }

  func apply(
    to state: inout ConversionState, progress: (Conversion.Phase) -> Void
  ) throws(QMError) {
    guard let reference = state.reference, !observations(state).isEmpty else { return }
    var corrected = state.plan
    corrected.biases = try state.correctedBiases()
    var candidates: [ReferenceRuns.Candidate] = []
    for plan in [state.plan, corrected] {
      let program = try state.graph.inserting(plan).lowered().flattened().program
      candidates.append(.init(program: program))
    }
    try reference.measure(&candidates, progress: progress)
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
  fileprivate func correctedBiases() throws(QMError) -> [Int: Tensor] {
    var biases: [Int: Tensor] = [:]
    // Weights that the network brought as codes are not rounded.
    for product in products where graph[product.weights].codes == nil {
      let bias = product.node.input(ProductOperand.bias).map { graph[$0].constant }
      guard let means = statistics.means[product.input],
        let constant = graph[product.weights].constant,
        let rounded = plan.weights[product.weights], bias.map({ $0 != nil }) ?? true
      else { continue }
      biases[product.index] = try BiasCorrection.corrected(
        bias.flatMap { $0 }, weights: constant, rounded: rounded, means: means.means,
        roundedMeans: (statistics.roundedMeans[product.input] ?? means).means)
    }
    return biases
  }
}
