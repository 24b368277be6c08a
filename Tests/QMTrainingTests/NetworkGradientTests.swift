import NetworkSweep
import QMGraph
import QMONNX
import QMOperations
import QMTensor
import QMTestSupport
import QMTraining
import Testing

/// Networks drawn at random: combinations of operators that nobody thought of.
@Suite struct NetworkGradientTests {
  private enum Outcome {
    case compared
    /// Without parameters, or not trainable for a stated reason.
    case skipped
    case differs(String)
  }

  /// Compares the gradient of each parameter with a central difference along a random direction.
  private func compare(_ graph: Graph, _ drawn: RandomNetwork, seed: UInt64) throws -> Outcome {
    let named = try drawn.inputs(sample: 0)
    let run: GradientRun
    do {
      let inputs = graph.inputs.compactMap { named[graph[$0].name] }
      run = try GradientRun(GradientCase(graph, inputs: inputs))
      try run.pass.forward(inputs)
    } catch let error as QMError {
      return error.code == .internalFault ? .differs("\(error)") : .skipped
    }
    let (network, pass) = (run.network, run.pass)
    guard !network.parameters.isEmpty,
      run.lossValues.allSatisfy({ pass.gradient(of: $0) != nil })
    else { return .skipped }
    var generator = SeededGenerator(seed: seed)
    let gradients = try run.outputGradients(&generator)
    try run.addGradients(gradients)
    let loss = try run.loss(gradients)
    // Logarithms and quotients of anything are drawn too; float32 leaves no difference of such sums.
    guard loss.magnitude < 1e4 else { return .skipped }
    for (parameter, gradient) in run.parameterGradients.enumerated() {
      let direction = try generator.tensor([gradient.count]).elements(as: Float.self)
      // Of several steps, one crosses no corner.
      let errors = try ([0x1p-6, 0x1p-9, 0x1p-12] as [Float]).map {
        try error(run, gradients, parameter, gradient, direction, step: $0)
      }
      if let least = errors.min(), least > 0.02 {
        return .differs("the gradient of \(network.parameters[parameter].name) is off by \(least)")
      }
    }
    return .compared
  }

  /// The error of a gradient along a direction, in units of Σ |gradient · direction|, less what
  /// float32 allows. 0 if the loss is no number.
  private func error(
    _ run: GradientRun, _ outputGradients: [[Float]], _ parameter: Int, _ gradient: [Float],
    _ direction: [Float], step: Float
  ) throws -> Double {
    let elements = gradient.indices.map { run.element($0, of: parameter) }
    func loss(_ step: Float) throws -> (loss: Double, elements: [Float]) {
      for index in gradient.indices {
        run.setElement(index, of: parameter, to: elements[index] + step * direction[index])
      }
      let moved = gradient.indices.map { run.element($0, of: parameter) }
      return (try run.loss(outputGradients), moved)
    }
    let (above, below) = (try loss(step), try loss(-step))
    _ = try loss(0)
    var (sum, unit) = (0.0, 0.0)
    for index in gradient.indices {
      let product =
        Double(gradient[index]) * (Double(above.elements[index]) - Double(below.elements[index]))
        / 2 / Double(step)
      sum += product
      unit += product.magnitude
    }
    let expected = (above.loss - below.loss) / 2 / Double(step)
    let count = outputGradients.reduce(0) { $0 + $1.count }
    let rounding = 4e-6 * (above.loss.magnitude + Double(count)) / Double(step)
    let error = max((expected - sum).magnitude - rounding, 0)
    return error.isNaN ? 0 : error / max(unit, expected.magnitude, 1e-3)
  }

  @Test(arguments: [false, true])
  func gradientsOfRandomNetworksAreDifferences(withPasses: Bool) throws {
    var compared = 0
    for seed: UInt64 in 0..<600 {
      let drawn = try NetworkTrial.network(seed: seed)
      guard var graph = try? ONNXReader.read(bytes: drawn.network.encoded()) else { continue }
      if withPasses {
        guard let passed = try? DefaultPasses.run(on: graph) else { continue }
        graph = passed
      }
      switch try compare(graph, drawn, seed: seed) {
      case .compared: compared += 1
      case .skipped: break
      case .differs(let difference): Issue.record("seed \(seed): \(difference)\n\(drawn)")
      }
    }
    #expect(compared > 100, "\(compared) networks")
  }
}
