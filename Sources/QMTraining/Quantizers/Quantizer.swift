import QMOperations

/// How the weights and activations of a network are rounded while they are trained.
///
/// Codes of weights in a file have the zero point 0. Forms with an offset μ therefore take the nearest
/// whole number of steps, which the codes hold: the codes of n bits then lie around μ / s instead of 0,
/// as far as int8 reaches, and a weight of 0 keeps its code 0.
public enum Quantizer: String, Codable, Sendable, CaseIterable {
  /// ``LearnedStep`` for both.
  case lsq
  /// ``LearnedStep`` for weights, ``LearnedOffset`` for activations.
  case lsqPlus = "lsq+"
  /// ``ClippedActivation`` for activations, and its rule for weights.
  case pact
  /// ``Normalised`` for both.
  case normalised
  /// ``Scaled`` for both.
  case scaled
  /// ``Affine`` for both.
  case affine

  /// Whether scales and offsets of activations are learned.
  package var learnsActivations: Bool { statistic == nil }

  /// How steps follow the numbers; nil if they are learned.
  var statistic: (any StatisticForm)? {
    switch self {
    case .lsq, .lsqPlus, .pact: nil
    case .normalised: Normalised()
    case .scaled: Scaled()
    case .affine: Affine()
    }
  }

  /// ∂loss/∂s of a grid whose codes for s count from the zero point.
  func scaleGradient(_ sums: RoundingSums, _ grid: RoundingGrid) -> Double {
    switch self {
    case .pact: ClippedActivation.scaleGradient(sums, grid)
    default: LearnedStep.scaleGradient(sums, grid)
    }
  }
}

/// The numbers s · c with the whole numbers c from `lowest` to `highest`. With a zero point z, c is the
/// code − z.
package struct RoundingGrid: Hashable, Sendable {
  /// s.
  package var scale: Float
  package var lowest: Float
  package var highest: Float

  package init(scale: Float, lowest: Float, highest: Float) {
    self.scale = scale
    self.lowest = lowest
    self.highest = highest
  }

  /// The numbers of a quantized activation.
  package init(_ parameters: QuantizationParameters) {
    let codes = parameters.elementType.codes ?? -128...127
    let zero = parameters.zeroPoint
    self.init(
      scale: parameters.scale, lowest: Float(codes.lowerBound - zero),
      highest: Float(codes.upperBound - zero))
  }

  /// c of a number, with 1 / s: as the converter rounds, to the nearest, ties to even.
  @inline(__always) package func code(_ number: Float, inverse: Float) -> Float {
    min(max(number * inverse, lowest), highest).roundedWithin22Bits
  }

  /// Numbers that have a code less than half a step away.
  package var range: ClosedRange<Float> {
    (lowest - 0.5) * scale...(highest + 0.5) * scale
  }
}

/// What the gradients of a grid's scale and offset are made of, with g = ∂loss/∂x̂ of the rounded
/// numbers x̂.
package struct RoundingSums: Hashable, Sendable {
  /// Σ g · (x̂ − x) within the range of the grid.
  package var within = 0.0
  /// Σ g below the range.
  package var below = 0.0
  /// Σ g above it.
  package var above = 0.0
  /// Numbers, and those of them beyond the range.
  package var count = 0
  package var beyond = 0

  package init() {}

  package static func += (left: inout RoundingSums, right: RoundingSums) {
    left.within += right.within
    left.below += right.below
    left.above += right.above
    left.count += right.count
    left.beyond += right.beyond
  }

  /// The sums of consecutive numbers. `pass` gets the indices of those in the range, whose gradient is
  /// that of x̂, and `stop` those of the others, whose gradient is 0.
  @inline(__always) package init(
    _ range: Range<Int>, of grid: RoundingGrid, _ numbers: Floats, rounded: Floats,
    gradients: Floats, pass: (Int) -> Void, stop: (Int) -> Void
  ) {
    let inside = grid.range
    var parts: (within: Float, below: Float, above: Float) = (0, 0, 0)
    for first in stride(from: range.lowerBound, to: range.upperBound, by: 256) {
      parts = (0, 0, 0)
      for index in first..<min(first + 256, range.upperBound) {
        let (number, gradient) = (numbers[index], gradients[index])
        if number < inside.lowerBound {
          parts.below += gradient
          beyond += 1
          stop(index)
        } else if number > inside.upperBound {
          parts.above += gradient
          beyond += 1
          stop(index)
        } else {
          parts.within += gradient * (rounded[index] - number)
          pass(index)
        }
      }
      within += Double(parts.within)
      below += Double(parts.below)
      above += Double(parts.above)
    }
    count = range.count
  }
}
