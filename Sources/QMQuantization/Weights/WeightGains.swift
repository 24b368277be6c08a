import QMFormat
import QMGraph
import QMTensor

/// How much the outputs of the network change with the error of each weight tensor.
struct WeightGains {
  let tensors: [WeightTensor]
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

  /// One tensor rounded, with the error of its product's outputs.
  struct Test {
    let tensor: Int
    let rounded: WeightTensor.Rounded
  }

  /// For each tensor the geometric mean of the outputs' error over the error of its own product.
  /// - Parameter tests: at least one for each tensor.
  func measured(
    _ tests: [Test], progress: (Conversion.Phase) -> Void
  ) throws(QMError) -> [Double] {
    let count = min(
      reference.roles.choosing.count, max(2, WeightGains.mostRuns / max(tests.count, 1)))
    let comparisons = try reference.compare(
      tests.count, over: program([]), at: reference.roles.choosing.prefix(count),
      program: { test throws(QMError) in
        try program([(tests[test].tensor, tests[test].rounded.tensor)])
      }, progress: progress)
    var ratios = [[Double]](repeating: [], count: tensors.count)
    for (test, comparison) in zip(tests, comparisons) where test.rounded.error > 0 {
      let errors = OutputErrors(comparison).flat(samples: count)
      let error = errors.reduce(0, +) / Double(max(errors.count, 1))
      ratios[test.tensor].append(max(error, WeightGains.leastError) / test.rounded.error)
    }
    return ratios.map(geometricMean)
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
