import QMQuantization
import QMTestSupport
import Testing

@Suite struct BitAllocationTests {
  private typealias Choice = BitAllocation.Choice

  private func tensors(seed: UInt64) -> [[Choice]] {
    var generator = SeededGenerator(seed: seed)
    return (0..<4).map { _ in
      let scale = Double.random(in: 0.1...10, using: &generator)
      let size = Int.random(in: 10...100, using: &generator)
      // An error that falls with the bits, a little irregularly.
      return (1...5).map { bits in
        Choice(
          bits: bits * size + Int.random(in: 0...5, using: &generator),
          error: scale * Double.random(in: 0.8...1.2, using: &generator) / Double(1 << (2 * bits)))
      }
    }
  }

  /// Compared with all 625 combinations: nothing of the same size is better, where the hulls have a
  /// corner.
  @Test(arguments: 0..<20) func noOtherChoiceOfTheSameSizeIsBetter(seed: UInt64) throws {
    let tensors = tensors(seed: seed)
    let smallest = tensors.reduce(0) { $0 + $1[0].bits }
    for budget in [smallest, smallest + 60, smallest + 150, 10_000] {
      let allocation = try #require(BitAllocation(tensors, budget: budget))
      #expect(allocation.bits <= budget)
      let error = zip(tensors, allocation.chosen).reduce(0) { $0 + $1.0[$1.1].error }
      let bits = zip(tensors, allocation.chosen).reduce(0) { $0 + $1.0[$1.1].bits }
      #expect(bits == allocation.bits)
      for combination in 0..<625 {
        let others = [1, 5, 25, 125].map { combination / $0 % 5 }
        let other = zip(tensors, others).reduce((0, 0.0)) {
          ($0.0 + $1.0[$1.1].bits, $0.1 + $1.0[$1.1].error)
        }
        // The last bits may fit no step of a hull, so that only much smaller choices compare.
        if other.0 <= bits - 100 || budget == 10_000 { #expect(other.1 >= error - 1e-12) }
      }
    }
  }

  @Test func bitsGoWhereTheyReduceTheErrorMost() throws {
    let curve = { (factor: Double) in
      (1...6).map { Choice(bits: 100 * $0, error: factor / Double(1 << (2 * $0))) }
    }
    // Sixteen times the error is worth two bits a weight.
    let allocation = try #require(BitAllocation([curve(1), curve(16)], budget: 800))
    #expect(allocation.chosen == [2, 4])
    #expect(allocation.bits == 800)
  }

  @Test func tooSmallABudgetHasNoAllocation() {
    #expect(BitAllocation([[Choice(bits: 10, error: 1)]], budget: 9) == nil)
    #expect(BitAllocation([[Choice(bits: 10, error: 1)]], budget: 10)?.chosen == [0])
  }
}
