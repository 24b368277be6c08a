import QMNumPy
import QMOperations
import QMTensor
import QMTestSupport
import QMTraining
import Testing

/// Paths that PyTorch's optimizers take in float64; `fixtures/generate/optimizers.py` made them.
@Suite struct OptimizerTests {
  private let arrays: NPZArchive

  init() throws { arrays = try NPZArchive(path: Fixtures.path("gradients/optimizers.npz")) }

  private struct Case {
    let kind: Optimizer.Kind
    var momentum: Float = 0.9
    var squared: Float = 0
    var absolute: Float = 0
  }

  private static let cases: [String: Case] = [
    "sgd": Case(kind: .sgd), "sgd_plain": Case(kind: .sgd, momentum: 0),
    "sgd_squared": Case(kind: .sgd, squared: 0.25),
    "sgd_absolute": Case(kind: .sgd, absolute: 0.125), "adam": Case(kind: .adam),
    "adam_squared": Case(kind: .adam, squared: 0.25),
    "adam_absolute": Case(kind: .adam, absolute: 0.125), "adamw": Case(kind: .adamw),
    "adamw_squared": Case(kind: .adamw, squared: 0.25),
  ]

  /// The numbers after each step.
  private func path(_ test: Case, of kind: Parameters.Slot.Kind, threads: Int = 1) throws
    -> [[Float]]
  {
    let start = try arrays.tensor(named: "start").elements(as: Float.self)
    let gradients = try arrays.tensor(named: "gradients").elements(as: Float.self)
    let rates = try arrays.tensor(named: "rates").elements(as: Float.self)
    let memory = SlotMemory()
    memory.add(kind, start, gradients: start)
    var optimizer = Optimizer(
      test.kind, for: memory.slots, momentum: test.momentum, squaredDecay: test.squared,
      absoluteDecay: test.absolute)
    let threads = ThreadPool(threadCount: threads)
    return rates.indices.map { step in
      memory.setGradients([Array(gradients[step * start.count..<(step + 1) * start.count])])
      optimizer.update(memory.slots, rates: [rates[step]], threads)
      return memory.values[0]
    }
  }

  @Test func pathsAreThoseOfPyTorch() throws {
    #expect(Set(arrays.names) == Set(Self.cases.keys).union(["start", "gradients", "rates"]))
    for (name, test) in Self.cases {
      let expected = try arrays.tensor(named: name).elements(as: Float.self)
      let found = try path(test, of: .weights).flatMap { $0 }
      let error = zip(found, expected).map { abs($0 - $1) / max(abs($1), 1) }.max() ?? .infinity
      #expect(error < 2e-5, "\(name): \(error)")
    }
  }

  @Test(arguments: [Parameters.Slot.Kind.shifts, .scales])
  func onlyWeightsDecay(kind: Parameters.Slot.Kind) throws {
    for test in Self.cases.values {
      let plain = Case(kind: test.kind, momentum: test.momentum)
      let (found, expected) = (try path(test, of: kind), try path(plain, of: .weights))
      #expect(found == expected, "\(test)")
    }
  }

  @Test func aRateOfZeroChangesNothing() {
    let memory = SlotMemory()
    memory.add(.weights, [1, -2], gradients: [3, 4])
    memory.add(.weights, [1, -2], gradients: [3, 4])
    var optimizer = Optimizer(.adamw, for: memory.slots, squaredDecay: 0.5)
    optimizer.update(memory.slots, rates: [0, 0.5], ThreadPool(threadCount: 1))
    #expect(memory.values[0] == [1, -2])
    #expect(memory.values[1] != [1, -2])
  }

  @Test(arguments: Optimizer.Kind.allCases)
  func threadsDoNotMatter(kind: Optimizer.Kind) {
    func numbers(_ threads: Int) -> [Float] {
      var generator = SeededGenerator(seed: 3)
      let start = (0..<100_003).map { _ in Float.random(in: -1...1, using: &generator) }
      let memory = SlotMemory()
      memory.add(.weights, start, gradients: start.reversed())
      var optimizer = Optimizer(kind, for: memory.slots, squaredDecay: 0.1, absoluteDecay: 0.1)
      let threads = ThreadPool(threadCount: threads)
      for _ in 0..<3 { optimizer.update(memory.slots, rates: [0.1], threads) }
      return memory.values[0]
    }
    #expect(numbers(1) == numbers(3))
  }
}
