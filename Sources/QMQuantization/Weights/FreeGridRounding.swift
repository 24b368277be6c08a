import QMGraph
import QMOperations
import QMTensor

/// Rounds all weights to free grids whose codes take a given number of bits on average in the file,
/// scales included.
///
/// 1. Each tensor is rounded with several steps, from fine to coarse, and with one step for the
///    tensor or one for each channel. Each gives a size, and an error e of the product's own output.
/// 2. ``BitAllocation`` chooses among them with the sum of all e as the error.
/// 3. With a few steps near the chosen one, each tensor alone is rounded in the float network, and
///    the error D of the network's outputs is measured. The gain of the tensor is the geometric mean
///    of D / e: single measurements are made of few flips of few samples, and would mislead.
/// 4. ``BitAllocation`` chooses again, with gain · e as the error, among the steps whose e is at most
///    half more than the least bound that the budget allows: errors add up to a sum only while they
///    are small.
/// 5. One factor scales all steps so that the budget is used.
struct FreeGridRounding {
  private let tensors: [WeightTensor]
  private let state: ConversionState
  /// In bits.
  private let budget: Int
  private let largestCode: Int32
  /// What a tensor takes apart from its codes, in bits: headers of its section and streams.
  private static let headerBits = 512
  /// Steps of the bisection for the last factor.
  private static let mostRefinements = 4

  /// - Parameter bits: average bits of a weight in the file.
  init(_ tensors: [WeightTensor], bits: Double, _ state: ConversionState) {
    self.tensors = tensors
    self.state = state
    budget = Int(bits * Double(tensors.reduce(0) { $0 + $1.weights.elementCount }))
    // Codes of 7 bits are multiplied faster than those of 8 on processors without dot products of
    // bytes. An average of 6 bits and more needs finer steps.
    largestCode = bits < 6 ? 63 : 127
  }

  /// One way to round a tensor.
  private struct Option: Hashable {
    /// In standard deviations of the weights; nil for codes of a width that the recipe gives.
    let step: Float?
    let granularity: Granularity
    let choice: BitAllocation.Choice
  }

  /// - Returns: codes and scales of each tensor.
  /// - Throws: `usage` if even the coarsest steps take more bits.
  func run(progress: (Conversion.Phase) -> Void) throws(QMError) -> [QuantizedTensor] {
    let energies = try tensors.map { (tensor) throws(QMError) in try tensor.energy() }
    var options: [[Option]] = []
    for (tensor, energy) in zip(tensors, energies) {
      options.append(try self.options(tensor, energy))
    }
    let first = try allocated(options)
    guard let reference = state.reference, tensors.count > 1 else {
      return try refined(first, energies)
    }
    let gains = WeightGains(tensors: tensors, state: state, reference: reference)
    let factors = try gains.measured(tests(options, first, energies), progress: progress)
    return try refined(allocated(bounded(options), gains: factors), energies)
  }

  /// The options that spend the budget best.
  /// - Parameter gains: factors of the tensors' errors; nil for 1.
  private func allocated(
    _ options: [[Option]], gains: [Double]? = nil
  ) throws(QMError) -> [Option] {
    let choices = options.enumerated().map { (tensor, options) in
      options.map {
        BitAllocation.Choice(
          bits: $0.choice.bits, error: $0.choice.error * (gains?[tensor] ?? 1))
      }
    }
    // Tensors of a few weights may take more for their headers than for all their codes.
    let headers = FreeGridRounding.headerBits * tensors.count
    guard
      let allocation = BitAllocation(choices, budget: budget)
        ?? BitAllocation(choices, budget: budget + headers)
    else {
      throw .usage(
        "the weights take more bits than allowed, even with the coarsest steps; allow more"
          + (state.widths.isEmpty ? "" : ", or fewer for nodes with a width of their own"))
    }
    return zip(options, allocation.chosen).map { $0[$1] }
  }

  /// The options whose error is at most half more than the least bound that the budget allows for all
  /// tensors.
  private func bounded(_ options: [[Option]]) -> [[Option]] {
    func within(_ bound: Double) -> [[Option]] {
      options.map { options in
        let small = options.filter { $0.choice.error <= bound }
        return small.isEmpty
          ? options.min { $0.choice.error < $1.choice.error }.map { [$0] } ?? [] : small
      }
    }
    var bound = 1e-4
    while bound < 1 {
      let fewest = within(bound).reduce(0) { $0 + ($1.map(\.choice.bits).min() ?? 0) }
      if fewest <= budget { return within(1.5 * bound) }
      bound *= 1.1
    }
    return options
  }

  /// Roundings of each tensor with steps around the chosen one.
  private func tests(
    _ options: [[Option]], _ chosen: [Option], _ energies: [Double]
  ) throws(QMError) -> [WeightGains.Test] {
    var tests: [WeightGains.Test] = []
    for (tensor, chosen) in chosen.enumerated() {
      let ladder = options[tensor].filter { $0.granularity == chosen.granularity }
      guard let place = ladder.firstIndex(of: chosen) else { continue }
      let offsets = [0, 4, -2, 2].prefix(WeightGains.testCount(tensors: tensors.count))
      let places = Set(offsets.map { min(max(place + $0, 0), ladder.count - 1) })
      for option in places.sorted().map({ ladder[$0] }) {
        tests.append(
          WeightGains.Test(
            tensor: tensor,
            rounded: try rounded(
              tensors[tensor], step: option.step, option.granularity, energies[tensor])))
      }
    }
    return tests
  }

  private func options(_ tensor: WeightTensor, _ energy: Double) throws(QMError) -> [Option] {
    if state.widths[tensor.place.node] != nil {
      let rounded = try rounded(tensor, step: nil, .perTensor, energy)
      return [
        Option(
          step: nil, granularity: .perTensor,
          choice: .init(bits: rounded.bits, error: rounded.error))
      ]
    }
    var options: [Option] = []
    let granularities: [Granularity] =
      tensor.use == .table || state.recipe.granularity == .perTensor
      ? [tensor.use == .table ? .perChannel(axis: 0) : .perTensor]
      : [.perTensor, .perChannel(axis: 0)]
    for granularity in granularities {
      for step in WeightTensor.steps {
        let rounded = try rounded(tensor, step: step, granularity, energy)
        options.append(
          Option(
            step: step, granularity: granularity,
            choice: .init(bits: rounded.bits, error: rounded.error)))
      }
    }
    return options
  }

  private func rounded(
    _ tensor: WeightTensor, step: Float?, _ granularity: Granularity, _ energy: Double
  ) throws(QMError) -> WeightTensor.Rounded {
    guard let step else {
      let width = state.widths[tensor.place.node] ?? .eight
      return try tensor.measured(state.fixedGrid(tensor, width), energy: energy)
    }
    return try tensor.measured(
      tensor.freeGrid(step: step, granularity, largestCode: largestCode), energy: energy)
  }

  /// The finest rounding within the budget when all chosen steps are divided by one factor.
  private func refined(_ chosen: [Option], _ energies: [Double]) throws(QMError)
    -> [QuantizedTensor]
  {
    func rounded(_ factor: Float) throws(QMError) -> (tensors: [QuantizedTensor], bits: Int) {
      var (rounded, bits): ([QuantizedTensor], Int) = ([], 0)
      for (index, tensor) in tensors.enumerated() {
        let result = try self.rounded(
          tensor, step: chosen[index].step.map { $0 * factor }, chosen[index].granularity,
          energies[index])
        rounded.append(result.tensor)
        bits += result.bits
      }
      return (rounded, bits)
    }
    var best = try rounded(1)
    var (fine, coarse): (Float, Float) = (0.5, 1)
    for _ in 0..<FreeGridRounding.mostRefinements {
      let factor = (fine + coarse) / 2
      let finer = try rounded(factor)
      if finer.bits <= budget {
        (best, coarse) = (finer, factor)
      } else {
        fine = factor
      }
    }
    return best.tensors
  }
}
