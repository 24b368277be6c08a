import QMGraph
import QMOperations
import QMRuntime
import QMTensor

/// Finds the groups of activations that int8 alone costs too much at an output.
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

/// Measures what rounding activations costs at the outputs of the network: the float network runs
/// with a few values rounded where they are made, all else unrounded.
///
/// A value's own error does not say what it does to the result; this does. Outputs that are
/// probabilities are compared as log odds, within ±8.3: a classifier that is sure of its samples
/// would hide every error.
struct SensitivityAnalysis {
  /// Signal to noise, as a ratio of powers, that a value must leave at every output.
  private let tolerated: Double

  /// Elements of an output over all samples below which their spread says nothing.
  private static let leastElementCount = 8

  private let runs: SampleRuns
  private let probabilities: Set<String>
  /// How each value with fixed parameters is rounded, by number in the program.
  private var rounded: [Int: (by: FakeQuantize, group: Int)] = [:]
  /// Groups in the order in which they are computed.
  private(set) var groups: [Int] = []
  private var inputs: [[String: Tensor]] = []
  private var references: [[String: [Float]]] = []
  /// Power of each output: about its mean over the samples, where that tells outputs apart.
  private var power: [String: Double] = [:]
  /// Elements of each output that the references of all samples have as finite numbers.
  private var elementCounts: [String: Int] = [:]

  /// - Parameters:
  ///   - numbers: of the graph's values in the program that `runs` runs.
  ///   - samples: of which the first few are taken.
  ///   - outputs: what is known of the outputs of samples.
  init(
    _ state: ConversionState, numbers: [Graph.ValueID: Int], _ runs: SampleRuns,
    over samples: KeptSamples, outputs known: ReferenceOutputs
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
    let count = min(samples.count, state.recipe.thresholds.sensitivitySamples)
    var (inputs, references) = (inputs, references)
    try runs.forEach(
      count,
      run: { [self] (index, session, _) throws(QMError) in
        try within(.sample(samples.name(of: index))) { () throws(QMError) in
          let sample = samples.inputs(of: index)
          let outputs = if let known = known[index] { known } else { try session.run(sample) }
          return (sample, try numbersToCompare(outputs))
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
      // A few numbers, or one and the same, have no spread to compare noise with.
      power[name] =
        elements.count >= SensitivityAnalysis.leastElementCount && about > 0
        ? about : meanSquare(about: 0)
    }
  }

  /// The groups whose rounding alone leaves less than is tolerated, with what it leaves. Groups
  /// are halved until each that does stands alone: noise of several adds up, so that a set within
  /// the limit holds none beyond it.
  /// - Parameter progress: called with how many groups are decided.
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

  /// Of each part, signal to noise of the worst output, as a ratio, where its groups alone are
  /// rounded. Of a part with several groups some ratio below what is tolerated may stand for the least.
  private func signalsToNoise(rounding parts: [ArraySlice<Int>]) throws(QMError) -> [Double] {
    let sets = parts.map { Set($0) }
    var noise = [[String: Double]](repeating: [:], count: parts.count)
    /// Parts of which the samples so far say enough: noise only grows.
    let decided = Locked([Bool](repeating: false, count: parts.count))
    // All parts on one sample before the next: most that fail do so on the first.
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

  /// Signal to noise of the worst output, as a ratio.
  /// - Parameter noise: its power summed over the elements of each output.
  private func signalToNoise(_ noise: [String: Double]) -> Double {
    var worst = Double.infinity
    for (name, sum) in noise where sum > 0 {
      // An output that is zero throughout has nothing to compare noise with.
      guard let power = power[name], power > 0, let count = elementCounts[name] else { continue }
      worst = min(worst, power * Double(count) / sum)
    }
    return worst
  }

  /// Power of the noise summed over the elements of each output, where these groups are rounded.
  private func noise(
    rounding groups: Set<Int>, ofSample index: Int, _ session: Session
  ) throws(QMError) -> [String: Double] {
    let rounding = Intercept(
      of: Set(rounded.filter { groups.contains($0.value.group) }.keys)
    ) { [rounded] (number, view) throws(QMError) in
      guard view.elementType == .float32 else { return }
      rounded[number]?.by.apply(to: view.elements(as: Float.self))
    }
    let outputs = try numbersToCompare(
      try session.run(inputs[index], intercepting: rounding))
    var noise: [String: Double] = [:]
    for (name, expected) in references[index] {
      guard let found = outputs[name], found.count == expected.count else {
        // Rounding has changed the extents of an output.
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

  /// The elements of each float output; of probabilities the log odds.
  private func numbersToCompare(
    _ outputs: [String: Tensor]
  ) throws(QMError) -> [String: [Float]] {
    var numbers: [String: [Float]] = [:]
    for (name, tensor) in outputs where tensor.elementType == .float32 {
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
