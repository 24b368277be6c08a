import QMOperations
import QMTestSupport
import QMTraining
import Testing

@Suite struct ClippingTests {
  private let threads = ThreadPool(threadCount: 1)

  /// Three slots with gradients of different sizes: weights of 5 units, shifts, scales.
  private func memory(seed: UInt64, size: Float) -> SlotMemory {
    var generator = SeededGenerator(seed: seed)
    func numbers(_ count: Int, _ size: Float) -> [Float] {
      (0..<count).map { _ in Float.random(in: -size...size, using: &generator) }
    }
    let memory = SlotMemory()
    memory.add(.weights, numbers(35, 0.5), gradients: numbers(35, size), unitLength: 7)
    memory.add(.shifts, numbers(5, 2), gradients: numbers(5, 10 * size))
    memory.add(.scales, numbers(3, 1e-5), gradients: numbers(3, 0.1 * size))
    return memory
  }

  private static let sizes: [Float] = [1e-3, 0.1, 1, 30, 1e20]

  /// The gradients before and after, and what was reported.
  private func clip(
    _ kind: Clipping.Kind, threshold: Float = 1, seed: UInt64 = 1, size: Float
  ) -> (before: [[Float]], after: [[Float]], outcome: Clipping.Outcome) {
    let memory = memory(seed: seed, size: size)
    let before = memory.gradients
    var clipping = Clipping(kind, threshold: threshold)
    let outcome = clipping.apply(to: memory.slots, threads)
    return (before, memory.gradients, outcome)
  }

  /// Expects `after` to be `before · min(1, most / ‖before‖)`.
  private func expectReduced(
    _ before: [Float], _ after: [Float], to most: Double, _ description: String
  ) {
    let factor = min(1, most / norm(before))
    for (old, new) in zip(before, after) {
      let expected = Double(old) * factor
      #expect((Double(new) - expected).magnitude <= 1e-6 * expected.magnitude, "\(description)")
    }
    #expect(norm(after) <= most * (1 + 1e-6) || factor == 1, "\(description)")
  }

  // MARK: Every kind

  @Test(arguments: Clipping.Kind.allCases)
  func clippingNeverRaisesAGradient(kind: Clipping.Kind) {
    for size in Self.sizes {
      let (before, after, outcome) = clip(kind, size: size)
      for (old, new) in zip(before.flatMap { $0 }, after.flatMap { $0 }) {
        #expect(abs(new) <= abs(old) && (new == 0 || (new < 0) == (old < 0)))
      }
      #expect((outcome.norm / norm(before) - 1).magnitude < 1e-12)
      #expect(outcome.isClipped == (before != after), "\(size)")
    }
  }

  @Test(arguments: [Clipping.Kind.none, .value, .norm, .layer, .agc, .greedy])
  func clippingTwiceIsClippingOnce(kind: Clipping.Kind) {
    for size in Self.sizes {
      let memory = memory(seed: 2, size: size)
      var clipping = Clipping(kind, threshold: 0.5)
      _ = clipping.apply(to: memory.slots, threads)
      let once = memory.gradients
      _ = clipping.apply(to: memory.slots, threads)
      for (old, new) in zip(once.flatMap { $0 }, memory.gradients.flatMap { $0 }) {
        #expect(abs(new - old) <= 1e-6 * abs(old))
      }
    }
  }

  @Test func noneChangesNothing() {
    let (before, after, outcome) = clip(.none, size: 1e20)
    #expect(before == after)
    #expect(!outcome.isClipped && outcome.threshold == nil)
  }

  // MARK: Equations

  @Test(arguments: [Float(0.01), 1, 20])
  func valuesAreBounded(threshold: Float) {
    let (before, after, _) = clip(.value, threshold: threshold, size: 3)
    #expect(after == before.map { $0.map { max(-threshold, min(threshold, $0)) } })
  }

  @Test func valuesHaveTwoBounds() {
    let memory = SlotMemory(gradients: [[-3, -0.5, 0, 1, 9], [2.5, -1]])
    var clipping = Clipping(.value, threshold: 7)
    clipping.bounds = -1...2
    let outcome = clipping.apply(to: memory.slots, threads)
    #expect(memory.gradients == [[-1, -0.5, 0, 1, 2], [2, -1]])
    #expect(outcome.isClipped)
  }

  @Test func theNormOfAllIsBounded() {
    for size in Self.sizes {
      for threshold: Float in [0.25, 1, 40] {
        let (before, after, outcome) = clip(.norm, threshold: threshold, size: size)
        expectReduced(
          before.flatMap { $0 }, after.flatMap { $0 }, to: Double(threshold), "size \(size)")
        #expect(outcome.threshold == Double(threshold))
      }
    }
  }

  @Test func theNormOfEachLayerIsBounded() {
    for size in Self.sizes {
      let (before, after, outcome) = clip(.layer, threshold: 0.5, size: size)
      for (old, new) in zip(before, after) { expectReduced(old, new, to: 0.5, "size \(size)") }
      #expect(outcome.threshold == nil)
    }
  }

  @Test func greedyHasAFactorForEachLayer() {
    let memory = memory(seed: 4, size: 30)
    let before = memory.gradients
    var clipping = Clipping(.greedy, threshold: 0.5)
    clipping.layerFactors = [4, 0.5, 1]
    _ = clipping.apply(to: memory.slots, threads)
    for (index, most) in [2, 0.25, 0.5].enumerated() {
      expectReduced(before[index], memory.gradients[index], to: most, "slot \(index)")
    }
  }

  /// The formula of `adaptive_clip_grad` of timm 1.0 (`timm/utils/agc.py`):
  ///
  ///     max_norm = max(unitwise_norm(p), eps) · clip_factor
  ///     g = g · (max_norm / max(unitwise_norm(g), 1e-6))   where unitwise_norm(g) ≥ max_norm
  @Test func unitsAreBoundedByTheirWeights() {
    for size in Self.sizes {
      let memory = memory(seed: 5, size: size)
      let (weights, before) = (memory.values, memory.gradients)
      var clipping = Clipping(.agc, threshold: 0.02)
      _ = clipping.apply(to: memory.slots, threads)
      for (index, slot) in memory.slots.enumerated() {
        for first in stride(from: 0, to: slot.count, by: slot.unitLength) {
          let unit = first..<first + slot.unitLength
          let most = max(norm(Array(weights[index][unit])), 1e-3) * 0.02
          let own = norm(Array(before[index][unit]))
          let factor = own < most ? 1 : most / max(own, 1e-6)
          for place in unit {
            let expected = Double(before[index][place]) * factor
            let error = Double(memory.gradients[index][place]) - expected
            #expect(error.magnitude <= 2e-6 * expected.magnitude, "slot \(index), size \(size)")
          }
        }
      }
    }
  }

  // MARK: Running statistics

  /// The norm after each step of gradients with these norms.
  private func norms(_ norms: [Float], _ clipping: Clipping) -> [Double] {
    var clipping = clipping
    let memory = SlotMemory(gradients: [[0, 0]])
    return norms.map { size in
      memory.setGradients([[0.6 * size, -0.8 * size]])
      _ = clipping.apply(to: memory.slots, threads)
      return norm(memory.gradients)
    }
  }

  private func noise(_ count: Int, seed: UInt64) -> [Float] {
    var generator = SeededGenerator(seed: seed)
    return (0..<count).map { _ in Float.random(in: 0.75...1.25, using: &generator) }
  }

  /// ZClip: z = (‖g‖ − μ) / σ, and μ + z_most² · σ / z beyond z_most, after 25 steps.
  @Test func outliersAreReducedByTheirScore() {
    let sizes = noise(60, seed: 6)
    let outlier: Float = 5
    let found = norms(sizes + [outlier], Clipping(.zscore, threshold: 100))
    var (mean, variance) = (0.0, 0.0)
    for (index, size) in sizes.map(Double.init).enumerated() {
      if index == 0 { mean = size }
      var size = size
      let score = (size - mean) / max(variance.squareRoot(), 1e-30)
      if index >= 25, score > 2.5 { size = mean + 2.5 * variance.squareRoot() * 2.5 / score }
      #expect((found[index] - size).magnitude < 1e-5, "step \(index)")
      let difference = size - mean
      mean += 0.03 * difference
      variance = 0.97 * (variance + 0.03 * difference * difference)
    }
    let score = (Double(outlier) - mean) / variance.squareRoot()
    let expected = mean + 2.5 * variance.squareRoot() * 2.5 / score
    #expect(score > 2.5)
    #expect((found[60] - expected).magnitude < 1e-4)
  }

  @Test func outliersPassAtTheStartUpToTheFixedNorm() {
    let found = norms([1, 50, 1, 1000], Clipping(.zscore, threshold: 20))
    #expect(found.map { ($0 * 1e4).rounded() / 1e4 } == [1, 20, 1, 20])
  }

  /// AutoClip: the p-th percentile of all norms so far, the current one included.
  @Test func normsAreReducedToAPercentile() {
    let sizes = noise(50, seed: 7)
    var clipping = Clipping(.percentile, threshold: 100)
    clipping.percentile = 80
    let found = norms(sizes, clipping)
    for step in sizes.indices {
      let sorted = sizes[...step].sorted()
      let most = sorted[Int((Double(step) * 0.8).rounded(.down))]
      #expect((found[step] - Double(min(sizes[step], most))).magnitude < 1e-5, "step \(step)")
    }
  }

  @Test func thePercentileHasAFixedNormBesideIt() {
    let found = norms([500, 400, 1, 300], Clipping(.percentile, threshold: 2))
    #expect(found.map { ($0 * 1e4).rounded() / 1e4 } == [2, 2, 1, 2])
  }

  @Test(arguments: [Clipping.Kind.zscore, .percentile])
  func infiniteNormsLeaveNoTrace(kind: Clipping.Kind) {
    let sizes = noise(40, seed: 8)
    let plain = norms(sizes + sizes, Clipping(kind, threshold: 100))
    let disturbed = norms(sizes + [.infinity] + sizes, Clipping(kind, threshold: 100))
    #expect(Array(disturbed[41...]) == Array(plain[40...]))
  }
}
