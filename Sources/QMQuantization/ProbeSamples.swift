import QMFormat
import QMReport
import QMRuntime
import QMTensor

/// Inputs of a network with what the float network gives, from which the probes of any program of the
/// network are made.
public struct ProbeSamples: Sendable {
  private struct Sample {
    let name: String
    let inputs: [String: Tensor]
    let floatOutputs: [String: Tensor]
  }

  private let samples: [Sample]
  private let areMade: Bool
  private let options: Model.Options

  /// Number of samples.
  public var count: Int { samples.count }

  /// Bytes that the tensors of all probes may take together: what a section of a file may hold, less
  /// room for their shapes.
  static let byteLimit = DecodingLimits.standard.payloadByteCount - 1 << 20

  /// Runs the float network on the first samples of a source.
  /// - Throws: `usage` if a file does not hold as many; the error of a run, with the sample as context.
  init(
    _ count: Int, of source: any SampleSource, areMade: Bool, _ float: Program,
    _ options: Model.Options
  ) throws(QMError) {
    guard (1...Program.Probes.mostProbes).contains(count) else {
      throw .usage("\(count) probes, expected 1 to \(Program.Probes.mostProbes)")
    }
    let session = Session(try Model(float, options: options))
    var samples: [Sample] = []
    var byteCount = 0
    for index in 0..<min(count, source.count) {
      let name = source.name(of: index)
      let sample = try within(.sample(name)) { () throws(QMError) in
        let inputs = try source.inputs(of: index)
        return Sample(name: name, inputs: inputs, floatOutputs: try session.run(inputs))
      }
      byteCount += Program.Probes.byteCount(of: sample.inputs.values)
      byteCount += Program.Probes.byteCount(of: sample.floatOutputs.values)
      guard byteCount <= ProbeSamples.byteLimit else {
        throw .usage(
          "\(index + 1) of \(count) probes take \(byteCount) bytes, a file has room for "
            + "\(ProbeSamples.byteLimit); ask for " + (index > 0 ? "at most \(index)" : "none"))
      }
      samples.append(sample)
    }
    self.samples = samples
    self.areMade = areMade
    self.options = options
  }

  /// The probes of a program: runs it on every sample.
  /// - Parameter program: one with the inputs and outputs of the float network.
  /// - Throws: the error of a run, with the sample as context.
  public func probes(of program: Program) throws(QMError) -> Program.Probes {
    let session = Session(try Model(program, options: options))
    let inputs = program.inputs.map { program.values[$0].name }
    let outputs = program.outputs.map(\.name)
    var probes: [Program.Probes.Probe] = []
    for sample in samples {
      let found = try within(.sample(sample.name)) { () throws(QMError) in
        try session.run(sample.inputs)
      }
      probes.append(
        Program.Probes.Probe(
          inputs: inputs.compactMap { sample.inputs[$0] },
          floatOutputs: outputs.compactMap { sample.floatOutputs[$0] },
          outputs: outputs.compactMap { found[$0] }))
    }
    return Program.Probes(probes, areInputsMade: areMade)
  }
}

extension PreparedConversion {
  /// Inputs for probes: the first of the samples that judge, to which nothing is fitted if there are
  /// enough. Without samples, inputs made from noise.
  /// - Parameter count: 1 to `Program.Probes.mostProbes` of QMFormat; there are fewer if fewer samples
  ///   judge.
  /// - Throws: `usage` if a file does not hold as many, or if no made input runs; the error of a run.
  public func probeSamples(_ count: Int) throws(QMError) -> ProbeSamples {
    if let judging = judgingSamples {
      return try ProbeSamples(
        count, of: judging, areMade: areSamplesMade, floatProgram, runOptions)
    }
    let float = floatProgram
    let made: SeededInputs
    do throws(QMError) {
      made = try SeededInputs(Model(float, options: runOptions))
    } catch {
      throw .usage("no made input serves as a probe: \(error.statement)", remedies: .giveSamples)
    }
    return try ProbeSamples(
      count, of: SeededSamples(inputs: made, count: count), areMade: true, float, runOptions)
  }
}

/// Seeded inputs as samples.
private struct SeededSamples: SampleSource {
  let inputs: SeededInputs
  let count: Int

  func name(of index: Int) -> String { "made input \(index + 1)" }

  func inputs(of index: Int) throws(QMError) -> [String: Tensor] {
    try inputs.tensors(seed: UInt64(index))
  }
}
