import QMOperations
import QMReport
import QMTensor
import QMTestSupport
import QMTraining
import Testing

@Suite struct AccumulationTests {
  private static let layer = Operation.matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst))

  /// Gradients of a small network on all rows of an input, in micro-batches of `size` rows.
  private func gradients(of input: [Float], rows: Int, size: Int) throws -> [[Float]] {
    var generator = SeededGenerator(seed: 40)
    let (first, second) = (try generator.tensor([7, 5]), try generator.tensor([3, 7]))
    let outputGradients = try generator.tensor([rows, 3]).elements(as: Float.self)
    var sum: [[Float]] = []
    for start in stride(from: 0, to: rows, by: size) {
      var test = GradientCase()
      let part = try test.input(
        Tensor([size, 5], Array(input[start * 5..<(start + size) * 5])))
      let weights = [try test.parameter(first), try test.parameter(second)]
      let hidden = try test.append(Self.layer, [part, weights[0]])[0]
      let active = try test.append(.unary(Unary(.tanh)), [hidden])[0]
      try test.output(try test.append(Self.layer, [active, weights[1]])[0])
      let run = try GradientRun(test)
      try run.addGradients([Array(outputGradients[start * 3..<(start + size) * 3])])
      let found = run.parameterGradients
      sum = sum.isEmpty ? found : zip(sum, found).map { zip($0, $1).map { $0 + $1 } }
    }
    return sum
  }

  @Test(arguments: [1, 3, 8])
  func microBatchesAreTheBatch(size: Int) throws {
    var generator = SeededGenerator(seed: 41)
    let input = try generator.tensor([24, 5]).elements(as: Float.self)
    let whole = try gradients(of: input, rows: 24, size: 24)
    let parts = try gradients(of: input, rows: 24, size: size)
    #expect(largestError(parts, whole.map { $0.map(Double.init) }) < 1e-6)
  }

  // MARK: Segments

  /// Runs gradients through an accumulation.
  /// - Returns: for each step the gradients of all slots, and which of them update.
  private func run(
    _ steps: [[[Float]]], segments: [Int]? = nil, threshold: Float, decay: Float
  ) -> [(gradients: [[Float]], updates: [Bool])] {
    let memory = SlotMemory(gradients: steps[0])
    var accumulation = SegmentedAccumulation(
      memory.slots, segments: segments, threshold: threshold, decay: decay)
    return steps.map { gradients in
      memory.setGradients(gradients)
      let updates = accumulation.add(memory.slots)
      return (memory.gradients, updates)
    }
  }

  private func random(_ count: Int, seed: UInt64) -> [[[Float]]] {
    var generator = SeededGenerator(seed: seed)
    return (0..<count).map { _ in
      [4, 1, 6].map { length in
        (0..<length).map { _ in Float.random(in: -1...1, using: &generator) }
      }
    }
  }

  @Test func aSegmentUpdatesWhenItsSumIsLarge() {
    let found = run(
      [[[3, 0], [0.5]], [[0, 4], [0.25]], [[1, 0], [0.5]]], threshold: 4.5, decay: 1)
    #expect(found.map(\.updates) == [[false, false], [true, false], [false, false]])
    #expect(found[1].gradients == [[3, 4], [0]])
    #expect(found[0].gradients == [[0, 0], [0]] && found[2].gradients == [[0, 0], [0]])
  }

  @Test func whatWaitsDecays() {
    let found = run([[[8]], [[0]], [[1]], [[4]]], threshold: 9, decay: 0.5)
    #expect(found.map(\.updates) == [[false], [false], [false], [false]])
    let later = run([[[8]], [[0]], [[8]], [[0.5]]], threshold: 9, decay: 0.5)
    #expect(later.map(\.updates) == [[false], [false], [true], [false]])
    #expect(later[2].gradients == [[10]])
  }

  /// Against a twin in double.
  @Test(arguments: [Float(0), 1, 2.5], [Float(0.5), 0.9, 1])
  func updatesAreTheEquations(threshold: Float, decay: Float) {
    let steps = random(40, seed: 42)
    let found = run(steps, threshold: threshold, decay: decay)
    var sums = steps[0].map { $0.map { _ in 0.0 } }
    for (step, gradients) in steps.enumerated() {
      for (slot, numbers) in gradients.enumerated() {
        sums[slot] = zip(sums[slot], numbers).map { Double(decay) * $0 + Double($1) }
        let norm = sums[slot].reduce(0) { $0 + $1 * $1 }.squareRoot()
        let updates = norm > Double(threshold)
        #expect(found[step].updates[slot] == updates)
        for (left, right) in zip(found[step].gradients[slot], sums[slot]) {
          #expect((Double(left) - (updates ? right : 0)).magnitude < 1e-5)
        }
        if updates { sums[slot] = sums[slot].map { _ in 0 } }
      }
    }
    if threshold == 0 { #expect(found.map(\.gradients) == steps) }
  }

  @Test func nothingIsLostWithoutDecay() {
    let steps = random(60, seed: 43)
    let found = run(steps, threshold: 2, decay: 1)
    for slot in 0..<3 {
      let last = found.lastIndex { $0.updates[slot] }!
      for index in steps[0][slot].indices {
        let given = steps[...last].reduce(0.0) { $0 + Double($1[slot][index]) }
        let taken = found.reduce(0.0) { $0 + Double($1.gradients[slot][index]) }
        #expect((given - taken).magnitude < 1e-4)
      }
    }
  }

  @Test func slotsOfASegmentUpdateTogether() {
    let steps = random(40, seed: 44)
    let found = run(steps, segments: [0, 1, 0], threshold: 2, decay: 1)
    #expect(found.allSatisfy { $0.updates[0] == $0.updates[2] })
    #expect(found.contains { $0.updates[0] != $0.updates[1] })
    let memory = SlotMemory()
    for kind in [Parameters.Slot.Kind.weights, .scales, .shifts, .weights, .scales] {
      memory.add(kind, [1], gradients: [1])
    }
    let layers = SegmentedAccumulation(memory.slots, threshold: 1, decay: 1).segments
    #expect(layers == [0, 0, 1, 2, 2])
  }

  @Test func numbersThatAreNoneAreSeenAtOnce() {
    let found = run([[[.nan, 1], [0.5]]], threshold: 100, decay: 1)
    #expect(found[0].updates == [true, false])
    #expect(found[0].gradients[0][0].isNaN)
  }

  // MARK: Gradients of 8 bits

  private func rounded(
    _ gradients: [Float], scales: Bool = true, runs: [(weights: Range<Int>, scale: Float)] = [],
    seed: UInt64 = 1, step: Int = 0
  ) -> [Float] {
    let memory = SlotMemory(gradients: [gradients])
    GradientRounding(seed: seed, scales: scales).apply(
      to: memory.slots, step: step, codeScales: { _ in runs })
    return memory.gradients[0]
  }

  @Test func gradientsHaveTheStepsOf8Bits() {
    let gradients = random(1, seed: 45)[0][2]
    let unit = gradients.map(abs).max()! / 127
    for step in 0..<50 {
      for (new, old) in zip(rounded(gradients, step: step), gradients) {
        let code = new / unit
        #expect(abs(code - code.rounded()) < 1e-4 && abs(code) <= 127.001)
        #expect(abs(new - old) < unit * 1.0001)
      }
    }
    // What is a code already stays.
    #expect(rounded([127, -127, 64, 1, 0]) == [127, -127, 64, 1, 0])
    #expect(rounded([0, 0]) == [0, 0])
  }

  @Test func theExpectedGradientIsKept() {
    let gradients: [Float] = [1, 0.3, -0.0101, 0.001, -0.77, 0]
    var sums = [Double](repeating: 0, count: 6)
    for step in 0..<20_000 {
      for (index, number) in rounded(gradients, step: step).enumerated() {
        sums[index] += Double(number)
      }
    }
    for (sum, gradient) in zip(sums, gradients) {
      // Five deviations of the mean of numbers one step apart.
      #expect((sum / 20_000 - Double(gradient)).magnitude < 5 * 0.5 / 127 / 141)
    }
  }

  @Test func theSeedAndTheStepDecide() {
    let gradients = (0..<200).map { Float($0) * 0.017 - 1 }
    #expect(rounded(gradients) == rounded(gradients))
    #expect(rounded(gradients) != rounded(gradients, seed: 2))
    #expect(rounded(gradients) != rounded(gradients, step: 1))
    let memory = SlotMemory(gradients: [gradients, gradients])
    GradientRounding(seed: 1).apply(to: memory.slots, step: 0, codeScales: { _ in [] })
    #expect(memory.gradients[0] != memory.gradients[1])
  }

  /// g_c = s · g; without scaling the weights follow s · g_c, with scaling s · g_c / s² = g.
  @Test func scalingDividesByTheSquareOfTheScale() {
    let runs: [(weights: Range<Int>, scale: Float)] = [(0..<2, 0.5), (2..<4, 0.125)]
    let gradients: [Float] = [1, -0.25, 2, 4]
    let codes = zip(gradients, [0.5, 0.5, 0.125, 0.125] as [Float]).map { $0 * $1 }
    let unit = codes.map(abs).max()! / 127
    for step in 0..<20 {
      let with = rounded(gradients, runs: runs, step: step)
      let without = rounded(gradients, scales: false, runs: runs, step: step)
      for index in 0..<4 {
        let scale: Float = index < 2 ? 0.5 : 0.125
        #expect(abs(with[index] * scale - codes[index]) <= unit * 1.0001)
        #expect(without[index] == with[index] * (scale * scale))
      }
    }
  }

  @Test func numbersThatAreNoneStay() {
    #expect(rounded([1, .infinity, -0.3]) == [1, .infinity, -0.3])
    #expect(rounded([1, .nan])[1].isNaN)
  }

  // MARK: Greedy thresholds

  private static let greedy = GreedyThresholds(smallest: 0.25, count: 6)

  /// The factors, and what was tried.
  private func factors(
    norms: [Double], loss: Double = 1, _ after: ([Float]) -> Double
  ) throws -> (factors: [Float], tries: [[Float]]) {
    var tries: [[Float]] = []
    let found = try Self.greedy.factors(norms: norms, threshold: 1, loss: loss) { factors in
      tries.append(factors)
      return after(factors)
    }
    return (found, tries)
  }

  @Test func theLadderDoubles() {
    #expect(Self.greedy.ladder == [0.25, 0.5, 1, 2, 4, 8])
  }

  @Test func aStepThatIsAcceptedNeedsOneLook() throws {
    let found = try factors(norms: [100, 1]) { _ in 1 }
    #expect(found.factors == [8, 8] && found.tries.count == 1)
  }

  /// Each layer accepts thresholds up to one of its own.
  @Test func eachLayerTakesItsLargestThreshold() throws {
    let most: [Float] = [2, 0.25, 8, 1]
    let found = try factors(norms: [100, 100, 100, 100]) { factors in
      zip(factors, most).allSatisfy { $0 <= $1 } ? 0.5 : 2
    }
    #expect(found.factors == most)
  }

  @Test func nothingAcceptedLeavesTheSmallest() throws {
    let found = try factors(norms: [100, 100]) { _ in 3 }
    #expect(found.factors == [0.25, 0.25])
    #expect(try factors(norms: [100]) { _ in .nan }.factors == [0.25])
  }

  @Test func thresholdsThatClipNothingAreTriedOnce() throws {
    let found = try factors(norms: [0.4, 3]) { _ in 3 }
    // Both; layer 0 with 8, which clips as little as 0.5; layer 1 with 8, then 2, 1, 0.5.
    #expect(found.tries.count == 1 + 1 + 4)
  }

  // MARK: Pruning

  private func pruned(_ weights: [Float], share: Float) -> (SlotMemory, Pruning) {
    let memory = SlotMemory()
    memory.add(.weights, weights, gradients: weights)
    memory.add(.shifts, weights, gradients: weights)
    memory.add(.scales, weights, gradients: weights)
    return (
      memory, Pruning(memory.slots, share: share, firstStep: 10, interval: 5, updateCount: 4)
    )
  }

  /// sₜ = s + (0 − s) · (1 − (t − t₀) / (n · Δt))³ at the updates, and as at the last one between them.
  @Test func theShareIsCubic() {
    let (_, pruning) = pruned([1], share: 0.8)
    for step in 0..<50 {
      let time = min(Double((step - 10) / 5 * 5), 20)
      let left = 1 - time / 20
      let expected = step < 10 ? 0 : 0.8 - 0.8 * left * left * left
      #expect((Double(pruning.share(at: step)) - expected).magnitude < 1e-6, "\(step)")
    }
    #expect(pruning.lastUpdate == 30 && pruning.share(at: 30) == 0.8)
    let run = Pruning([], share: 0.5, steps: 1000, warmUp: 50)
    #expect(run.share(at: 50) == 0 && run.share(at: 750) == 0.5 && run.lastUpdate <= 750)
    #expect(Pruning([], share: 0.5, steps: 3, warmUp: 2).share(at: 3) == 0.5)
  }

  @Test func theSmallestWeightsBecomeZeroAndStayZero() {
    var generator = SeededGenerator(seed: 46)
    let weights = (0..<200).map { _ in Float.random(in: -1...1, using: &generator) }
    var (memory, pruning) = pruned(weights, share: 0.8)
    var zeros: Set<Int> = []
    for step in 0..<40 {
      let before = memory.values[0]
      pruning.apply(to: memory.slots, step: step)
      let after = memory.values[0]
      let now = Set(after.indices.filter { after[$0] == 0 })
      #expect(now.isSuperset(of: zeros))
      #expect(now.count == Int((pruning.share(at: step) * 200).rounded()))
      let largestPruned = now.subtracting(zeros).map { abs(before[$0]) }.max() ?? 0
      let smallestKept = after.filter { $0 != 0 }.map(abs).min() ?? 0
      #expect(largestPruned <= smallestKept)
      zeros = now
      // Training moves all of them.
      memory.slots[0].elements = after.map { $0 + Float.random(in: -0.1...0.1, using: &generator) }
    }
    #expect(zeros.count == 160)
    #expect(memory.values[1] == weights && memory.values[2] == weights)
    pruning.clearGradients(of: memory.slots)
    #expect(Set(memory.gradients[0].indices.filter { memory.gradients[0][$0] == 0 }) == zeros)
    #expect(memory.gradients[1] == weights)
  }

  @Test(arguments: Quantizer.allCases)
  func prunedWeightsHaveTheCodeZero(quantizer: Quantizer) throws {
    let coded = try CodedNetwork(seed: 47)
    let parameters = try coded.parameters(quantizer, hasWidth: true)
    // Far from 0, where a grid around the mean would not reach it.
    let slot = parameters.slot("first")
    slot.elements = slot.elements.map { $0 + 4 }
    var pruning = Pruning(
      parameters.slots, share: 0.5, firstStep: 0, interval: 1, updateCount: 1)
    pruning.apply(to: parameters.slots, step: 1)
    parameters.round()
    let codes = try parameters.codes(of: 0)!.codes.elements(as: Int8.self)
    let mask = pruning.masks[parameters.number(of: "first")]
    #expect(mask.count { $0 } == 12)
    for (code, isPruned) in zip(codes, mask) where isPruned { #expect(code == 0) }
    #expect(parameters.histograms()[0].counts[127] >= 12)
  }
}
