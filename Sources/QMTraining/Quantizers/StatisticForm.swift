import QMOperations
import QMTensor

/// A form of rounding whose step is a factor times a statistic of the numbers with this step. The
/// statistic follows the numbers; the factor stays as the step of the converter has it at the start.
package protocol StatisticForm: Sendable {
  /// The statistic u that one step is proportional to.
  func unit(_ statistics: StepStatistics) -> Double

  /// ∂unit/∂w of a weight w with this statistic.
  func unitGradient(_ weight: Double, _ statistics: StepStatistics) -> Double

  /// The whole numbers that are codes of a width.
  /// - Parameter largest: largest code of the width, 2^(bits − 1) − 1.
  func codes(largest: Float) -> ClosedRange<Float>
}

extension StatisticForm {
  /// The grid of weights: the codes are shifted by the whole number of steps next to μ, as far as int8
  /// reaches, and include 0.
  /// - Parameters:
  ///   - scale: s.
  ///   - width: the largest code of a fixed width; nil for codes of any size, whose width in the file
  ///     is their entropy.
  package func grid(scale: Float, mean: Double, width: Float?, most: Float) -> RoundingGrid {
    guard let width else { return RoundingGrid(scale: scale, lowest: -most, highest: most) }
    let codes = codes(largest: width)
    let steps = min(max(Float(mean) / scale, -127), 127).roundedWithin22Bits
    return RoundingGrid(
      scale: scale, lowest: max(min(codes.lowerBound + steps, 0), -127),
      highest: min(max(codes.upperBound + steps, 0), 127))
  }
}

extension StatisticForm {
  /// How an activation is rounded whose codes, from `lowest` to `highest`, hold the range from
  /// μ − below · u to μ + above · u:
  ///
  ///     s = (below + above) · u / (highest − lowest)      z = round(lowest − (μ − below · u) / s)
  ///
  /// The range is extended to 0 if that is outside, and z is a code.
  package func parameters(
    _ elementType: ElementType, mean: Double, unit: Double, below: Double, above: Double
  ) -> QuantizationParameters {
    QuantizationParameters(
      elementType, covering: Float(mean - below * unit), Float(mean + above * unit))
  }
}

/// Statistics of the numbers that share a step.
package struct StepStatistics: Hashable, Sendable {
  package var count = 0
  /// μ.
  package var mean = 0.0
  /// σ, the root of the mean square of w − μ.
  package var deviation = 0.0
  /// The largest |w − μ|, and the number that has it.
  package var reach = 0.0
  package var farthest = 0.0

  package init() {}

  /// The statistics of several runs of numbers.
  package init(_ ranges: [Range<Int>], of weights: Floats) {
    for range in ranges {
      count += range.count
      for index in range { mean += Double(weights[index]) }
    }
    guard count > 0 else { return }
    mean /= Double(count)
    for range in ranges {
      for index in range {
        let difference = Double(weights[index]) - mean
        deviation += difference * difference
        if difference.magnitude > reach {
          (reach, farthest) = (difference.magnitude, Double(weights[index]))
        }
      }
    }
    deviation = (deviation / Double(count)).squareRoot()
  }

  /// ∂σ/∂w = (w − μ) / (N · σ).
  package func deviationGradient(_ weight: Double) -> Double {
    deviation > 0 ? (weight - mean) / (Double(count) * deviation) : 0
  }

  /// ∂(largest |w − μ|)/∂w: the farthest weight has sign(w − μ), less what moves the mean.
  package func reachGradient(_ weight: Double) -> Double {
    let sign: Double = farthest < mean ? -1 : 1
    return sign * ((weight == farthest ? 1 : 0) - 1 / Double(count))
  }
}
