import QMGraph
import QMOperations
import QMTensor

/// Rounds the weights of products, recurrent layers and tables: by ``GPTQ`` where enough samples were
/// observed, otherwise to the nearest codes. In a network that is quantized already, weights that it
/// leaves in float32 stay float32, unless the recipe gives their node a width. With 16 bits, weights
/// become float16.
struct RoundWeights: ConversionStep {
  /// Largest magnitudes of weights that float16 holds with most of its eleven bits.
  private static let float16Magnitudes: ClosedRange<Float> = 0x1p-12...65504

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
    if state.recipe.weights == .float16 {
      let fitting = try state.networkWeights().filter {
        RoundWeights.fitsFloat16($0.value, state)
      }
      state.plan.halfWeights = Set(fitting.map(\.value))
      return
    }
    guard case .codes(let bits) = state.recipe.weights else { return }
    progress(.rounding)
    let weights = try state.networkWeights()
    let rounded: [QuantizedTensor]
    if state.grid == .free {
      let results = try FreeGridRounding(weights, bits: bits, state).run(progress: progress)
      rounded = results.map(\.rounded.tensor)
      state.roundedWeights = zip(weights, results).map { weights, result in
        ConversionState.RoundedWeights(
          node: weights.place.node, value: weights.value,
          count: weights.tensor.weights.elementCount, bits: result.rounded.bits,
          outputError: result.outputError)
      }
    } else {
      guard let bits = state.recipe.weights.codeWidth else {
        throw .usage("\(bits) bits in a fixed grid; expected 2 to 8 without a fraction")
      }
      rounded = try weights.map { (weights) throws(QMError) in
        try weights.tensor.rounded(
          to: state.fixedGrid(weights, state.widths[weights.place.node] ?? bits))
      }
    }
    for (weights, codes) in zip(weights, rounded) { state.plan.weights[weights.value] = codes }
    chooseFloatAndDynamic(&state)
    try keepTransforms(weights, rounded, &state)
  }

  /// Error of all weights, as power over the power of the signal, up to which nothing is done: 35 dB.
  private static let smallError = 3.2e-4

  /// At 8 bits, the transforms of waveforms whose spectrum has a logarithm become float16 if most of the
  /// error of all weights is theirs: the logarithm magnifies the error of weak bands.
  private func keepTransforms(
    _ weights: [NetworkWeights], _ rounded: [QuantizedTensor], _ state: inout ConversionState
  ) throws(QMError) {
    guard state.recipe.weights.bits >= 8, let reference = state.reference, !reference.areMade else {
      return
    }
    let transforms = Set(
      weights.indices.filter { index in
        let node = weights[index].place.node
        return state.graph.nodes[node].input(ProductOperand.input)
          .map(state.front.waveforms.contains) ?? false
          && state.widths[node] == nil && state.plan.weights[weights[index].value] != nil
          && RoundWeights.fitsFloat16(weights[index].value, state)
      })
    guard !transforms.isEmpty else { return }
    let gains = WeightGains(tensors: weights, state: state, reference: reference)
    func errors(
      _ tensors: [Int], like base: OutputErrors? = nil
    ) throws(QMError) -> OutputErrors {
      try gains.errors(tensors.map { ($0, rounded[$0]) }, like: base)
    }
    let all = try errors(Array(weights.indices))
    guard all.meanLogarithm > naturalLogarithm(RoundWeights.smallError) else { return }
    let others = try errors(weights.indices.filter { !transforms.contains($0) }, like: all)
    guard all.meanLogarithm - others.meanLogarithm > naturalLogarithm(2) else { return }
    for index in transforms {
      let place = weights[index]
      state.plan.weights[place.value] = nil
      state.plan.halfWeights.insert(place.value)
    }
  }

  /// Products whose sums may exceed 32 bits run in float32; inputs of recurrent layers, and without
  /// fixed ranges those of all products, are quantized dynamically. A waveform that no sample shows, and
  /// whose spectrum has a logarithm, stays float32; at 8 bits the weights of its transform are float16.
  private func chooseFloatAndDynamic(_ state: inout ConversionState) {
    let activations = state.recipe.activations
    guard activations != .float else { return }
    // Weights of fewer bits count in a budget.
    let hasBudget = state.recipe.weights.bits < 8
    let unseenWaveforms = state.reference?.areMade ?? true ? state.front.waveforms : []
    for (index, node) in state.quantizableNodes {
      if let weights = state.recurrentWeights(of: node) {
        guard weights.allSatisfy({ state.plan.weights[$0] != nil || state.graph[$0].stored != nil })
        else { continue }
        if let input = node.input(RecurrentOperand.input) { state.dynamic.insert(input) }
      } else if state.embedding(of: node) == nil,
        let weights = state.constantWeights(of: node)
      {
        if mayOverflow(weights, of: node, state) {
          state.plan.weights[weights] = nil
          state.plan.floatNodes.insert(index)
        } else if activations == .dynamic, let input = node.input(ProductOperand.input),
          !state.front.spectra.contains(input)
        {
          if !unseenWaveforms.contains(input) {
            state.dynamic.insert(input)
          } else if !hasBudget, state.widths[index] == nil, RoundWeights.fitsFloat16(weights, state)
          {
            state.plan.weights[weights] = nil
            state.plan.halfWeights.insert(weights)
          }
        }
      }
    }
    for value in state.dynamic { state.plan.activations[value] = .dynamic }
  }

  private static func fitsFloat16(_ weights: Graph.ValueID, _ state: ConversionState) -> Bool {
    state.graph[weights].constant?.withElements(as: Float.self) { elements in
      float16Magnitudes.contains(elements.reduce(0) { max($0, abs($1)) })
    } ?? false
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
}
