import QMFormat
import QMOperations
import QMRuntime
import QMTensor

/// Compares the outputs of a program with correct ones.
///
/// Correct are the expected outputs that come with the samples or, without these, the outputs of a
/// reference network. With neither, the outputs of the float network for the probes in the file are,
/// and a self-test checks that every kernel set gives the same bits as the reference loops. The
/// digests of probes are checked whatever else there is.
public struct Verification {
  /// A phase of a verification, with the number of steps done and in total.
  public enum Phase: Hashable, Sendable {
    /// Running samples and comparing outputs.
    case comparing(done: Int, of: Int)
    /// Comparing kernel sets with the reference loops.
    case runningReferenceLoops(done: Int, of: Int)
    /// Comparing inner values of the network.
    case comparingValues(done: Int, of: Int)
  }

  /// The results. `passed` is always true: the caller decides whether they are good enough.
  public private(set) var report: VerificationReport

  private let program: Program
  private let reference: Program?
  private let options: Model.Options
  private let model: Model
  private let inputs: Inputs
  private let probes: Program.Probes?

  /// Maximum memory of a run on seeded inputs, in bytes; a limit is needed because their shapes are
  /// guesses.
  private static let seededByteLimit = 1 << 29
  /// Maximum number of samples of a self-test; the reference loops are slow.
  private static let selfTestCount = 3
  /// Maximum number of inputs on which nodes are timed.
  private static let profiledCount = 10

  /// Prepares a program.
  /// - Parameters:
  ///   - file: the file of the program, for the report and for errors.
  ///   - samples: the samples to run; nil runs inputs made from a seed.
  ///   - reference: a network with the same inputs and outputs.
  ///   - probes: those of the file; nil if it has none.
  ///   - options: options of all runs.
  /// - Throws: `outOfTolerance` if the reference has other inputs or outputs; the error of
  ///   preparing the program.
  public init(
    _ program: Program, of file: FileSize, samples: (any SampleSource)?, reference: Program?,
    probes: Program.Probes? = nil, options: Model.Options = Model.Options()
  ) throws(QMError) {
    self.program = program
    self.reference = reference
    self.options = options
    report = VerificationReport(
      file: file.path, bytes: file.bytes, nodes: program.nodes.count,
      constants: program.constants.count)
    if let reference { try Verification.requireSamePorts(program, reference, file.path) }
    self.probes = probes
    let samples = samples ?? (reference == nil ? probes.map { ProbeInputs($0, program) } : nil)
    var options = options
    if samples == nil { options.runByteLimit = Verification.seededByteLimit }
    let model = try within(.file(file.path)) { [options] () throws(QMError) in
      try Model(program, options: options)
    }
    self.model = model
    do throws(QMError) { inputs = try Inputs(samples, model) } catch {
      guard reference == nil else { throw error }
      inputs = .none
      report.notRun = error.description
    }
  }

  /// Runs all samples, or a few seeded inputs.
  /// - Parameters:
  ///   - perValue: whether to compare inner values of the network too, if there is a reference.
  ///   - profile: whether to time each node.
  ///   - progress: called after each step.
  /// - Throws: `outOfTolerance` if an output has another shape than the correct one, or if kernel
  ///   sets give different bits; the error of a run; with the sample as context.
  public mutating func run(
    perValue: Bool = false, profile: Bool = false, progress: (Phase) -> Void = { _ in }
  ) throws(QMError) {
    if let probes { try test(probes) }
    try compare(progress)
    if [.none, .probes].contains(report.truth), report.notRun == nil { try selfTest(progress) }
    if perValue, let reference { try compareValues(with: reference, progress) }
    if profile { try timeNodes() }
  }

  private mutating func test(_ probes: Program.Probes) throws(QMError) {
    let found = try within(.file(report.file)) { () throws(QMError) in
      try Model(program, options: options).selfTest(probes)
    }
    report.probes = .init(
      count: found.probeCount, agreeing: found.agreements.count(where: \.self),
      areInputsMade: found.areInputsMade, medianDecibels: found.medianSignalToNoise,
      worstDecibels: found.worstSignalToNoise)
  }

  private mutating func timeNodes() throws(QMError) {
    let session = Session(model)
    var profile = Profile(program)
    for index in 0..<min(inputs.count, Verification.profiledCount) {
      try within(.sample(inputs.name(of: index))) { () throws(QMError) in
        try profile.run(session, inputs.inputs(of: index))
      }
    }
    report.profile = RunReport.ProfileEntry.all(of: profile)
  }

  private static func requireSamePorts(
    _ program: Program, _ other: Program, _ file: String
  ) throws(QMError) {
    func names(_ program: Program) -> [[String]] {
      [
        program.inputs.map { program.values[$0].name }.sorted(),
        program.outputs.map(\.name).sorted(),
      ]
    }
    let (found, expected) = (names(program), names(other))
    for (kind, pair) in zip(["inputs", "outputs"], zip(found, expected)) where pair.0 != pair.1 {
      func list(_ names: [String]) -> String { names.map(\.abbreviated).joined(separator: ", ") }
      throw QMError(
        .outOfTolerance,
        "the file has the \(kind) \(list(pair.0)), expected \(list(pair.1)) as in the reference",
        context: [.file(file)])
    }
  }

  private mutating func compare(_ progress: (Phase) -> Void) throws(QMError) {
    let session = Session(model)
    let float = try reference.map { (program) throws(QMError) in
      Session(try Model(program, options: options))
    }
    var parts = JudgedParts(of: program)
    if program.metadata.measurements.isEmpty, let float, let reference, inputs.count > 0 {
      parts = try within(.sample(inputs.name(of: 0))) { () throws(QMError) in
        try JudgedParts(of: reference, float.model, on: [inputs.inputs(of: 0)])
      }
    }
    let judgedRun = JudgedRun(program, parts)
    let referenceRun = reference.map { JudgedRun($0, parts) }
    var saturation = Saturation(program)
    var comparisons: [String: OutputComparison] = [:]
    var truths: Set<VerificationReport.Truth> = []
    var names: [String] = []
    for index in 0..<inputs.count {
      try within(.sample(inputs.name(of: index))) { () throws(QMError) in
        let tensors = try inputs.inputs(of: index)
        let found = try judgedRun(session, tensors) { (value, view) in
          saturation.observe(value, view)
        }
        var expected = JudgedRun.Results(
          outputs: try inputs.expectedOutputs(of: index), innerValues: [:])
        if !expected.outputs.isEmpty {
          truths.insert(.besideSamples)
        } else if let float, let referenceRun {
          truths.insert(.reference)
          expected = try referenceRun(float, tensors)
        }
        expected = try like(found, expected, parts)
        let next = judgedRun.nextStep(session, tensors, reference: expected, measured: found)
        // The error of a batch is that of its worst items, and the file states that of single ones.
        let items = itemCount(tensors, found)
        for item in 0..<items {
          names.append(inputs.name(of: index) + (items > 1 ? "[\(item)]" : ""))
          func own(_ results: JudgedRun.Results) throws(QMError) -> JudgedRun.Results {
            items > 1 ? try results.item(item, of: items) : results
          }
          let next = try next.map { (next) throws(QMError) in
            (reference: try own(next.reference), measured: try own(next.measured))
          }
          let (expected, found) = (try own(expected), try own(found))
          for name in expected.outputs.keys {
            try comparisons[
              name,
              default: parts.comparison(of: name, leastMagnitudes: magnitudes(of: name))
            ].add(name, reference: expected, measured: found, next: next)
          }
        }
      }
      progress(.comparing(done: index + 1, of: inputs.count))
    }
    report.samples = inputs.count
    report.truth =
      truths.contains(.besideSamples)
      ? inputs.areProbes ? .probes : .besideSamples : truths.first ?? .none
    report.outputs = model.outputs.compactMap { output in
      comparisons[output.name].map {
        OutputReport(output.name, $0, samples: names)
      }
    }
    // Only for samples: the ranges were not made for seeded inputs.
    if inputs.areSamples, saturation.total.elementCount > 0 {
      report.saturation = saturation.total.share
      report.saturated = saturation.shares.prefix(3).filter { $0.saturatedCount > 0 }
        .map { .init(name: $0.name, share: $0.share) }
    }
  }

  /// Number of items that are judged by themselves: 1 unless the file's figures are of samples of one
  /// item, and the sample is a batch, whose extent is that of one dynamic first axis of all inputs and
  /// outputs.
  private func itemCount(_ inputs: [String: Tensor], _ results: JudgedRun.Results) -> Int {
    let ports = model.inputs + model.outputs
    guard let axis = ports.first?.type.shape.axes.first, axis.extent == nil,
      ports.allSatisfy({ $0.type.shape.axes.first == axis }),
      model.inputs.allSatisfy({
        InputExample(of: $0, in: program.metadata)?.shape.first == 1
      })
    else { return 1 }
    let extents = Set((Array(inputs.values) + results.outputs.values).map { $0.shape.first ?? 1 })
    return extents.count == 1 ? extents.reduce(1, max) : 1
  }

  /// The magnitudes of the signals that the file states, by part, if it states them of more samples.
  private func magnitudes(of output: String) -> [Program.Metadata.Part?: Double] {
    guard inputs.areSamples, !program.metadata.isMeasuredOnMadeInputs else { return [:] }
    let stated = program.metadata.measurements.filter {
      $0.measure == .magnitude && $0.sampleCount > inputs.count
        && program.outputs[$0.output].name == output
    }
    return Dictionary(stated.map { ($0.part, Double($0.value)) }, uniquingKeysWith: max)
  }

  /// The expected outputs that the program has, with its element types: those in NumPy files may
  /// have another float type.
  /// - Throws: `outOfTolerance` if shapes differ, other than of what is chosen.
  private func like(
    _ found: JudgedRun.Results, _ expected: JudgedRun.Results, _ parts: JudgedParts
  ) throws(QMError) -> JudgedRun.Results {
    var outputs: [String: Tensor] = [:]
    for (name, tensor) in expected.outputs.sorted(by: { $0.key < $1.key }) {
      guard let other = found.outputs[name] else { continue }
      // How many are chosen may depend on rounding.
      guard tensor.shape == other.shape || parts.comparison(of: name).isChosen else {
        throw QMError(
          .outOfTolerance, "found shape \(other.shape), expected \(tensor.shape)",
          context: [.file(report.file), .value(name)])
      }
      outputs[name] = try tensor.converted(to: other.elementType)
    }
    return .init(outputs: outputs, innerValues: expected.innerValues)
  }

  private mutating func selfTest(_ progress: (Phase) -> Void) throws(QMError) {
    var test = try SelfTest(
      program, threadCount: options.threadCount,
      runByteLimit: inputs.areSamples ? .max : Verification.seededByteLimit)
    let count = min(inputs.count, Verification.selfTestCount)
    for index in 0..<count {
      progress(.runningReferenceLoops(done: index, of: count))
      try within(.file(report.file)) { () throws(QMError) in
        try within(.sample(inputs.name(of: index))) { () throws(QMError) in
          try test.check(inputs.inputs(of: index))
        }
      }
    }
    report.identicalKernels = test.kernelSets.map(\.rawValue)
    report.selfTestSamples = test.inputCount
  }

  private mutating func compareValues(
    with reference: Program, _ progress: (Phase) -> Void
  ) throws(QMError) {
    var values = try ValueComparison(program, against: reference, options: options)
    let count = min(inputs.count, ValueComparison.mostSamples)
    for index in 0..<count {
      try within(.sample(inputs.name(of: index))) { () throws(QMError) in
        try values.add(inputs.inputs(of: index))
      }
      progress(.comparingValues(done: index + 1, of: count))
    }
    report.values = values.reports
  }
}

/// The inputs to run: samples or, without samples, seeded inputs.
private enum Inputs {
  case samples(any SampleSource)
  case seeded(SeededInputs)
  case none

  /// Number of runs on seeded inputs.
  private static let seedCount = 4

  init(_ samples: (any SampleSource)?, _ model: Model) throws(QMError) {
    if let samples { self = .samples(samples) } else { self = .seeded(try SeededInputs(model)) }
  }

  var areProbes: Bool {
    if case .samples(let samples) = self { samples is ProbeInputs } else { false }
  }

  var areSamples: Bool { if case .samples = self { true } else { false } }

  var count: Int {
    switch self {
    case .samples(let samples): samples.count
    case .seeded: Inputs.seedCount
    case .none: 0
    }
  }

  func name(of index: Int) -> String {
    if case .samples(let samples) = self { samples.name(of: index) } else { "seed \(index)" }
  }

  func inputs(of index: Int) throws(QMError) -> [String: Tensor] {
    switch self {
    case .samples(let samples): try samples.inputs(of: index)
    case .seeded(let seeded): try seeded.tensors(seed: UInt64(index))
    case .none: [:]
    }
  }

  func expectedOutputs(of index: Int) throws(QMError) -> [String: Tensor] {
    guard case .samples(let samples) = self else { return [:] }
    return try samples.expectedOutputs(of: index)
  }
}

/// The probes of a file as samples, with the outputs of the float network.
private struct ProbeInputs: SampleSource {
  private let probes: Program.Probes
  private let inputs: [String]
  private let outputs: [String]

  init(_ probes: Program.Probes, _ program: Program) {
    self.probes = probes
    inputs = program.inputs.map { program.values[$0].name }
    outputs = program.outputs.map(\.name)
  }

  var count: Int { probes.probes.count }
  func name(of index: Int) -> String { Program.Probes.name(of: index) }

  func inputs(of index: Int) -> [String: Tensor] {
    Dictionary(uniqueKeysWithValues: zip(inputs, probes.probes[index].inputs))
  }

  func expectedOutputs(of index: Int) -> [String: Tensor] {
    Dictionary(uniqueKeysWithValues: zip(outputs, probes.probes[index].floatOutputs))
  }
}
