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
    let parts = parts(of: weights.shape)
    var scales = [Float](repeating: 1, count: parts.count)
    let codes = try weights.withElements(as: Float.self) { (elements) throws(QMError) in
      guard elements.allSatisfy(\.isFinite) else {
        throw .malformed("the weights contain NaN or infinity, expected finite numbers")
      }
      return try Tensor(weights.shape, as: Int8.self) { codes in
        for (part, range) in parts.enumerated() {
          let scale = self.scale(of: elements[range])
          scales[part] = scale
          let inverse = 1 / scale
          for index in range { codes[index] = code(elements[index], inverse) }
        }
      }
    }
    let shape = try granularity.scaleShape(of: Shape(weights.shape)).extents ?? [parts.count]
    return QuantizedTensor(
      codes: codes, scales: try Tensor(shape, scales), granularity: granularity,
      codeRange: bits.symmetricCodes)
  }

  /// The elements that share each scale.
  private func parts(of shape: [Int]) -> [Range<Int>] {
    let count = shape.reduce(1, *)
    guard case .perGroup(_, let size) = granularity, let length = shape.last, length > 0 else {
      let channels = granularity == .perTensor ? 1 : max(shape.first ?? 1, 1)
      let size = count / channels
      return (0..<channels).map { ($0 * size)..<(($0 + 1) * size) }
    }
    return stride(from: 0, to: count, by: length).flatMap { row in
      stride(from: row, to: row + length, by: size).map { $0..<min($0 + size, row + length) }
    }
  }

  private func code(_ weight: Float, _ inverseScale: Float) -> Int8 {
    let limit = Float(bits.symmetricCodes.upperBound)
    return Int8(min(max(weight * inverseScale, -limit), limit).roundedWithin22Bits)
  }

  private func scale(of channel: Swift.Slice<UnsafeBufferPointer<Float>>) -> Float {
    let largest = channel.reduce(0) { max($0, abs($1)) }
    let limit = Float(bits.symmetricCodes.upperBound)
    // The scale of a channel of almost zeros, times the scale of an input, would be subnormal.
    guard largest > 0x1p-48 else { return 1 }
    let full = largest / limit
    guard (1 / full).isNormal else { return 1 }
    guard bits < .eight else { return full }
    let candidates = (30...100).map { full * Float($0) / 100 }
      .filter { (1 / $0).isNormal }
    let errors = squaredErrors(of: channel, candidates)
    var best = (scale: full, error: Float.infinity)
    for (scale, error) in zip(candidates, errors) where error < best.error {
      best = (scale, error)
    }
    return best.scale
  }

  /// For each scale, the sum of squared errors over the weights, added in their order.
  private func squaredErrors(
    of channel: Swift.Slice<UnsafeBufferPointer<Float>>, _ scales: [Float]
  ) -> [Float] {
    let limit = Float(bits.symmetricCodes.upperBound)
    let inverses = scales.map { 1 / $0 }
    var errors = [Float](repeating: 0, count: scales.count)
    // The inner loop runs over the scales, so that it vectorizes.
    errors.withUnsafeMutableBufferPointer { errors in
      scales.withUnsafeBufferPointer { scales in
        inverses.withUnsafeBufferPointer { inverses in
          for weight in channel {
            for index in 0..<errors.count {
              let code = min(max(weight * inverses[index], -limit), limit).roundedWithin22Bits
              let difference = weight - code * scales[index]
              errors[index] += difference * difference
            }
          }
        }
      }
    }
    return errors
  }
}
