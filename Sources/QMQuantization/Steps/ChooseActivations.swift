import QMGraph
import QMOperations
import QMRuntime
import QMTensor

/// Gives each group of activations its type, scale and zero point: the cheapest types whose errors
/// together, measured on samples, add little to those of the weights.
struct ChooseActivations: ConversionStep {
  func observations(_ state: ConversionState) -> Set<Observation> {
    guard state.recipe.needsSamples else { return [] }
    return Set(
      state.quantizableActivations
        .filter { state.groups.analyticRange(of: $0) == nil }
        .compactMap { state.places[$0] }
        .map {
          Observation(state.recipe.rangeEstimator.needsHistogram ? .histogram : .range, of: $0)
        })
  }

  func apply(
    to state: inout ConversionState, progress: (Conversion.Phase) -> Void
  ) throws(QMError) {
    guard let reference = state.reference, state.recipe.activations != .float else { return }
    var (activations, ranges): ([Graph.ValueID], ActivationRanges) = ([], ActivationRanges())
    if state.recipe.needsSamples {
      state.separateRanges()
      try state.keepNonFinite()
      activations = state.quantizableActivations
      ranges = ActivationRanges(of: activations, state)
    }
    let points = ActivationPoints(
      of: activations, ranges, state, shapes: try reference.shapes())
    guard state.recipe.needsSamples || !points.points.isEmpty else { return }
    let outcome = try ActivationSearch(state, reference, points).run(progress: progress)
    progress(.rounding)

    let types = outcome.candidates[outcome.chosen].types
    state.plan = points.plan(types, from: state.plan)
    state.floatReasons = [:]
    if state.recipe.needsSamples {
      for value in state.codedActivations {
        state.floatReasons[value] = state.reasons[state.groups.group(of: value)]
      }
    }
    for value in ranges.unseen { state.floatReasons[value] = .unseen }
    for (index, point) in points.points.enumerated()
    where types[index] == .float {
      let error = outcome.contributions[index] ?? 0
      for value in point.values + point.dynamicValues {
        state.floatReasons[value] = .sensitive(signalToNoise: error > 0 ? 1 / error : .infinity)
      }
    }
    state.alternatives = Conversion.Alternative.all(of: outcome)
  }
}
