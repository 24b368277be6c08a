import QMFormat
import QMGraph
import QMTensor

/// How much the outputs of the network change with the error of each weight tensor.
struct WeightGains {
  let tensors: [NetworkWeights]
  let state: ConversionState
  let reference: ReferenceRuns

  /// Runs of one sample that the measurements may take.
  private static let mostRuns = 900
  /// Errors below 60 dB are made of the rounding of float32 as well.
  private static let leastError = 1e-6

  /// Number of tests for each tensor: 4, or 2 or 1 if there are so many tensors that two samples of
  /// each test would take too many runs.
  static func testCount(tensors: Int) -> Int {
    [4, 2].first { 2 * $0 * tensors <= mostRuns } ?? 1
  }

  /// For each tensor the geometric mean of the outputs' error over the error of its own product.
  /// - Parameters:
  ///   - tests: roundings of single tensors, at least one for each tensor.
  ///   - rounded: rounds a tensor.
  func measured(
    _ tests: [KnownRoundings.Rounding],
    rounded: (KnownRoundings.Rounding) throws(QMError) -> WeightTensor.Rounded,
    progress: (Conversion.Phase) -> Void
  ) throws(QMError) -> [Double] {
    let count = min(
      reference.roles.choosing.count, max(2, WeightGains.mostRuns / max(tests.count, 1)))
    let known = state.knownRoundings
    func measurement(_ test: KnownRoundings.Rounding) -> KnownRoundings.Measurement {
      .init(rounding: test, samples: count)
    }
    let unknown = tests.filter { known.ratios[measurement($0)] == nil }
    let roundings = try unknown.map(rounded)
    if !unknown.isEmpty {
      let comparisons = try reference.compare(
        unknown.count, over: program([]), at: reference.roles.choosing.prefix(count),
        program: { test throws(QMError) in
          try program([(unknown[test].tensor, roundings[test].tensor)])
        }, progress: progress)
      for (index, comparison) in comparisons.enumerated() {
        let errors = OutputErrors(comparison).flat(samples: count)
        let error = errors.reduce(0, +) / Double(max(errors.count, 1))
        let own = roundings[index].error
        known.ratios[measurement(unknown[index])] =
          own > 0 ? max(error, WeightGains.leastError) / own : 0
      }
    }
    var ratios = [[Double]](repeating: [], count: tensors.count)
    for test in tests {
      if let ratio = known.ratios[measurement(test)], ratio > 0 {
        ratios[test.tensor].append(ratio)
      }
    }
    return ratios.map(geometricMean)
  }

  /// The errors of the outputs with some tensors rounded.
  func errors(
    _ rounded: [(tensor: Int, codes: QuantizedTensor)], like base: OutputErrors?
  ) throws(QMError) -> OutputErrors {
    try reference.errors(of: program(rounded), at: reference.roles.choosing, like: base)
  }

  /// The geometric mean of one, two or four numbers; of three, that of the first two. 1 for none.
  /// Square roots have the same bits on every machine.
  private func geometricMean(_ numbers: [Double]) -> Double {
    switch numbers.count {
    case 0: 1
    case 1: numbers[0]
    case 2, 3: (numbers[0] * numbers[1]).squareRoot()
    default:
      ((numbers[0] * numbers[1]).squareRoot() * (numbers[2] * numbers[3]).squareRoot()).squareRoot()
    }
  }

  /// The float network with some tensors rounded and their biases corrected.
  private func program(
    _ rounded: [(tensor: Int, codes: QuantizedTensor)]
  ) throws(QMError) -> Program {
    var plan = Plan(for: state.graph)
    plan.floatNodes = state.plan.floatNodes
    for (tensor, codes) in rounded { plan.weights[tensors[tensor].value] = codes }
    plan.biases = try state.biases(correcting: plan)
    return try state.graph.inserting(plan).flattened().program
  }
}
