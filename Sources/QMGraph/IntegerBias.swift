import QMOperations
import QMTensor

/// A bias in units of the accumulator that it is added to:
/// `code[c] = roundToNearestEven(bias[c] / (inputScale · weightScale[c]))`.
struct IntegerBias {
  let codes: [Int32]
  /// What one code stands for, per channel: `inputScale · weightScale`, rounded once to float32.
  private let units: [Float]

  /// - Parameters:
  ///   - bias: float32, one number per output channel.
  ///   - weightScales: one per output channel, or one for all.
  /// - Returns: nil if a code would reach half of the accumulator's range, because the other half
  ///   is reserved for the product; nil if the weights have scales per group, because the
  ///   accumulators of the groups then differ in unit.
  init?(_ bias: Tensor, inputScale: Float, weightScales: Tensor) {
    guard weightScales.shape.count == 1 else { return nil }
    let scales = weightScales.elements(as: Float.self)
    var codes: [Int32] = []
    var units: [Float] = []
    for (channel, number) in bias.elements(as: Float.self).enumerated() {
      let unit = inputScale * scales[scales.count == 1 ? 0 : channel]
      let code = (Double(number) / Double(unit)).rounded(.toNearestOrEven)
      guard abs(code) < Double(AccumulatorBound.half) else { return nil }
      codes.append(Int32(code))
      units.append(unit)
    }
    self.codes = codes
    self.units = units
  }

  /// The codes, dequantized.
  var rounded: [Float] { zip(codes, units).map { Float($0) * $1 } }
}
