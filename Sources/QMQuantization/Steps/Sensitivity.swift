import QMGraph
import QMOperations
import QMRuntime
import QMTensor

/// Finds the groups of activations that cannot be int8, because rounding one of them alone causes
/// too large an error at an output.
struct MeasureSensitivity: ConversionStep {
  func apply(
    to state: inout ConversionState, progress: (Conversion.Phase) -> Void
  ) throws(QMError) {
    guard state.recipe.activations == .int8, let reference = state.reference else { return }
    let analysis = try reference.sensitivity(state)
    let sensitive = try analysis.sensitiveGroups { done in
      progress(.testing(done: done, of: analysis.groups.count))
    }
    progress(.rounding)
    for value in state.quantizableActivations {
      let group = state.groups.group(of: value)
      if let ratio = sensitive[group] { state.reasons[group] = .sensitive(signalToNoise: ratio) }
    }
  }
}

/// Measures the error that rounding activations causes at the outputs of the network: the float
/// network runs with a few values rounded and everything else unrounded.
///
/// The error of an activation itself does not tell its effect on the outputs. Probabilities are
/// compared as log odds within ±8.3, because the outputs of a confident classifier would hide
/// errors.
struct SensitivityAnalysis {
  /// Least signal-to-noise ratio (of powers) of every output.
  private let tolerated: Double

  /// Least number of elements of an output, over all samples, from which a variance is meaningful.
  private static let leastElementCount = 8

  private let runs: SampleRuns
  private let probabilities: Set<String>
  /// Outputs that are chosen from other numbers: these are compared in their place.
  private var chosen: Set<String> = []
  /// Names of those numbers, by number of the value in the program.
  private var frontNumbers: [Int: String] = [:]
  /// The rounding of each value with fixed parameters, by number in the program.
  private var rounded: [Int: (by: FakeQuantize, group: Int)] = [:]
  /// Groups in the order in which they are computed.
  private(set) var groups: [Int] = []
  private var inputs: [[String: Tensor]] = []
  private var references: [[String: [Float]]] = []
  /// Signal power of each output: the variance over the samples, or the mean square if the variance
  /// is not meaningful.
  private var power: [String: Double] = [:]
  /// Number of finite reference elements of each output, over all samples.
  private var elementCounts: [String: Int] = [:]

  /// - Parameters:
  ///   - numbers: number of each of the graph's values in the program of `runs`.
  ///   - reference: the float network; of the samples that choose, the first
  ///     ``Recipe/Thresholds/sensitivitySamples`` are used.
  init(
    _ state: ConversionState, numbers: [Graph.ValueID: Int], _ runs: SampleRuns,
    _ reference: ReferenceRuns
  ) throws(QMError) {
    let (graph, plan) = (state.graph, state.plan)
    self.runs = runs
    tolerated = Comparison.ratio(ofDecibels: state.recipe.thresholds.toleratedDecibels)
    probabilities = Set(
      graph.outputs.filter { state.groups.analyticRange(of: $0.value) == 0...1 }.map(\.name))
    var seen: Set<Int> = []
    for value in plan.activations.keys.sorted() {
      guard case .fixed(let parameters) = plan.activations[value], let number = numbers[value]
      else { continue }
      let group = state.groups.group(of: value)
      rounded[number] = (FakeQuantize(parameters), group)
      if seen.insert(group).inserted { groups.append(group) }
    }
    for (value, number) in numbers
    where reference.judgedParts.innerValues.contains(graph[value].name) {
      frontNumbers[number] = graph[value].name
    }
    chosen = Set(
      reference.judgedParts.parts.filter { $0.value.contains { !$0.value.isEmpty } }.keys)
    let places = reference.roles.choose.prefix(state.recipe.thresholds.sensitivitySamples)
    var (inputs, references) = (inputs, references)
    try runs.forEach(
      places.count,
      run: { [self] (step, session, _) throws(QMError) in
        let place = places.lowerBound + step
        return try within(.sample(reference.kept.name(of: place))) { () throws(QMError) in
          let outputs = try reference.outputs(place, session)
          return (
            reference.kept.inputs(of: place),
            try numbersToCompare(outputs.outputs, outputs.innerValues)
          )
        }
      },
      take: { (_, taken) in
        inputs.append(taken.0)
        references.append(taken.1)
      })
    self.inputs = inputs
    self.references = references
    for name in references.first?.keys.sorted() ?? [] {
      let elements = references.flatMap { $0[name] ?? [] }.filter(\.isFinite).map(Double.init)
      elementCounts[name] = elements.count
      guard !elements.isEmpty else { continue }
      func meanSquare(about mean: Double) -> Double {
        elements.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(elements.count)
      }
      let about = meanSquare(about: elements.reduce(0, +) / Double(elements.count))
      // Few numbers, or equal ones, have no variance with which noise can be compared.
      power[name] =
        elements.count >= SensitivityAnalysis.leastElementCount && about > 0
        ? about : meanSquare(about: 0)
    }
  }

  /// The groups whose rounding alone leaves a signal-to-noise ratio below the tolerated one, with
  /// that ratio. Sets of groups are halved until each sensitive group is alone. The noise of
  /// several groups adds up, so a set above the limit contains no sensitive group.
  /// - Parameter progress: called with the number of groups that are decided.
  func sensitiveGroups(
    progress: (_ done: Int) -> Void = { _ in }
  ) throws(QMError) -> [Int: Double] {
    var done = 0
    var found: [Int: Double] = [:]
    var pending = groups.isEmpty ? [] : [groups[...]]
    while !pending.isEmpty {
      var halves: [ArraySlice<Int>] = []
      for (part, signalToNoise) in zip(pending, try signalsToNoise(rounding: pending)) {
        if signalToNoise >= tolerated || part.count == 1 {
          if signalToNoise < tolerated { found[part[part.startIndex]] = signalToNoise }
          done += part.count
          progress(done)
        } else {
          let middle = part.startIndex + part.count / 2
          halves += [part[..<middle], part[middle...]]
        }
      }
      pending = halves
    }
    return found
  }

  /// For each part, the signal-to-noise ratio of the worst output if only the part's groups are
  /// rounded. For a part of several groups, a ratio below the tolerated one may be too high,
  /// because measuring stops early.
  private func signalsToNoise(rounding parts: [ArraySlice<Int>]) throws(QMError) -> [Double] {
    let sets = parts.map { Set($0) }
    var noise = [[String: Double]](repeating: [:], count: parts.count)
    /// Parts that already have too much noise; further samples only add to it.
    let decided = Locked([Bool](repeating: false, count: parts.count))
    // All parts run on one sample before the next one, because most sensitive parts show on the
    // first.
    try runs.forEach(
      parts.count * inputs.count,
      run: { (index, session, _) throws(QMError) -> [String: Double]? in
        let (sample, part) = index.quotientAndRemainder(dividingBy: parts.count)
        guard !decided.withLock({ $0[part] }) else { return nil }
        return try self.noise(rounding: sets[part], ofSample: sample, session)
      },
      take: { (index, sums) in
        guard let sums else { return }
        let part = index % parts.count
        for (name, sum) in sums { noise[part][name, default: 0] += sum }
        if parts[part].count > 1, signalToNoise(noise[part]) < tolerated {
          decided.withLock { $0[part] = true }
        }
      })
    return noise.map(signalToNoise)
  }

  /// The signal-to-noise ratio of the worst output.
  /// - Parameter noise: squared error summed over the elements of each output.
  private func signalToNoise(_ noise: [String: Double]) -> Double {
    var worst = Double.infinity
    for (name, sum) in noise where sum > 0 {
      // An output that is always zero has no signal.
      guard let power = power[name], power > 0, let count = elementCounts[name] else { continue }
      worst = min(worst, power * Double(count) / sum)
    }
    return worst
  }

  /// The squared error, summed over the elements of each output, if these groups are rounded.
  private func noise(
    rounding groups: Set<Int>, ofSample index: Int, _ session: Session
  ) throws(QMError) -> [String: Double] {
    let affected = rounded.filter { groups.contains($0.value.group) }
    var innerValues: [String: [Float]] = [:]
    let results = try withoutActuallyEscaping(
      { (number: Int, view: TensorView) throws(QMError) -> Void in
        guard view.elementType == .float32 else { return }
        affected[number]?.by.apply(to: view.elements(as: Float.self))
        if let name = frontNumbers[number] {
          innerValues[name] = Array(view.elements(as: Float.self))
        }
      }
    ) { (body) throws(QMError) in
      try session.run(
        inputs[index],
        intercepting: Intercept(of: Set(affected.keys).union(frontNumbers.keys), body))
    }
    let outputs = try numbersToCompare(results, innerValues)
    var noise: [String: Double] = [:]
    for (name, expected) in references[index] {
      guard let found = outputs[name], found.count == expected.count else {
        // Rounding changed the shape of the output.
        noise[name] = .infinity
        continue
      }
      var sum = 0.0
      for (expected, found) in zip(expected, found) where expected.isFinite {
        let difference = Double(expected) - Double(found)
        sum += difference.isFinite ? difference * difference : .infinity
      }
      noise[name] = sum
    }
    return noise
  }

  /// The elements of each float output; the log odds if they are probabilities. In place of outputs
  /// that are chosen, the numbers that they are chosen from.
  private func numbersToCompare(
    _ outputs: [String: Tensor], _ innerValues: [String: [Float]]
  ) throws(QMError) -> [String: [Float]] {
    var numbers = innerValues
    for (name, tensor) in outputs
    where tensor.elementType == .float32 && !chosen.contains(name) {
      let elements: [Float] = tensor.elements()
      numbers[name] =
        probabilities.contains(name) ? try SensitivityAnalysis.logOdds(elements) : elements
    }
    return numbers
  }

  private static func logOdds(_ probabilities: [Float]) throws(QMError) -> [Float] {
    let odds = try Tensor([probabilities.count], as: Float.self) { (odds) in
      for (index, probability) in probabilities.enumerated() {
        let inside = min(max(probability, 0x1p-12), 1 - 0x1p-12)
        odds[index] = inside / (1 - inside)
      }
    }
    return try Operation.unary(Unary(.logarithm)).evaluate([odds])[0].elements()
  }
}
