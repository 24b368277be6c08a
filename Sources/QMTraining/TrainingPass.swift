import QMOperations
import QMRuntime
import QMTensor

/// Forward and backward runs of a network on inputs of fixed shapes.
///
/// Values and gradients share one arena: a value keeps its memory until the last node that reads it,
/// forward or backward, or until its ``PassSchedule`` gives it up to compute it again; a gradient has
/// memory from the first node that adds to it until the node that computed the value has passed it on.
package final class TrainingPass {
  private let network: TrainingNetwork
  private let threads: ThreadPool
  private let forwardSteps: [PreparedStep]
  private let backwardSteps: [PreparedStep]
  private let arena: Buffer
  private let scratch: Buffer
  /// Addresses of the inputs, and of values when the loss is computed.
  private let addresses: [Int: UnsafeMutableRawPointer]
  private let gradients: [Int: Floats]
  /// Constants that were computed from the shapes; they live as long as the pass.
  private let constants: [Tensor]
  private let inputTypes: [ValueType]
  private let types: [ValueType?]

  /// Bytes of values, gradients and scratch memory.
  package var byteCount: Int { arena.count + scratch.count }

  private struct PreparedStep {
    /// The number of the node.
    let node: Int
    let run: (TrainingPass) throws(QMError) -> Void
  }

  /// How gradients are computed.
  package struct Options: Sendable {
    /// Whether values are computed again in the backward run, where that takes less memory: about one
    /// more forward run of time, and the same bits. See ``PassSchedule``.
    package var recomputes = false
    /// Steps of a recurrent layer through which the gradient of a state goes back; 0 for all.
    package var throughTime = 0
    /// Whether forward runs of training find the statistics of activations.
    package var measuresActivations = false

    package init(
      recomputes: Bool = false, throughTime: Int = 0, measuresActivations: Bool = false
    ) {
      (self.recomputes, self.throughTime) = (recomputes, throughTime)
      self.measuresActivations = measuresActivations
    }
  }

  /// How activations are rounded, and what training learns about it.
  package struct ActivationState {
    package var parameters: QuantizationParameters
    /// What the backward runs have found for the gradients of scale and zero point.
    package var sums = RoundingSums()
    /// The statistics of the elements in the last forward run of training, if they are measured and
    /// nobody has taken them.
    package internal(set) var statistics: StepStatistics?
  }

  private let measuresActivations: Bool
  /// The activations' scales; the caller may change them between runs.
  package var activations: [ActivationState]

  /// - Parameters:
  ///   - shapes: of the inputs, in order.
  ///   - parameters: elements of each parameter; they may change between runs.
  ///   - gradients: where the gradient of each parameter is added; as many elements.
  ///   - lossValues: indices of the values that the loss depends on.
  ///   - options: how gradients are computed.
  /// - Throws: `invalidInput` if the shapes do not fit the network; `unsupported` for a node without
  ///   gradient; `outOfMemory`.
  package init(
    _ network: TrainingNetwork, shapes: [[Int]], parameters: [Floats], gradients: [Floats],
    lossValues: [Int], options: Options = Options(), kernels: KernelSet = .best, threads: ThreadPool
  ) throws(QMError) {
    self.network = network
    self.threads = threads
    measuresActivations = options.measuresActivations
    activations = network.activations.map { ActivationState(parameters: $0.parameters) }
    var layout = try PassLayout(network, shapes: shapes, kernels: kernels, threads: threads)
    try layout.findGradients(lossValues: lossValues, throughTime: options.throughTime)
    let schedule = try PassSchedule.best(
      layout, lossValues: lossValues, recomputes: options.recomputes)
    let addresses = try PassAddresses(layout, schedule, parameters, gradients)
    arena = addresses.arena
    scratch = addresses.scratch
    self.addresses = addresses.atLoss
    self.gradients = addresses.gradients
    constants = Array(layout.constants.values)
    types = layout.types
    inputTypes = network.inputs.compactMap { layout.types[$0] }
    func prepared(_ step: PassSchedule.Step, isFirst: Bool) -> PreparedStep {
      switch step.work {
      case .forward(let index):
        TrainingPass.forward(layout.forward[index], addresses.of(step), isFirst: isFirst)
      case .backward(let index):
        TrainingPass.backward(layout, layout.backward[index], addresses, addresses.of(step))
      }
    }
    forwardSteps = schedule.forward.map { prepared($0, isFirst: true) }
    backwardSteps = schedule.backward.map { prepared($0, isFirst: false) }
  }

  /// - Parameter isFirst: false for a step that is repeated in the backward run.
  private static func forward(
    _ step: PassLayout.ForwardStep, _ places: PassAddresses.Places, isFirst: Bool
  ) -> PreparedStep {
    let (inputs, outputs) = (places.inputs, places.outputs)
    switch step.work {
    case .operation(let operation):
      return PreparedStep(node: step.node) { (pass) throws(QMError) in
        try operation.run(inputs, outputs, scratch: pass.scratch.base, threads: pass.threads)
      }
    case .rounding(let activation, let count):
      return PreparedStep(node: step.node) { (pass) throws(QMError) in
        guard let input = inputs[0], let output = outputs[0] else {
          throw .internalFault("a rounded value has no memory")
        }
        if isFirst, pass.trains, pass.measuresActivations {
          pass.activations[activation].statistics = StepStatistics(
            [0..<count], of: input.assumingMemoryBound(to: Float.self))
        }
        pass.round(activation, input, output, count: count)
      }
    case .normalization(let operation, let statistics):
      let batchInputs = statistics.replacing(inputs)
      return PreparedStep(node: step.node) { (pass) throws(QMError) in
        if isFirst, pass.trains {
          let numbers = inputs.map { $0?.assumingMemoryBound(to: Float.self) }
          guard let x = numbers[0], let mean = numbers[3], let variance = numbers[4] else {
            throw .internalFault("an operand has no memory")
          }
          try statistics.measure(x, runningMean: mean, runningVariance: variance, pass.threads)
        }
        try operation.run(
          pass.trains ? batchInputs : inputs, outputs, scratch: pass.scratch.base,
          threads: pass.threads)
      }
    }
  }

  private static func backward(
    _ layout: PassLayout, _ step: PassLayout.BackwardStep, _ addresses: PassAddresses,
    _ places: PassAddresses.Places
  ) -> PreparedStep {
    let node = layout.network.nodes[step.node]
    func gradient(_ value: Int) -> Floats? {
      layout.receives.contains(value) ? addresses.gradients[value] : nil
    }
    var inputs = places.inputs
    if case .normalization(_, let statistics) = layout.forward[step.forward].work {
      inputs = statistics.replacing(inputs)
    }
    let memory = GradientMemory(
      inputs: inputs, outputs: places.outputs, outputGradients: node.outputs.map(gradient),
      inputGradients: node.inputs.map { $0.flatMap(gradient) }, scratch: addresses.scratch.base,
      threads: layout.threads)
    // Gradients that begin here are set to zero.
    let begins = step.begins.map { (addresses.gradients[$0], layout.count(of: $0)) }
    func begin() {
      for (gradient, count) in begins { gradient?.update(repeating: 0, count: count) }
    }
    if case .rounding(let activation, let count) = layout.forward[step.forward].work {
      return PreparedStep(node: step.node) { pass in
        begin()
        pass.addRoundingGradient(activation, memory, count: count)
      }
    }
    return PreparedStep(node: step.node) { (_) throws(QMError) in
      begin()
      try step.kernel.run(memory)
    }
  }

  /// Whether the last forward run was one of training.
  private var trains = false

  /// Computes the outputs.
  /// - Parameters:
  ///   - inputs: of the shapes that the pass was made for, in order.
  ///   - trains: whether batch normalizations with trained statistics use those of the batch; then the
  ///     running ones follow. A backward run needs this.
  /// - Throws: `invalidInput`; `usage` for a batch without statistics.
  package func forward(_ inputs: [Tensor], trains: Bool = true) throws(QMError) {
    self.trains = trains
    guard inputs.map(\.type) == inputTypes else {
      throw .invalidInput("inputs of types \(inputs.map(\.type)); expected \(inputTypes)")
    }
    for (position, tensor) in inputs.enumerated() {
      guard let target = addresses[network.inputs[position]], tensor.byteCount > 0 else { continue }
      target.copyMemory(from: tensor.bytes.baseAddress!, byteCount: tensor.byteCount)
    }
    try run(forwardSteps)
  }

  /// The elements of a value of the loss after a forward run; they are kept until the backward run
  /// begins.
  package func elements(of value: Int) -> UnsafeMutableBufferPointer<Float> {
    UnsafeMutableBufferPointer(
      start: addresses[value]?.assumingMemoryBound(to: Float.self), count: count(of: value))
  }

  /// The shape of a value.
  package func shape(of value: Int) -> [Int] { types[value]?.shape.extents ?? [] }

  /// ∂loss/∂value of a value of the loss, which the caller writes between the forward and the backward
  /// run; nil if nothing that training changes reaches the value, and for a parameter itself, whose
  /// gradient is a sum over runs.
  package func gradient(of value: Int) -> Floats? {
    network.isParameter(value) ? nil : gradients[value]
  }

  private func count(of value: Int) -> Int { types[value]?.shape.extents?.reduce(1, *) ?? 0 }

  /// Adds the gradients of all parameters.
  package func backward() throws(QMError) {
    try run(backwardSteps)
  }

  private func run(_ steps: [PreparedStep]) throws(QMError) {
    try withStandardFloatEnvironment { () throws(QMError) in
      threads.beginRun()
      defer { threads.endRun() }
      for step in steps {
        do throws(QMError) { try step.run(self) } catch { throw located(error, step.node) }
      }
    }
  }

  private func located(_ error: QMError, _ node: Int) -> QMError {
    let node = network.nodes[node]
    return error.within(.node(name: node.name, operation: node.operationName))
  }

  // MARK: Rounded activations

  /// The forward run rounds as the file does.
  private func round(
    _ index: Int, _ source: UnsafeMutableRawPointer, _ target: UnsafeMutableRawPointer, count: Int
  ) {
    let rounding = FakeQuantize(activations[index].parameters)
    let (source, target) = (
      source.assumingMemoryBound(to: Float.self), target.assumingMemoryBound(to: Float.self)
    )
    threads.forParts(of: count) { range in
      rounding.apply(
        to: source + range.lowerBound,
        writing: UnsafeMutableBufferPointer(start: target + range.lowerBound, count: range.count))
    }
  }

  /// The straight-through estimator within the range of the codes, 0 beyond it.
  private func addRoundingGradient(_ index: Int, _ memory: GradientMemory, count: Int) {
    let grid = RoundingGrid(activations[index].parameters)
    let (x, rounded) = (memory.input(0), memory.output())
    guard let gradient = memory.outputGradients[0] else { return }
    let target = memory.inputGradients[0]
    let found = Locked([Int: RoundingSums]())
    threads.forParts(of: count) { range in
      let sums = RoundingSums(range, of: grid, x, rounded: rounded, gradients: gradient) {
        guard let target else { return }
        target.setLanes(target.lanes($0, end: range.upperBound) + $1, $0, end: range.upperBound)
      }
      found.withLock { $0[range.lowerBound] = sums }
    }
    // In the order of the parts, whatever thread summed them.
    for (_, sums) in found.withLock({ $0 }).sorted(by: { $0.key < $1.key }) {
      activations[index].sums += sums
    }
  }
}

/// Where the values and gradients of a pass lie.
private struct PassAddresses {
  let arena: Buffer
  let scratch: Buffer
  /// By value, when the loss is computed.
  private(set) var atLoss: [Int: UnsafeMutableRawPointer] = [:]
  private(set) var gradients: [Int: Floats] = [:]
  private let layout: PassLayout
  private let offsets: [Int]
  /// Constants and parameters.
  private var own: [Int: UnsafeMutableRawPointer] = [:]

  struct Places {
    let inputs: [UnsafeMutableRawPointer?]
    let outputs: [UnsafeMutableRawPointer?]
  }

  init(
    _ layout: PassLayout, _ schedule: PassSchedule, _ parameters: [Floats], _ gradients: [Floats]
  ) throws(QMError) {
    self.layout = layout
    offsets = schedule.memory.offsets
    arena = try Buffer.allocate(byteCount: max(schedule.memory.byteCount, 1))
    scratch = try Buffer.allocate(byteCount: max(layout.scratchByteCount, 1))
    for (value, constant) in layout.constants {
      own[value] = constant.buffer.base + constant.byteOffset
    }
    for (index, value) in layout.network.values.enumerated() {
      if case .parameter(let parameter) = value.content {
        own[index] = UnsafeMutableRawPointer(parameters[parameter])
        self.gradients[index] = gradients[parameter]
      }
    }
    for (value, request) in schedule.gradients {
      self.gradients[value] = (arena.base + offsets[request]).assumingMemoryBound(to: Float.self)
    }
    atLoss = own
    for (value, request) in schedule.atLoss { atLoss[value] = arena.base + offsets[request] }
  }

  /// The operands and outputs of a step.
  func of(_ step: PassSchedule.Step) -> Places {
    let number =
      switch step.work {
      case .forward(let index): layout.forward[index].node
      case .backward(let index): layout.backward[index].node
      }
    let node = layout.network.nodes[number]
    func address(_ value: Int?, _ request: Int?) -> UnsafeMutableRawPointer? {
      request.map { arena.base + offsets[$0] } ?? value.flatMap { own[$0] }
    }
    return Places(
      inputs: zip(node.inputs, step.inputs).map(address),
      outputs: zip(node.outputs, step.outputs).map(address))
  }
}
