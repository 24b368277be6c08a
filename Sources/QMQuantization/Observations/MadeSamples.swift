import QMFormat
import QMGraph
import QMReport
import QMRuntime
import QMTensor

/// Samples that a conversion makes itself when it gets none: noise of several spectra for floats,
/// and for integers what the network does with them (``SeededInputs``).
///
/// Noise is as loud as the network expects (``InputFront``). Where nothing tells that, the samples
/// have several amplitudes, so that nothing is fitted to one of them.
///
/// Second moments, bias corrections and choices among roundings of made samples hold for real ones;
/// ranges of activations do not.
package struct MadeSamples: SampleSource {
  private let inputs: SeededInputs
  private let fronts: [String: InputFront]
  /// The factor of each noise input, per sample.
  private var amplitudes: [[String: Float]] = []

  /// Each kind of noise with each amplitude.
  package static let sampleCount = SeededInputs.kindCount * amplitudes.count
  private static let amplitudes: [Float] = [1, 0.3, 0.05, 3]
  /// Maximum memory of the first run, in bytes: its shapes are guesses.
  private static let runByteLimit = 1 << 29

  package var count: Int { MadeSamples.sampleCount }

  /// - Parameters:
  ///   - program: the network after the passes.
  ///   - source: the network as it was read.
  /// - Throws: the error of the first attempt, if the network runs with no inputs that were tried.
  package init(
    for program: Program, asRead source: Program, _ options: Model.Options
  ) throws(QMError) {
    var options = options
    options.runByteLimit = MadeSamples.runByteLimit
    inputs = try SeededInputs(Model(program, options: options), isVaried: true)
    var fronts: [String: InputFront] = [:]
    for name in inputs.noiseInputs {
      guard let input = source.inputs.first(where: { source.values[$0].name == name }) else {
        continue
      }
      fronts[name] = InputFront(of: input, in: source, passed: program, options)
    }
    self.fronts = fronts
    for index in 0..<count { amplitudes.append(try amplitudes(ofSample: index)) }
  }

  private func amplitudes(ofSample index: Int) throws(QMError) -> [String: Float] {
    let tensors = try inputs.tensors(seed: UInt64(index))
    var found: [String: Float] = [:]
    for (number, name) in inputs.noiseInputs.enumerated() {
      let known = fronts[name]?.amplitude { (factor) throws(QMError) in
        try scaled(tensors, [name: factor])
      }
      // Over all samples each kind of noise has each amplitude; inputs differ.
      let turn = index / SeededInputs.kindCount + index % SeededInputs.kindCount + number
      let guess =
        fronts[name]?.isCentred == true
        ? 1 : MadeSamples.amplitudes[turn % MadeSamples.amplitudes.count]
      found[name] = known ?? guess
    }
    return found
  }

  /// Tensors with the noise of some inputs scaled, and as it is in front of the network's own steps
  /// with constants.
  private func scaled(
    _ tensors: [String: Tensor], _ factors: [String: Float]
  ) throws(QMError) -> [String: Tensor] {
    var tensors = tensors
    for (name, factor) in factors {
      guard let noise = tensors[name] else { continue }
      let scaled = try Tensor(noise.shape, noise.elements(as: Float.self).map { $0 * factor })
      tensors[name] = fronts[name]?.undoing(scaled) ?? scaled
    }
    return tensors
  }

  package func name(of index: Int) -> String { "made \(index)" }

  package func inputs(of index: Int) throws(QMError) -> [String: Tensor] {
    try scaled(inputs.tensors(seed: UInt64(index)), amplitudes[index])
  }
}
