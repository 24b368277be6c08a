import QMTensor

/// The threshold of each layer for ``Clipping/Kind/greedy``: the largest factor of a ladder that a
/// look-ahead on one batch accepts,
///
///     fᵢ = max { f in the ladder: loss(w − update(g clipped with f)) ≤ loss(w) }
///
/// First all layers try their largest factors together, which a run that needs no clipping accepts at
/// once. Otherwise all start with the smallest; each in turn, the others as they are, takes the largest
/// that is accepted, and keeps the smallest if none is.
package struct GreedyThresholds: Sendable {
  /// Factors of the threshold, ascending: each twice the one before.
  package let ladder: [Float]

  package init(smallest: Float = 0.25, count: Int = 6) {
    ladder = (0..<count).map { smallest * Float(1 << $0) }
  }

  /// Finds the factors.
  /// - Parameters:
  ///   - norms: of the layers' gradients. A layer is not clipped by thresholds from its norm on, which
  ///     are tried only once.
  ///   - threshold: what factors are of.
  ///   - loss: of the batch before the step.
  ///   - lossAfter: of the batch after a step with these factors, which it takes back.
  /// - Returns: the factor of each layer.
  package func factors(
    norms: [Double], threshold: Float, loss: Double,
    lossAfter: (_ factors: [Float]) throws(QMError) -> Double
  ) throws(QMError) -> [Float] {
    guard let smallest = ladder.first, let largest = ladder.last else { return [] }
    let open = [Float](repeating: largest, count: norms.count)
    if try lossAfter(open) <= loss { return open }
    var factors = [Float](repeating: smallest, count: norms.count)
    for layer in norms.indices {
      var isClipped = true
      for factor in ladder.dropFirst().reversed() {
        let clips = norms[layer] > Double(threshold * factor)
        // The same step as with the factor above it.
        if !clips, !isClipped { continue }
        isClipped = clips
        var candidate = factors
        candidate[layer] = factor
        if try lossAfter(candidate) <= loss {
          factors = candidate
          break
        }
      }
    }
    return factors
  }
}
