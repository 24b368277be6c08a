import QMGraph
import QMOperations
import QMTensor

/// Rounds each weight to the nearest code, with zero point 0 and one scale per tensor, channel or
/// group.
///
/// At 8 bits the scale is the largest magnitude of the channel divided by the largest code. With
/// fewer bits this scale is multiplied by the factor in 0.30…1.00 (71 steps) with the least squared
/// error. A channel without a magnitude above 2⁻⁴⁸ becomes zeros. A group is treated like a
/// channel.
///
/// Source: Nagel et al. 2021, "A White Paper on Neural Network Quantization", equations 2.4 and
/// 2.11.
public struct NearestRounding: Sendable {
  /// Bits of a code.
  public let bits: BitWidth
  /// Which weights share a scale.
  public let granularity: Granularity

  /// Rounding to codes of this many bits.
  /// - Parameters:
  ///   - bits: bits of a code.
  ///   - granularity: per tensor, per channel along axis 0, or per group along the last axis.
  public init(bits: BitWidth, granularity: Granularity) {
    self.bits = bits
    self.granularity = granularity
  }

  /// The codes and scales of a weight tensor.
  /// - Parameter weights: float32, output channels along axis 0.
  /// - Throws: `malformed` if an element is not finite; `outOfMemory`.
  public func quantize(_ weights: Tensor) throws(QMError) -> QuantizedTensor {
    let grid = try grid(for: weights)
    return try grid.quantized(grid.nearest(weights).codes)
  }

  /// The scales of a weight tensor.
  /// - Parameters:
  ///   - weights: float32, output channels along axis 0.
  ///   - importance: factor of the squared error of each element of an output channel; for a
  ///     convolution with groups, those of each group in turn. nil for 1.
  /// - Throws: `malformed` if an element is not finite.
  package func grid(
    for weights: Tensor, importance: [Float]? = nil
  ) throws(QMError) -> WeightGrid {
    let parts = WeightGrid.parts(of: weights.shape, granularity)
    try WeightGrid.requireFinite(weights)
    let scales = weights.withElements(as: Float.self) { elements in
      let factors = Importance(importance, of: weights.shape)
      return parts.map { scale(of: elements[$0], factors) }
    }
    return WeightGrid(weights.shape, scales: scales, granularity, codes: bits.symmetricCodes)
  }

  /// The factor of the squared error of each weight.
  private struct Importance {
    let factors: [Float]
    /// Elements of an output channel.
    let length: Int
    let outputsOfGroup: Int

    init(_ factors: [Float]?, of shape: [Int]) {
      length = max(1, shape.dropFirst().reduce(1, *))
      self.factors = factors ?? [Float](repeating: 1, count: length)
      outputsOfGroup = max(1, (shape.first ?? 1) / max(1, self.factors.count / length))
    }

    subscript(index: Int) -> Float {
      let (output, element) = index.quotientAndRemainder(dividingBy: length)
      return factors[output / outputsOfGroup * length + element]
    }
  }

  private func scale(
    of channel: Swift.Slice<UnsafeBufferPointer<Float>>, _ importance: Importance
  ) -> Float {
    let largest = channel.reduce(0) { max($0, abs($1)) }
    let limit = Float(bits.symmetricCodes.upperBound)
    // The scale of a channel of almost zeros, times the scale of an input, would be subnormal.
    guard largest > 0x1p-48 else { return 1 }
    let full = largest / limit
    guard (1 / full).isNormal else { return 1 }
    guard bits < .eight else { return full }
    let candidates = (30...100).map { full * Float($0) / 100 }
      .filter { (1 / $0).isNormal }
    let errors = squaredErrors(of: channel, importance, candidates)
    var best = (scale: full, error: Float.infinity)
    for (scale, error) in zip(candidates, errors) where error < best.error {
      best = (scale, error)
    }
    return best.scale
  }

  /// For each scale, the sum of squared errors over the weights times their importance, added in
  /// their order.
  private func squaredErrors(
    of channel: Swift.Slice<UnsafeBufferPointer<Float>>, _ importance: Importance,
    _ scales: [Float]
  ) -> [Float] {
    let limit = Float(bits.symmetricCodes.upperBound)
    let inverses = scales.map { 1 / $0 }
    var errors = [Float](repeating: 0, count: scales.count)
    // The inner loop runs over the scales, so that it vectorizes.
    errors.withUnsafeMutableBufferPointer { errors in
      scales.withUnsafeBufferPointer { scales in
        inverses.withUnsafeBufferPointer { inverses in
          for place in channel.indices {
            let (weight, factor) = (channel[place], importance[place])
            for index in 0..<errors.count {
              let code = min(max(weight * inverses[index], -limit), limit).roundedWithin22Bits
              let difference = weight - code * scales[index]
              errors[index] += factor * (difference * difference)
            }
          }
        }
      }
    }
    return errors
  }
}
