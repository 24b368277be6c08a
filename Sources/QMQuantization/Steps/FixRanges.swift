import QMGraph
import QMOperations
import QMRuntime
import QMTensor

/// Gives each group of activations a scale and zero point for its range over the samples.
struct FixRanges: ConversionStep {
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
    guard state.recipe.needsSamples else { return }
    let (wide, reasons) = try decide(state)
    let activations = state.codedActivations.filter { reasons[state.groups.group(of: $0)] == nil }
    let (ranges, unseen) = ranges(of: activations, state)

    var plan = state.plan
    plan.activations = [:]
    for value in state.dynamic { plan.activations[value] = .dynamic }
    for value in activations where !unseen.contains(value) {
      let group = state.groups.group(of: value)
      guard let range = ranges[group] else { continue }
      plan.activations[value] = .fixed(
        FixRanges.parameters(range, isWide: wide.contains(group)))
    }
    state.floatReasons = [:]
    for value in state.codedActivations {
      if let reason = reasons[state.groups.group(of: value)] { state.floatReasons[value] = reason }
    }
    for value in unseen { state.floatReasons[value] = .unseen }
    // A product whose input no sample computes quantizes it dynamically.
    for product in state.products where unseen.contains(product.input) {
      plan.activations[product.input] = .dynamic
    }
    state.plan = plan
  }

  /// The groups that become int16, and the reasons why other groups stay float32.
  private func decide(
    _ state: ConversionState
  ) throws(QMError) -> (wide: Set<Int>, reasons: [Int: FloatReason]) {
    let wide = wideGroups(state)
    let products = state.groupsOfProducts
    let tolerated = Comparison.ratio(
      ofDecibels: state.recipe.thresholds.toleratedByProductsDecibels)
    var reasons = state.reasons.filter { (group, reason) in
      if case .sensitive(let ratio) = reason, ratio >= tolerated, products.contains(group) {
        return false
      }
      return !wide.contains(group)
    }
    for value in state.codedActivations {
      guard let seen = state.statistics(of: value), seen.nonFiniteCount > 0 else { continue }
      guard !state.graph.inputs.contains(value) else {
        throw QMError.invalidInput(
          "\(seen.nonFiniteCount) elements are NaN or infinite over the samples; remove the samples that cause this"
        ).within(.value(state.graph[value].name))
      }
      reasons[state.groups.group(of: value)] = .nonFinite
    }
    return (wide, reasons)
  }

  /// The range of each group, and the values that no sample computes.
  private func ranges(
    of activations: [Graph.ValueID], _ state: ConversionState
  ) -> (ranges: [Int: (low: Float, high: Float)], unseen: Set<Graph.ValueID>) {
    var ranges: [Int: (low: Float, high: Float)] = [:]
    var covered: Set<Graph.ValueID> = []
    var unseen: Set<Graph.ValueID> = []
    for value in activations {
      let range: ClosedRange<Float>
      if let analytic = state.groups.analyticRange(of: value) {
        range = analytic
      } else if let seen = state.statistics(of: value),
        !state.groups.isMoved(value, fromAnyOf: unseen)
      {
        range = state.recipe.rangeEstimator.range(of: seen)
      } else {
        // No sample computes it: it is in a branch that no sample chooses, or depends on such a
        // branch through an If.
        if state.groups.isMoved(value, fromAllOf: covered) {
          covered.insert(value)
        } else {
          unseen.insert(value)
        }
        continue
      }
      covered.insert(value)
      let group = state.groups.group(of: value)
      let known = ranges[group] ?? (0, 0)
      ranges[group] = (min(known.low, range.lowerBound), max(known.high, range.upperBound))
    }
    return (ranges, unseen)
  }

  /// Parameters of int8 codes that cover a range, or of int16 codes with zero point 0 that cover
  /// four times the range.
  private static func parameters(
    _ range: (low: Float, high: Float), isWide: Bool
  ) -> QuantizationParameters {
    let magnitude = max(-range.low, range.high)
    let parameters =
      isWide
      ? QuantizationParameters(.int16, scale: magnitude / 32767 * 4, zeroPoint: 0)
      : QuantizationParameters(covering: range.low, range.high)
    // The scale of a product's accumulator, input scale · weight scale, must be a normal number. A
    // range this small is treated as zeros.
    guard parameters.scale < 0x1p-68 else { return parameters }
    return QuantizationParameters(parameters.elementType, scale: 1, zeroPoint: 0)
  }

  // MARK: int16

  /// The groups that are too sensitive for int8 and whose readers all accept int16: products with
  /// weights for which 32-bit accumulators are proven not to overflow.
  private func wideGroups(_ state: ConversionState) -> Set<Int> {
    var wide: Set<Int> = []
    for (group, reason) in state.reasons {
      if case .sensitive = reason { wide.insert(group) }
    }
    for (_, node) in state.quantizableNodes {
      let operands = state.integerOperands(of: node)
      for (position, input) in node.inputs.enumerated() {
        guard let input, wide.contains(state.groups.group(of: input)) else { continue }
        if operands.contains(input) {
          guard position == ProductOperand.input, takesInt16(node, state) else {
            wide.remove(state.groups.group(of: input))
            continue
          }
        } else if case .resize = node.operation {
          wide.remove(state.groups.group(of: input))
        }
      }
    }
    return wide
  }

  private func takesInt16(_ node: Graph.Node, _ state: ConversionState) -> Bool {
    guard let weights = state.constantWeights(of: node),
      let codes = (state.graph[weights].codes ?? state.plan.weights[weights])?.codes
    else { return false }
    if case .convolution(let convolution) = node.operation {
      guard convolution.groups == 1 || (codes.shape.last ?? 1) > 1 else { return false }
    }
    return node.operation.body.accumulators.products.allSatisfy {
      AccumulatorBound.keepsHalf(codes, $0.layout, by: .int16)
    }
  }
}
