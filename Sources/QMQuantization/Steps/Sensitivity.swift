import QMFormat
import QMGraph
import QMOperations
import QMReport
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
/// The error of an activation itself does not tell its effect on the outputs. Compared are the parts
/// of outputs that are judged, in the form in which they are judged (``JudgedParts``), of one step.
struct SensitivityAnalysis {
  /// Least signal-to-noise ratio (of powers) of every output.
  private let tolerated: Double

  /// Least number of elements of an output, over all samples, from which a variance is meaningful.
  private static let leastElementCount = 8

  private let runs: SampleRuns
  /// A part of an output that is compared.
  private struct Place: Hashable {
    let output: String
    let part: Program.Metadata.Part
  }

  private let places: [Place]
  /// Names of the inner values that are compared in place of outputs, by number in the program.
  private var innerValues: [Int: String] = [:]
  /// The rounding of each value with fixed parameters, by number in the program.
  private var rounded: [Int: (by: FakeQuantize, group: Int)] = [:]
  /// Groups in the order in which they are computed.
  private(set) var groups: [Int] = []
  private var inputs: [[String: Tensor]] = []
  private var references: [JudgedRun.Results] = []
  /// Signal power of each part: the variance over the samples, or the mean square if the variance
  /// is not meaningful.
  private var power: [Place: Double] = [:]
  /// Number of finite reference elements of each part, over all samples.
  private var elementCounts: [Place: Int] = [:]

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
    places = graph.outputs.flatMap { output in
      let parts =
        reference.judgedParts.parts[output.name]
        ?? (graph[output.value].type.elementType == .float32 ? [.init()] : [])
      return parts.filter { !$0.isNextStep }.map { Place(output: output.name, part: $0) }
    }
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
      innerValues[number] = graph[value].name
    }
    let samples = reference.roles.choose.prefix(state.recipe.thresholds.sensitivitySamples)
    var (inputs, references) = (inputs, references)
    try runs.forEach(
      samples.count,
      run: { (step, session, _) throws(QMError) in
        let sample = samples.lowerBound + step
        return try within(.sample(reference.kept.name(of: sample))) { () throws(QMError) in
          (reference.kept.inputs(of: sample), try reference.outputs(sample, session))
        }
      },
      take: { (_, taken) in
        inputs.append(taken.0)
        references.append(taken.1)
      })
    self.inputs = inputs
    self.references = references
    for place in places {
      var elements: [Double] = []
      for results in references {
        let numbers = try place.part.numbers(of: place.output, results, results)
        elements += (numbers?.reference ?? []).lazy.filter(\.isFinite).map(Double.init)
      }
      elementCounts[place] = elements.count
      guard !elements.isEmpty else { continue }
      func meanSquare(about mean: Double) -> Double {
        elements.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(elements.count)
      }
      let about = meanSquare(about: elements.reduce(0, +) / Double(elements.count))
      // Few numbers, or equal ones, have no variance with which noise can be compared.
      power[place] =
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
    var noise = [[Place: Double]](repeating: [:], count: parts.count)
    /// Parts that already have too much noise; further samples only add to it.
    let decided = Locked([Bool](repeating: false, count: parts.count))
    // All parts run on one sample before the next one, because most sensitive parts show on the
    // first.
    try runs.forEach(
      parts.count * inputs.count,
      run: { (index, session, _) throws(QMError) -> [Place: Double]? in
        let (sample, part) = index.quotientAndRemainder(dividingBy: parts.count)
        guard !decided.withLock({ $0[part] }) else { return nil }
        return try self.noise(rounding: sets[part], ofSample: sample, session)
      },
      take: { (index, sums) in
        guard let sums else { return }
        let part = index % parts.count
        for (place, sum) in sums { noise[part][place, default: 0] += sum }
        if parts[part].count > 1, signalToNoise(noise[part]) < tolerated {
          decided.withLock { $0[part] = true }
        }
      })
    return noise.map(signalToNoise)
  }

  /// The signal-to-noise ratio of the worst part.
  /// - Parameter noise: squared error summed over the elements of each part.
  private func signalToNoise(_ noise: [Place: Double]) -> Double {
    var worst = Double.infinity
    for (place, sum) in noise where sum > 0 {
      // A part that is always zero has no signal.
      guard let power = power[place], power > 0, let count = elementCounts[place] else { continue }
      worst = min(worst, power * Double(count) / sum)
    }
    return worst
  }

  /// The squared error, summed over the elements of each part, if these groups are rounded.
  private func noise(
    rounding groups: Set<Int>, ofSample index: Int, _ session: Session
  ) throws(QMError) -> [Place: Double] {
    let affected = rounded.filter { groups.contains($0.value.group) }
    var found: [String: (elements: [Float], shape: [Int])] = [:]
    let outputs = try withoutActuallyEscaping(
      { (number: Int, view: TensorView) throws(QMError) -> Void in
        guard view.elementType == .float32 else { return }
        affected[number]?.by.apply(to: view.elements(as: Float.self))
        if let name = innerValues[number] {
          found[name] = (Array(view.elements(as: Float.self)), view.shape)
        }
      }
    ) { (body) throws(QMError) in
      try session.run(
        inputs[index],
        intercepting: Intercept(of: Set(affected.keys).union(innerValues.keys), body))
    }
    let results = JudgedRun.Results(outputs: outputs, innerValues: found)
    var noise: [Place: Double] = [:]
    for place in places {
      guard let numbers = try place.part.numbers(of: place.output, references[index], results)
      else {
        // Rounding changed the shape of the output.
        noise[place] = .infinity
        continue
      }
      var sum = 0.0
      for (expected, found) in zip(numbers.reference, numbers.measured) where expected.isFinite {
        let difference = Double(expected) - Double(found)
        sum += difference.isFinite ? difference * difference : .infinity
      }
      noise[place] = sum
    }
    return noise
  }
}
