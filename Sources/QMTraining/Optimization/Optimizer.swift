import QMOperations
import QMTensor

/// Changes numbers against their gradients.
///
/// - sgd: v ← m · v + g;  w ← w − rate · v                   (m = 0.9)
/// - adam: m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;
///   w ← w − rate · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)   (β₁ = 0.9, β₂ = 0.999, ε = 1e-8)
/// - adamw: as adam, and w ← w − rate · decay · w before it, of weights only.
///
/// With sgd and adam, the decay is part of the gradient: L2 adds decay · w, L1 adds decay · sign(w).
///
/// Source: Polyak 1964 (momentum); Kingma and Ba 2015, "Adam", algorithm 1; Loshchilov and Hutter
/// 2019, "Decoupled Weight Decay Regularization", algorithm 2.
public struct Optimizer {
  /// Which rule.
  public enum Kind: String, Codable, Sendable, CaseIterable {
    case sgd, adam, adamw
  }

  package let kind: Kind
  package let momentum: Float
  /// Decay of weights: the coefficient of w.
  package let squaredDecay: Float
  /// The coefficient of sign(w).
  package let absoluteDecay: Float

  /// Number of steps of each slot so far.
  package var steps: [Int]
  /// One or two numbers for each parameter, slot after slot.
  package var first: [[Float]]
  package var second: [[Float]]

  fileprivate static let (beta1, beta2, epsilon): (Float, Float, Float) = (0.9, 0.999, 1e-8)

  package init(
    _ kind: Kind, for slots: [Parameters.Slot], momentum: Float = 0.9, squaredDecay: Float = 0,
    absoluteDecay: Float = 0
  ) {
    self.kind = kind
    self.momentum = momentum
    self.squaredDecay = squaredDecay
    self.absoluteDecay = absoluteDecay
    steps = slots.map { _ in 0 }
    first = slots.map { [Float](repeating: 0, count: $0.count) }
    second = slots.map { [Float](repeating: 0, count: kind == .sgd ? 0 : $0.count) }
  }

  /// Steps of the slot that has taken most.
  package var step: Int {
    get { steps.max() ?? 0 }
    set { steps = steps.map { _ in newValue } }
  }

  /// Takes one step.
  /// - Parameter rates: the learning rate of each slot; one with the rate 0 rests, as if the step had
  ///   not been.
  package mutating func update(
    _ slots: [Parameters.Slot], rates: [Float], _ threads: ThreadPool
  ) {
    let rule = Rule(self)
    for (index, slot) in slots.enumerated() where rates[index] != 0 {
      steps[index] += 1
      // βᵗ by repeated multiplication, the same on every machine.
      var powers: (Float, Float) = (1, 1)
      for _ in 0..<min(steps[index], 100_000) {
        powers.0 *= Optimizer.beta1
        powers.1 *= Optimizer.beta2
      }
      first[index].withUnsafeMutableBufferPointer { first in
        second[index].withUnsafeMutableBufferPointer { second in
          rule.update(slot, rates[index], first, second, powers, threads)
        }
      }
    }
  }
}

extension Optimizer {
  /// The constants of the update.
  private struct Rule {
    let kind: Kind
    let momentum: Float
    let squaredDecay: Float
    let absoluteDecay: Float

    init(_ optimizer: Optimizer) {
      kind = optimizer.kind
      momentum = optimizer.momentum
      squaredDecay = optimizer.squaredDecay
      absoluteDecay = optimizer.absoluteDecay
    }

    func update(
      _ slot: Parameters.Slot, _ rate: Float, _ first: UnsafeMutableBufferPointer<Float>,
      _ second: UnsafeMutableBufferPointer<Float>, _ powers: (Float, Float), _ threads: ThreadPool
    ) {
      let (values, gradients) = (slot.values, slot.gradients)
      let isDecayed = slot.kind == .weights
      let squared = isDecayed ? squaredDecay : 0
      let absolute = isDecayed ? absoluteDecay : 0
      let (beta1, beta2) = (Optimizer.beta1, Optimizer.beta2)
      let (correction1, correction2) = (1 / (1 - powers.0), 1 / (1 - powers.1))
      guard let first = first.baseAddress else { return }
      threads.forParts(of: slot.count) { range in
        if absolute != 0 {
          for i in range {
            gradients[i] += values[i] > 0 ? absolute : values[i] < 0 ? -absolute : 0
          }
        }
        switch kind {
        case .sgd:
          for i in range {
            first[i] = momentum * first[i] + (gradients[i] + squared * values[i])
            values[i] -= rate * first[i]
          }
        case .adam, .adamw:
          guard let second = second.baseAddress else { return }
          let coupled = kind == .adam ? squared : 0
          let kept = kind == .adamw ? 1 - rate * squared : 1
          for i in range {
            let gradient = gradients[i] + coupled * values[i]
            first[i] = beta1 * first[i] + (1 - beta1) * gradient
            second[i] = beta2 * second[i] + (1 - beta2) * (gradient * gradient)
            let root = (second[i] * correction2).squareRoot() + Optimizer.epsilon
            values[i] = values[i] * kept - rate * (first[i] * correction1) / root
          }
        }
      }
    }
  }
}
