/// Divides a budget of bits among tensors so that the sum of their errors is as small as possible:
/// the best choices on the lower convex hulls of the tensors' rates and errors.
///
/// Starting with the fewest bits for each tensor, the budget is spent step by step along the hulls,
/// always where a bit reduces the error most.
///
/// Source: Shoham and Gersho 1988, "Efficient Bit Allocation for an Arbitrary Set of Quantizers",
/// section III.
package struct BitAllocation {
  /// One way to store a tensor.
  package struct Choice: Hashable, Sendable {
    /// Size in the file, in bits.
    package let bits: Int
    /// What is added to the error of the network's outputs.
    package let error: Double

    package init(bits: Int, error: Double) {
      self.bits = bits
      self.error = error
    }
  }

  /// The index of the choice for each tensor.
  package let chosen: [Int]
  /// Bits of all choices together.
  package let bits: Int

  /// - Parameters:
  ///   - tensors: the choices for each tensor; at least one each.
  ///   - budget: bits that all may take together.
  /// - Returns: nil if even the fewest bits exceed the budget.
  package init?(_ tensors: [[Choice]], budget: Int) {
    var chosen = tensors.map { choices in
      choices.indices.min {
        (choices[$0].bits, choices[$0].error) < (choices[$1].bits, choices[$1].error)
      } ?? 0
    }
    var bits = zip(tensors, chosen).reduce(0) { $0 + $1.0[$1.1].bits }
    guard bits <= budget else { return nil }
    var steps: [Step] = []
    for (tensor, choices) in tensors.enumerated() {
      steps += BitAllocation.hull(choices, from: chosen[tensor], tensor: tensor)
    }
    // Of one tensor, slopes descend, so that its steps stay in order.
    steps.sort { ($0.slope, $1.tensor, $1.number) > ($1.slope, $0.tensor, $0.number) }
    var exhausted: Set<Int> = []
    for step in steps where !exhausted.contains(step.tensor) {
      guard bits + step.bits <= budget else {
        exhausted.insert(step.tensor)
        continue
      }
      chosen[step.tensor] = step.choice
      bits += step.bits
    }
    self.chosen = chosen
    self.bits = bits
  }

  /// One step along a hull.
  private struct Step {
    let tensor: Int
    /// Position along the hull.
    let number: Int
    let choice: Int
    /// More bits than before the step.
    let bits: Int
    /// Reduction of the error per bit.
    let slope: Double
  }

  private static func hull(_ choices: [Choice], from start: Int, tensor: Int) -> [Step] {
    var steps: [Step] = []
    var present = start
    while true {
      var best: Step?
      for (index, choice) in choices.enumerated() {
        let bits = choice.bits - choices[present].bits
        guard bits > 0, choice.error < choices[present].error else { continue }
        let slope = (choices[present].error - choice.error) / Double(bits)
        if slope > best?.slope ?? 0 {
          best = Step(tensor: tensor, number: steps.count, choice: index, bits: bits, slope: slope)
        }
      }
      guard let step = best else { return steps }
      steps.append(step)
      present = step.choice
    }
  }
}
