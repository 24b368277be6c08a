/// Adds the gradients of micro-batches, and lets each segment of the parameters update when its own sum
/// is large enough.
///
/// For segment i, with the gradient gᵢ of a micro-batch, the decay d and the threshold c,
///
///     aᵢ ← d · aᵢ + gᵢ
///     if ‖aᵢ‖ > c: the segment updates with aᵢ, and aᵢ ← 0
///
/// so that a layer with small gradients waits until they agree, and one with large gradients does not
/// wait for the others. With d = 1 no gradient is lost, and with c = 0 every segment updates at once.
/// The plain sum over k micro-batches, after which all update, needs none of this: the backward runs
/// add to the same gradients.
///
/// The norm is Euclidean; sums are float32. The idea is that of gradients that are sent when they exceed
/// a threshold (Strom 2015, "Scalable Distributed DNN Training Using Commodity GPU Cloud Computing",
/// section 3; Lin et al. 2018, "Deep Gradient Compression", section 3.1), with segments instead of
/// single numbers.
package struct SegmentedAccumulation: Sendable {
  /// c.
  package let threshold: Float
  /// d, from 0 to 1.
  package let decay: Float
  /// The segment of each slot.
  package let segments: [Int]
  /// aᵢ, slot after slot.
  package var sums: [[Float]]

  /// - Parameter segments: for each slot the number of its segment; nil for a segment of each slot with
  ///   its scales.
  package init(
    _ slots: [Parameters.Slot], segments: [Int]? = nil, threshold: Float, decay: Float
  ) {
    self.threshold = threshold
    self.decay = decay
    self.segments = segments ?? SegmentedAccumulation.layers(slots)
    sums = slots.map { [Float](repeating: 0, count: $0.count) }
  }

  /// A segment for each slot; scales belong to the weights in front of them.
  private static func layers(_ slots: [Parameters.Slot]) -> [Int] {
    var layer = -1
    return slots.map { slot in
      if slot.kind != .scales || layer < 0 { layer += 1 }
      return layer
    }
  }

  /// Adds the gradients of a micro-batch, and replaces them by those of the update: the sum for slots of
  /// segments that update, 0 for the others.
  /// - Returns: for each slot, whether it updates; the others rest.
  package mutating func add(_ slots: [Parameters.Slot]) -> [Bool] {
    var squares = [Double](repeating: 0, count: (segments.max() ?? -1) + 1)
    for (place, slot) in slots.enumerated() {
      squares[segments[place]] += sums[place].withUnsafeMutableBufferPointer { sums in
        guard let sums = sums.baseAddress else { return 0 }
        for index in 0..<slot.count { sums[index] = decay * sums[index] + slot.gradients[index] }
        return Clipping.squaredNorm(sums, slot.count)
      }
    }
    // A sum that is no number must be seen by who watches for divergence.
    let updates = squares.map { !($0.squareRoot() <= Double(threshold)) }
    for (place, slot) in slots.enumerated() {
      if updates[segments[place]] {
        for index in 0..<slot.count {
          slot.gradients[index] = sums[place][index]
          sums[place][index] = 0
        }
      } else {
        slot.gradients.update(repeating: 0, count: slot.count)
      }
    }
    return segments.map { updates[$0] }
  }
}
