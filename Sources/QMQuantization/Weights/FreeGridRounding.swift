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
///
/// With the effort ``Recipe/Effort/fast``, and without samples, steps 3 and 4 are left out.
struct FreeGridRounding {
  private let tensors: [WeightTensor]
  /// Grids of the tensors that have a width of their own, by index.
  private let fixedGrids: [Int: WeightGrid]
  private let isPerTensor: Bool
  private let effort: Recipe.Effort
  private let known: KnownRoundings
  /// The network whose outputs are measured; nil for arrays, and without samples.
  private let network: WeightGains?
  /// In bits.
  private let budget: Int
  private let largestCode: Int32
  private let steps: [Float]
  /// What a tensor takes apart from its codes, in bits: headers of its section and streams.
  private static let headerBits = 512

  /// Rounds the weights of a network.
  /// - Parameter bits: average bits of a weight in the file.
  init(_ weights: [NetworkWeights], bits: Double, _ state: ConversionState) throws(QMError) {
    var fixedGrids: [Int: WeightGrid] = [:]
    for (index, weights) in weights.enumerated() {
      fixedGrids[index] = try state.widths[weights.place.node].map { (width) throws(QMError) in
        try state.fixedGrid(weights, width)
      }
    }
    self.init(
      weights.map(\.tensor), bits: bits, fixedGrids: fixedGrids,
      isPerTensor: state.recipe.granularity == .perTensor, effort: state.recipe.effort,
      known: state.knownRoundings,
      network: state.reference.map {
        WeightGains(tensors: weights, state: state, reference: $0)
      })
  }

  /// Rounds arrays, or the weights of a network.
  /// - Parameters:
  ///   - bits: average bits of a weight in the file.
  ///   - fixedGrids: grids of the tensors that have a width of their own, by index.
  ///   - isPerTensor: whether each tensor has one step.
  ///   - effort: how much is tried if there is a network.
  ///   - known: what other roundings of the same tensors have shown.
  ///   - network: measures what the tensors' errors do to the outputs; nil to take them as they are.
  init(
    _ tensors: [WeightTensor], bits: Double, fixedGrids: [Int: WeightGrid], isPerTensor: Bool,
    effort: Recipe.Effort = .standard, known: KnownRoundings = KnownRoundings(),
    network: WeightGains? = nil
  ) {
    self.tensors = tensors
    self.fixedGrids = fixedGrids
    self.isPerTensor = isPerTensor
    self.effort = effort
    self.known = known
    self.network = network
    budget = Int(bits * Double(tensors.reduce(0) { $0 + $1.weights.elementCount }))
    // Codes of 7 bits are multiplied faster than those of 8 on processors without dot products of
    // bytes. An average of 6 bits and more needs finer steps.
    largestCode = bits < 6 ? 63 : 127
    steps = WeightTensor.steps(averageBits: bits)
  }

  /// One way to round a tensor.
  private struct Option: Hashable {
    /// In standard deviations of the weights; nil for codes of a width that the recipe gives.
    let step: Float?
    let granularity: Granularity
    let choice: BitAllocation.Choice
  }

  /// - Returns: codes and scales of each tensor, and what its error adds to that of the network's
  ///   outputs.
  /// - Throws: `usage` if even the coarsest steps take more bits.
  func run(
    progress: (Conversion.Phase) -> Void
  ) throws(QMError) -> [(rounded: WeightTensor.Rounded, outputError: Double)] {
    if known.energies.isEmpty {
      known.energies = try tensors.map { (tensor) throws(QMError) in
        try tensor.energy()
      }
    }
    let options = try tensors.indices.map { (tensor) throws(QMError) in try self.options(tensor) }
    guard let network, tensors.count > 1, effort.measuresSingleRoundings else {
      let isBounded = network != nil && tensors.count > 1
      let chosen = isBounded ? bounded(options, effort.boundFactors[0]) : options
      return try refined(allocated(chosen)).map { ($0, $0.error) }
    }
    let first = try allocated(options)
    let gains = try network.measured(
      tests(options, first),
      rounded: { (test) throws(QMError) in
        try self.rounded(test.tensor, step: test.step, test.granularity)
      }, progress: progress)
    let finest = try refined(best(options, gains, network))
    return zip(finest, gains).map { ($0, $0.error * $1) }
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
          + (fixedGrids.isEmpty ? "" : ", or fewer for nodes with a width of their own"))
    }
    return zip(options, allocation.chosen).map { $0[$1] }
  }

  /// The allocation of least error of the outputs among those with several bounds of the tensors'
  /// errors. Gains are measured one tensor at a time, and mislead where errors are large.
  private func best(
    _ options: [[Option]], _ gains: [Double], _ network: WeightGains
  ) throws(QMError) -> [Option] {
    var best: (options: [Option], error: Double)?
    var tried: Set<[Option]> = []
    var first: OutputErrors?
    for factor in effort.boundFactors {
      let chosen = try allocated(bounded(options, factor), gains: gains)
      guard tried.insert(chosen).inserted else { continue }
      let rounded = try chosen.enumerated().map { (tensor, option) throws(QMError) in
        (tensor, try self.rounded(tensor, step: option.step, option.granularity).tensor)
      }
      let errors = try network.errors(rounded, like: first)
      first = first ?? errors
      if errors.meanLogarithm < best?.error ?? .infinity { best = (chosen, errors.meanLogarithm) }
    }
    if let best { return best.options }
    return try allocated(options, gains: gains)
  }

  /// The options whose error is at most `factor` times the least bound that the budget allows for all
  /// tensors.
  private func bounded(_ options: [[Option]], _ factor: Double) -> [[Option]] {
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
      if fewest <= budget { return within(factor * bound) }
      bound *= 1.1
    }
    return options
  }

  /// Roundings of each tensor with steps around the chosen one.
  private func tests(_ options: [[Option]], _ chosen: [Option]) -> [KnownRoundings.Rounding] {
    var tests: [KnownRoundings.Rounding] = []
    for (tensor, chosen) in chosen.enumerated() {
      let ladder = options[tensor].filter { $0.granularity == chosen.granularity }
      guard let place = ladder.firstIndex(of: chosen) else { continue }
      let offsets = [0, 4, -2, 2].prefix(WeightGains.testCount(tensors: tensors.count))
      let places = Set(offsets.map { min(max(place + $0, 0), ladder.count - 1) })
      tests += places.sorted().map {
        rounding(tensor, step: ladder[$0].step, ladder[$0].granularity)
      }
    }
    return tests
  }

  private func options(_ index: Int) throws(QMError) -> [Option] {
    let tensor = tensors[index]
    if fixedGrids[index] != nil {
      return [try option(index, step: nil, .perTensor)]
    }
    var options: [Option] = []
    let granularities: [Granularity] =
      tensor.use == .table || isPerTensor
      ? [tensor.use == .table ? .perChannel(axis: 0) : .perTensor]
      : [.perTensor, .perChannel(axis: 0)]
    for granularity in granularities {
      for step in steps {
        options.append(try option(index, step: step, granularity))
      }
    }
    return options
  }

  private func option(
    _ tensor: Int, step: Float?, _ granularity: Granularity
  ) throws(QMError) -> Option {
    let rounding = rounding(tensor, step: step, granularity)
    if let choice = known.choices[rounding] {
      return Option(step: step, granularity: granularity, choice: choice)
    }
    let rounded = try rounded(tensor, step: step, granularity)
    let choice = BitAllocation.Choice(bits: rounded.bits, error: rounded.error)
    known.choices[rounding] = choice
    return Option(step: step, granularity: granularity, choice: choice)
  }

  private func rounding(
    _ tensor: Int, step: Float?, _ granularity: Granularity
  ) -> KnownRoundings.Rounding {
    .init(tensor: tensor, step: step, granularity: granularity, largestCode: largestCode)
  }

  private func rounded(
    _ index: Int, step: Float?, _ granularity: Granularity
  ) throws(QMError) -> WeightTensor.Rounded {
    let (tensor, energy) = (tensors[index], known.energies[index])
    // Only tensors with grids of their own have no steps.
    let grid =
      fixedGrids[index]
      ?? tensor.freeGrid(step: step ?? 1, granularity, largestCode: largestCode)
    return try tensor.measured(grid, energy: energy)
  }

  /// The finest rounding within the budget when all chosen steps are divided by one factor.
  private func refined(_ chosen: [Option]) throws(QMError) -> [WeightTensor.Rounded] {
    func rounded(_ factor: Float) throws(QMError) -> [WeightTensor.Rounded] {
      try chosen.enumerated().map { (tensor, option) throws(QMError) in
        try self.rounded(tensor, step: option.step.map { $0 * factor }, option.granularity)
      }
    }
    var best = try rounded(1)
    var (fine, coarse): (Float, Float) = (0.5, 1)
    for _ in 0..<effort.refinements {
      let factor = (fine + coarse) / 2
      let finer = try rounded(factor)
      if finer.reduce(0, { $0 + $1.bits }) <= budget {
        (best, coarse) = (finer, factor)
      } else {
        fine = factor
      }
    }
    return best
  }
}
