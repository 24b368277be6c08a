import QMOperations
import QMTensor

/// Bounds the gradients of a step, once, after all micro-batches have been added. Norms are Euclidean,
/// over weights, biases and scales alike.
///
/// - none: g
/// - value: each element to [lowest, highest]
/// - norm: g · min(1, c / ‖g‖) with the norm of all gradients
///   (Pascanu et al. 2013, "On the difficulty of training recurrent neural networks", algorithm 1)
/// - layer: the same for each parameter with its own norm
/// - agc: the rows G of each output unit to ‖G‖ ≤ c · max(‖W‖, 0.001), adaptive gradient clipping
///   (Brock et al. 2021, "High-Performance Large-Scale Image Recognition Without Normalization",
///   equation 3); other parameters to c · max(‖w‖, 0.001)
/// - zscore: norms more than z deviations above their running mean are reduced to
///   mean + z · deviation · (z / own z-score) (Kumar et al. 2025, "ZClip", equation 5)
/// - percentile: to the p-th percentile of the norms so far
///   (Seetharaman et al. 2020, "AutoClip", equation 2)
/// - greedy: a threshold for each layer, see ``GreedyThresholds``
///
/// zscore and percentile follow whatever they see, so that an explosion at the start would pass: both
/// are also clipped to a fixed norm.
public struct Clipping: Sendable, Codable, Hashable {
  /// Which rule.
  public enum Kind: String, Codable, Sendable, CaseIterable {
    case none, value, norm, layer, agc, zscore, percentile, greedy
  }

  package var kind: Kind
  /// c; for zscore and percentile the fixed norm beside them.
  package var threshold: Float
  /// Bounds of value clipping; ±c if nil.
  package var bounds: ClosedRange<Float>?
  /// z of zscore.
  package var deviations: Float = 2.5
  /// p of percentile.
  package var percentile: Float = 90
  /// Factor of each slot's threshold; greedy changes them.
  package var layerFactors: [Float] = []

  /// Running mean and variance of the norm.
  private var mean = 0.0
  private var variance = 0.0
  private var history: [Double] = []

  /// Weight of the past in the running mean and variance, and the steps that only collect.
  private static let (memory, warmUp) = (0.97, 25)
  /// Norms that percentile looks at.
  private static let historyLength = 1000

  package init(_ kind: Kind, threshold: Float) {
    self.kind = kind
    self.threshold = threshold
  }

  /// What clipping did in a step.
  package struct Outcome {
    /// ‖g‖ before.
    package var norm: Double
    /// What the norm was compared with; nil without one threshold for all.
    package var threshold: Double?
    /// Whether any gradient was reduced.
    package var isClipped: Bool
  }

  /// Clips in place.
  package mutating func apply(to slots: [Parameters.Slot], _ threads: ThreadPool) -> Outcome {
    let norms = slots.map { Clipping.squaredNorm($0.gradients, $0.count) }
    let norm = norms.reduce(0, +).squareRoot()
    switch kind {
    case .none: return Outcome(norm: norm, threshold: nil, isClipped: false)
    case .value:
      let bounds = bounds ?? -threshold...threshold
      var isClipped = false
      for slot in slots {
        for index in 0..<slot.count {
          let gradient = slot.gradients[index]
          let bounded = min(max(gradient, bounds.lowerBound), bounds.upperBound)
          if bounded != gradient { isClipped = true }
          slot.gradients[index] = bounded
        }
      }
      return Outcome(norm: norm, threshold: nil, isClipped: isClipped)
    case .norm: return clip(slots, norm, to: Double(threshold))
    case .layer, .greedy:
      var isClipped = false
      for (index, slot) in slots.enumerated() {
        let factor = kind == .greedy && index < layerFactors.count ? layerFactors[index] : 1
        let most = Double(threshold * factor)
        isClipped =
          reduce(slot.gradients, slot.count, norms[index].squareRoot(), to: most) || isClipped
      }
      return Outcome(norm: norm, threshold: nil, isClipped: isClipped)
    case .agc:
      var isClipped = false
      for slot in slots {
        for first in stride(from: 0, to: slot.count, by: max(slot.unitLength, 1)) {
          let count = min(slot.unitLength, slot.count - first)
          let weights = Clipping.squaredNorm(slot.values + first, count).squareRoot()
          let own = Clipping.squaredNorm(slot.gradients + first, count).squareRoot()
          isClipped =
            reduce(
              slot.gradients + first, count, own, to: Double(threshold) * max(weights, 1e-3))
            || isClipped
        }
      }
      return Outcome(norm: norm, threshold: nil, isClipped: isClipped)
    case .zscore:
      var most = Double(threshold)
      if history.count >= Clipping.warmUp {
        let deviation = variance.squareRoot()
        let score = deviation > 0 ? (norm - mean) / deviation : 0
        let limit = Double(deviations)
        if score > limit { most = min(most, mean + limit * deviation * (limit / score)) }
      }
      let outcome = clip(slots, norm, to: most)
      note(min(norm, most))
      return outcome
    case .percentile:
      note(norm)
      let sorted = history.filter(\.isFinite).sorted()
      var most = Double(threshold)
      if !sorted.isEmpty {
        let place = Int(Float(sorted.count - 1) * min(max(percentile, 0), 100) / 100)
        most = min(most, sorted[place])
      }
      return clip(slots, norm, to: most)
    }
  }

  private mutating func note(_ norm: Double) {
    guard norm.isFinite else { return }
    if history.isEmpty { mean = norm }
    let difference = norm - mean
    mean += (1 - Clipping.memory) * difference
    variance = Clipping.memory * (variance + (1 - Clipping.memory) * difference * difference)
    history.append(norm)
    if history.count > Clipping.historyLength { history.removeFirst() }
  }

  private func clip(_ slots: [Parameters.Slot], _ norm: Double, to most: Double) -> Outcome {
    guard norm > most else { return Outcome(norm: norm, threshold: most, isClipped: false) }
    let factor = Float(most / norm)
    for slot in slots {
      for index in 0..<slot.count { slot.gradients[index] *= factor }
    }
    return Outcome(norm: norm, threshold: most, isClipped: true)
  }

  private func reduce(_ gradients: Floats, _ count: Int, _ norm: Double, to most: Double) -> Bool {
    guard norm > most else { return false }
    let factor = Float(most / norm)
    for index in 0..<count { gradients[index] *= factor }
    return true
  }

  /// Σ x² in double, whose range no float32 gradient leaves; in four lanes that are added at the end.
  package static func squaredNorm(_ numbers: Floats, _ count: Int) -> Double {
    var sums = SIMD4<Double>()
    let whole = count / 4 * 4
    for first in stride(from: 0, to: whole, by: 4) {
      let part = SIMD4<Double>(
        SIMD4<Float>(numbers[first], numbers[first + 1], numbers[first + 2], numbers[first + 3]))
      sums += part * part
    }
    var sum = (sums[0] + sums[1]) + (sums[2] + sums[3])
    for index in whole..<count { sum += Double(numbers[index]) * Double(numbers[index]) }
    return sum
  }
}
