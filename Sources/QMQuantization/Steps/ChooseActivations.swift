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
        .map { Observation(state.recipe.rangeEstimator == .minMax ? .range : .histogram, of: $0) })
  }

  func apply(
    to state: inout ConversionState, progress: (Conversion.Phase) -> Void
  ) throws(QMError) {
    guard state.recipe.needsSamples, let reference = state.reference else { return }
    state.separateRanges()
    try state.keepNonFinite()
    let activations = state.quantizableActivations
    let ranges = ActivationRanges(of: activations, state)
    let points = ActivationPoints(
      of: activations, ranges, state, shapes: try reference.shapes())
    let outcome = try ActivationSearch(state, reference, points).run(progress: progress)
    progress(.rounding)

    let types = outcome.candidates[outcome.chosen].types
    state.plan = points.plan(types, from: state.plan)
    state.floatReasons = [:]
    for value in state.codedActivations {
      if let reason = state.reasons[state.groups.group(of: value)] {
        state.floatReasons[value] = reason
      }
    }
    for value in ranges.unseen { state.floatReasons[value] = .unseen }
    for (index, point) in points.points.enumerated()
    where types[index] == .float {
      let error = outcome.contributions[index] ?? 0
      for value in point.values {
        state.floatReasons[value] = .sensitive(signalToNoise: error > 0 ? 1 / error : .infinity)
      }
    }
    state.alternatives = Conversion.Alternative.all(of: outcome)
  }
}
