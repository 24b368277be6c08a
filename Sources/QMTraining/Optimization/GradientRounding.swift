import QMReport

/// Rounds the gradients of a micro-batch to 8 bits, in the units of the codes that training changes.
///
/// With g = ∂loss/∂w of weights with the scale s, the gradient of their codes w / s is s · g. It is
/// rounded at random to one of its two neighbours, so that its expected value is kept:
///
///     t = max |s · g| / 127 over the slot
///     q = ⌊s · g / t + u⌋ · t,   u uniform in [0, 1)
///
/// Codes that follow −q move the weights by −s · q = −s² · g: the smaller the scale, the slower.
/// Quantization-aware scaling divides q by s², which gives codes the same relative change as weights:
///
///     g ← q / s  with scaling,  g ← s · q  without
///
/// Biases, shifts and scales have s = 1. Sums over micro-batches stay float32. The random numbers
/// depend on the seed, the step and the slot alone.
///
/// Source: Gupta et al. 2015, "Deep Learning with Limited Numerical Precision", equation 3 (stochastic
/// rounding); Lin et al. 2022, "On-Device Training Under 256KB Memory", equations 6 and 7 (scaling).
package struct GradientRounding: Sendable {
  package let seed: UInt64
  /// Whether gradients of codes are divided by s².
  package let scales: Bool

  package init(seed: UInt64, scales: Bool = true) {
    self.seed = seed
    self.scales = scales
  }

  /// Gradients have this largest code.
  private static let largest: Float = 127

  /// Rounds in place.
  /// - Parameters:
  ///   - step: number of the micro-batch in the run.
  ///   - codeScales: s of the weights of a slot, as ``Parameters/scales(ofSlot:)`` gives them.
  package func apply(
    to slots: [Parameters.Slot], step: Int,
    codeScales: (Int) -> [(weights: Range<Int>, scale: Float)]
  ) {
    for (place, slot) in slots.enumerated() {
      let known = codeScales(place)
      let runs = known.isEmpty ? [(weights: 0..<slot.count, scale: Float(1))] : known
      var most: Float = 0
      var isFinite = true
      for run in runs {
        for index in run.weights {
          let size = abs(run.scale * slot.gradients[index])
          most = max(most, size)
          isFinite = isFinite && size.isFinite
        }
      }
      // A gradient that is no number must be seen by who watches for divergence.
      guard isFinite, most > 0 else { continue }
      // No product with 1 / t: t may be so small that 1 / t is infinite.
      let unit = most / GradientRounding.largest
      guard unit > 0 else { continue }
      var random = RandomNumbers(seed: seed &+ UInt64(place) &* 0x9E37_79B9, stream: step)
      for run in runs {
        let factor = scales ? 1 / run.scale : run.scale
        for index in run.weights {
          let steps = run.scale * slot.gradients[index] / unit
          let below = steps.rounded(.down)
          let draw = Float(random.next() >> 40) * 0x1p-24
          let code = min(below + (draw < steps - below ? 1 : 0), GradientRounding.largest)
          slot.gradients[index] = code * unit * factor
        }
      }
    }
  }
}
