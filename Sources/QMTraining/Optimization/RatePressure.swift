import QMOperations
import QMTensor

/// Holds the bits that the codes take in the file. Training changes their distribution, and with it
/// their entropy.
///
/// Beside each step of the optimizer, every weight is moved towards the cheaper of its neighbouring
/// codes:
///
///     w ← w − μ · s · (bits[c + 1] − bits[c − 1]) / 2          bits[c] = −log₂ of the share of code c
///
/// This is the gradient of the tensor's entropy where bits[c] is interpolated linearly, decoupled from
/// the loss as the decay of AdamW is. μ is proportional to the excess over a little less than the budget,
/// and 0 below it: an integral of the excess would go on pressing long after it is gone.
///
/// Steps that follow a statistic of the weights would shrink with them, at the same entropy. Their factor
/// follows the budget instead, coarser above it and finer below it:
///
///     factor ← factor · (1 + 0.1 · (bits / budget − 1))
package struct RatePressure: Codable, Sendable {
  /// Bits that all codes may take.
  package let budget: Double
  /// μ.
  package private(set) var strength: Float = 0

  /// μ for each unit of relative excess, and its limit.
  private static let (gain, most): (Float, Float) = (0.2, 0.02)
  /// The share of the budget from which on the pressure acts.
  private static let target = 0.995

  /// Share of the relative excess by which factors of statistics change in a step.
  private static let share: Float = 0.1

  package init(budget: Double) { self.budget = budget }

  /// Moves the weights.
  /// - Parameter histograms: as ``Parameters/histograms(scaledBy:)`` gives them now.
  /// - Returns: the bits of all codes.
  package mutating func apply(
    to parameters: Parameters, _ histograms: [CodeHistogram], _ threads: ThreadPool
  ) -> Double {
    let bits = histograms.reduce(0) { $0 + $1.bits }
    let excess = Float(bits / max(RatePressure.target * budget, 1) - 1)
    guard !parameters.followsStatistics else {
      parameters.multiplyFactors(by: 1 + RatePressure.share * min(max(excess, -1), 1))
      return bits
    }
    strength = min(max(RatePressure.gain * excess, 0), RatePressure.most)
    if strength > 0 { parameters.moveTowardsCheaperCodes(histograms, by: strength) }
    return bits
  }
}

/// How often each code occurs in a tensor.
package struct CodeHistogram: Sendable {
  /// Counts of the codes −127 to 127, code 0 in the middle.
  package var counts = [Int](repeating: 0, count: 255)

  package init() {}

  /// Bits of all codes if each takes −log₂ of its share, as an entropy coder of order 0 does.
  package var bits: Double {
    let total = counts.reduce(0, +)
    return counts.reduce(0) { sum, count in
      count == 0 ? sum : sum + Double(count) * CodeHistogram.bits(of: count, total)
    }
  }

  /// Bits of each code; a code that does not occur counts as if it occurred once in twice as many.
  package var bitsOfCodes: [Float] {
    let total = counts.reduce(0, +)
    return counts.map {
      $0 == 0
        ? Float(CodeHistogram.bits(of: 1, 2 * max(total, 1)))
        : Float(CodeHistogram.bits(of: $0, total))
    }
  }

  private static func bits(of count: Int, _ total: Int) -> Double {
    Double(UnaryFunction.logarithm(Float(total) / Float(count))) * 1.4426950408889634
  }
}
