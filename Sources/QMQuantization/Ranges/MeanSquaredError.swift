import QMOperations

extension Histogram {
  /// The range for 256 codes with the least mean squared error over the histogram. The search
  /// shrinks both ends together in 40 steps, then each end alone in 20 steps.
  ///
  /// Source: Nagel et al. 2021, "A White Paper on Neural Network Quantization", section 3.1,
  /// equation 2.11.
  func leastErrorRange(within full: ClosedRange<Float>) -> ClosedRange<Float> {
    guard full.upperBound > full.lowerBound else { return full }
    let occupied = counts.indices.filter { counts[$0] > 0 }
    let centers = occupied.map { center(of: $0) }
    let weights = occupied.map { Double(counts[$0]) }

    func error(_ low: Double, _ high: Double) -> Double {
      var rounded = centers
      rounded.withUnsafeMutableBufferPointer {
        FakeQuantize(QuantizationParameters(covering: Float(low), Float(high))).apply(to: $0)
      }
      var sum = 0.0
      for (index, weight) in weights.enumerated() {
        let difference = Double(centers[index]) - Double(rounded[index])
        sum += weight * difference * difference
      }
      return sum
    }

    var low = Double(full.lowerBound)
    var high = Double(full.upperBound)
    var best = error(low, high)
    for step in stride(from: 39, through: 1, by: -1) {
      let factor = Double(step) / 40
      let (l, h) = (Double(full.lowerBound) * factor, Double(full.upperBound) * factor)
      let candidate = error(l, h)
      if candidate < best { (low, high, best) = (l, h, candidate) }
    }
    let (sharedLow, sharedHigh) = (low, high)
    for step in stride(from: 19, through: 1, by: -1) {
      let candidate = error(sharedLow * Double(step) / 20, high)
      if candidate < best { (low, best) = (sharedLow * Double(step) / 20, candidate) }
    }
    for step in stride(from: 19, through: 1, by: -1) {
      let candidate = error(low, sharedHigh * Double(step) / 20)
      if candidate < best { (high, best) = (sharedHigh * Double(step) / 20, candidate) }
    }
    return Float(low)...Float(high)
  }
}
