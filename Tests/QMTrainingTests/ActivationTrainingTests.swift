import QMOperations
import QMTensor
import QMTestSupport
import QMTraining
import Testing

/// Scales and offsets of activations, learned with a network.
@Suite struct ActivationTrainingTests {
  private static let quantizers: [Quantizer] = [.lsq, .lsqPlus, .pact]

  /// The network with activations whose range is too small: half of them are beyond it.
  private static let narrow = QuantizationParameters(.int8, scale: 0.004, zeroPoint: 0)

  private static let inner = QuantizationParameters(.int8, scale: 0.003, zeroPoint: 0)

  private final class Run {
    let coded: CodedNetwork
    let parameters: Parameters
    let pass: TrainingPass
    let input: Tensor
    let target: [Float]

    init(
      _ quantizer: Quantizer, _ activations: QuantizationParameters,
      inner: QuantizationParameters = inner, threads: Int = 1
    ) throws {
      var generator = SeededGenerator(seed: 31)
      coded = try CodedNetwork(seed: 31, activations: activations, inner: inner)
      parameters = try coded.parameters(quantizer, threads: threads)
      input = try generator.tensor([40, 6], in: -2...2)
      target = try Run.target(input)
      pass = try TrainingPass(
        coded.network, shapes: [[40, 6]], parameters: parameters.elements,
        gradients: parameters.gradients, lossValues: coded.network.outputs.map(\.value),
        options: .init(measuresActivations: parameters.followsStatistics),
        threads: ThreadPool(threadCount: threads))
    }

    /// What the network computes without rounded activations.
    private static func target(_ input: Tensor) throws -> [Float] {
      let coded = try CodedNetwork(seed: 31)
      let parameters = try coded.parameters()
      let output = coded.network.outputs[0].value
      let pass = try TrainingPass(
        coded.network, shapes: [input.shape], parameters: parameters.elements,
        gradients: parameters.gradients, lossValues: [output],
        threads: ThreadPool(threadCount: 1))
      try pass.forward([input])
      return Array(pass.elements(of: output))
    }

    /// The mean squared error of all, and its gradients.
    func loss() throws -> Double {
      parameters.setActivations(of: pass)
      try pass.forward([input])
      let value = coded.network.outputs[0].value
      let gradient = pass.gradient(of: value)!
      gradient.update(repeating: 0, count: 120)
      let loss = OutputLoss(.squared).add(
        pass.elements(of: value).baseAddress!, target, shape: [40, 3], items: 40, weight: 1 / 40,
        to: gradient)
      try pass.backward()
      parameters.takeActivationGradients(of: pass)
      return loss
    }
  }

  @Test(arguments: quantizers)
  func scalesThatAreEqualStayEqual(quantizer: Quantizer) throws {
    let own = quantizer == .lsqPlus ? 2 : 1
    for (inner, groups) in [(Self.inner, 2), (Self.narrow, 1)] {
      let run = try Run(quantizer, Self.narrow, inner: inner)
      let plain = try CodedNetwork(seed: 31).parameters(quantizer).slots.count
      let slots = run.parameters.slots.dropFirst(plain)
      #expect(slots.count == groups * own)
      #expect(slots.allSatisfy { $0.kind == .scales && $0.count == 1 })
      for slot in slots { slot.elements = [slot.elements[0] + 0.25] }
      let found = run.parameters.activationParameters
      #expect(found.count == 2 && Set(found.values).count == groups)
      #expect(!found.values.contains(Self.narrow) && !found.values.contains(Self.inner))
    }
  }

  /// The ranges start as the converter's, whatever the elements are, and grow with the elements.
  @Test(arguments: [Quantizer.normalised, .scaled, .affine])
  func rangesFollowTheStatistics(quantizer: Quantizer) throws {
    let offset = QuantizationParameters(.uint8, scale: 0.02, zeroPoint: 90)
    let run = try Run(quantizer, offset, inner: Self.inner)
    func found() -> [QuantizationParameters] {
      run.parameters.setActivations(of: run.pass)
      return run.pass.activations.map(\.parameters)
    }
    #expect(found() == [offset, Self.inner])
    let start = run.parameters.snapshot()
    for _ in 0...Parameters.settling {
      _ = try run.loss()
      for (own, initial) in zip(found(), [offset, Self.inner]) {
        #expect(own.zeroPoint == initial.zeroPoint && own.elementType == initial.elementType)
        #expect(abs(own.scale / initial.scale - 1) < 1e-5)
      }
    }
    // Without training, nothing follows.
    let doubled = try Tensor([40, 6], run.input.elements(as: Float.self).map { 2 * $0 })
    let before = run.parameters.snapshot()
    try run.pass.forward([doubled], trains: false)
    run.parameters.takeActivationGradients(of: run.pass)
    #expect(run.parameters.snapshot() == before)
    for _ in 0..<1000 {
      try run.pass.forward([doubled])
      run.parameters.takeActivationGradients(of: run.pass)
    }
    #expect(abs(found()[0].scale / offset.scale - 2) < 1e-3)
    #expect(abs(found()[0].zeroPoint - offset.zeroPoint) <= 1)
    #expect(run.parameters.activationParameters["input"] == found()[0])
    // The state holds them.
    try run.parameters.restore(before)
    #expect(abs(found()[0].scale / offset.scale - 1) < 1e-5)
    try run.parameters.restore(start)
    #expect(found() == [offset, Self.inner])
  }

  /// Products read int16 with the zero point 0 alone, so that it does not follow the mean.
  @Test func wideActivationsStay() throws {
    let wide = QuantizationParameters(.int16, scale: 0.001, zeroPoint: 0)
    let run = try Run(.affine, wide, inner: Self.inner)
    #expect(!run.parameters.activationParameters.values.contains(wide))
    _ = try run.loss()
    run.parameters.setActivations(of: run.pass)
    #expect(run.pass.activations[0].parameters == wide)
  }

  @Test(arguments: quantizers)
  func gradientsOfAStepAreThoseOfItsParts(quantizer: Quantizer) throws {
    let once = try Run(quantizer, Self.narrow)
    once.parameters.clearGradients()
    _ = try once.loss()
    let sums = once.pass.activations.map(\.sums)
    #expect(sums.allSatisfy { $0 == RoundingSums() })
    once.parameters.finishGradients()
    let twice = try Run(quantizer, Self.narrow)
    twice.parameters.clearGradients()
    _ = try twice.loss()
    _ = try twice.loss()
    twice.parameters.finishGradients()
    for (left, right) in zip(once.parameters.slots, twice.parameters.slots)
    where left.weightsPerScale == 1 {
      // Twice the sum over √2 times the root.
      let (found, expected) = (right.elementGradients[0], left.elementGradients[0])
      #expect(expected != 0, "\(left.name)")
      #expect(abs(found / expected - Float(2).squareRoot()) < 1e-4, "\(left.name)")
    }
  }

  /// With Adam, and rates relative to the numbers, as training does it.
  @Test(arguments: quantizers)
  func learningTheActivationsLowersTheLoss(quantizer: Quantizer) throws {
    let run = try Run(quantizer, Self.narrow)
    let first = try run.loss()
    var optimizer = Optimizer(.adamw, for: run.parameters.slots)
    let threads = ThreadPool(threadCount: 1)
    for _ in 0..<200 {
      run.parameters.clearGradients()
      _ = try run.loss()
      run.parameters.finishGradients()
      // Only activations move.
      let rates = run.parameters.slots.map { slot -> Float in
        slot.weightsPerScale == 1 ? 0.02 * run.parameters.unit(of: slot) : 0
      }
      optimizer.update(run.parameters.slots, rates: rates, threads)
      run.parameters.boundScales()
      run.parameters.round()
    }
    let last = try run.loss()
    #expect(last < 0.1 * first, "\(first), \(last)")
    for parameters in run.parameters.activationParameters.values {
      #expect(parameters.scale > Self.narrow.scale)
      #expect(throws: Never.self) { try parameters.check() }
    }
    if quantizer == .lsqPlus {
      #expect(run.parameters.activationParameters.values.contains { $0.zeroPoint != 0 })
    }
  }

  @Test(arguments: Quantizer.allCases)
  func elementsBeyondTheCodesAreCounted(quantizer: Quantizer) throws {
    let run = try Run(quantizer, Self.narrow)
    run.parameters.clearGradients()
    _ = try run.loss()
    // 40 rows of 6 inputs and of 4 results of the first product.
    #expect(run.parameters.saturation.count == 40 * (6 + 4))
    let range = RoundingGrid(Self.narrow).range
    let inputs = run.input.elements(as: Float.self).count { !range.contains($0) }
    #expect(inputs > 60)
    #expect((inputs...inputs + 160).contains(run.parameters.saturation.beyond))
    run.parameters.clearGradients()
    #expect(run.parameters.saturation == (0, 0))
  }

  @Test(arguments: quantizers)
  func aSnapshotHoldsTheActivations(quantizer: Quantizer) throws {
    let run = try Run(quantizer, Self.narrow)
    let (snapshot, start) = (
      run.parameters.snapshot(), run.parameters.activationParameters
    )
    for slot in run.parameters.slots where slot.weightsPerScale == 1 {
      slot.elements = [slot.elements[0] + 0.5]
    }
    #expect(run.parameters.activationParameters != start)
    try run.parameters.restore(snapshot)
    #expect(run.parameters.activationParameters == start)
  }

  @Test(arguments: quantizers)
  func threadsDoNotMatter(quantizer: Quantizer) throws {
    func gradients(_ threads: Int) throws -> [[Float]] {
      let run = try Run(quantizer, Self.narrow, threads: threads)
      run.parameters.clearGradients()
      _ = try run.loss()
      run.parameters.finishGradients()
      return run.parameters.slots.map(\.elementGradients)
    }
    let (one, three) = (try gradients(1), try gradients(3))
    #expect(one == three)
  }
}
