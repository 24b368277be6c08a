import QMOperations
import QMTensor

/// A bias in units of the accumulator that it is added to:
/// `code[c] = roundToNearestEven(bias[c] / (inputScale · weightScale[c]))`.
struct IntegerBias {
  let codes: [Int32]
  /// Of one code, per channel: input scale · weight scale, one rounding.
  private let units: [Float]

  /// - Parameters:
  ///   - bias: float32, one number per output channel.
  ///   - weightScales: one per output channel, or one in all.
  /// - Returns: nil if a code would take half of the accumulator's range, which belongs to the
  ///   product; and if groups of weights have scales of their own: no accumulator has the unit of
  ///   all of them.
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

  /// The numbers that the codes stand for.
  var rounded: [Float] { zip(codes, units).map { Float($0) * $1 } }
}
