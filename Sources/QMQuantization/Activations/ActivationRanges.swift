import QMGraph
import QMOperations
import QMTensor

/// The quantization parameters that the samples give each group of activations.
struct ActivationRanges {
  /// Parameters of int8 codes that cover a group's range, by group.
  private(set) var int8: [Int: QuantizationParameters] = [:]
  /// Parameters of int16 codes with zero point 0 that cover four times the range, by group.
  private(set) var int16: [Int: QuantizationParameters] = [:]
  /// Activations that no sample computes.
  private(set) var unseen: Set<Graph.ValueID> = []

  /// No ranges: activations are quantized in the run, or stay float32.
  init() {}

  /// - Parameters:
  ///   - activations: all values of the groups that may have fixed parameters.
  ///   - state: has the statistics of the activations.
  init(of activations: [Graph.ValueID], _ state: ConversionState) {
    var ranges: [Int: (low: Float, high: Float)] = [:]
    var covered: Set<Graph.ValueID> = []
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
    for (group, range) in ranges {
      let magnitude = max(-range.low, range.high)
      int8[group] = ActivationRanges.usable(.init(covering: range.low, range.high))
      int16[group] = ActivationRanges.usable(
        .init(.int16, scale: magnitude / 32767 * 4, zeroPoint: 0))
    }
  }

  /// The scale of a product's accumulator, input scale · weight scale, must be a normal number. A
  /// range smaller than that is treated as zeros.
  private static func usable(_ parameters: QuantizationParameters) -> QuantizationParameters {
    guard parameters.scale < 0x1p-68 else { return parameters }
    return QuantizationParameters(parameters.elementType, scale: 1, zeroPoint: 0)
  }
}
