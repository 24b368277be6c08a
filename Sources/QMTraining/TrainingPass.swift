import QMOperations
import QMRuntime
import QMTensor

/// Forward and backward runs of a network on inputs of fixed shapes.
///
/// Values and gradients share one arena: a value keeps its memory until the last node that reads it,
/// forward or backward; a gradient has memory from the first node that adds to it until the node that
/// computed the value has passed it on.
package final class TrainingPass {
  private let network: TrainingNetwork
  private let threads: ThreadPool
  private let nodes: [PreparedNode]
  private let gradientSteps: [PreparedGradient]
  private let arena: Buffer
  private let scratch: Buffer
  /// Address of each value; nil for values that no run needs.
  private let addresses: [UnsafeMutableRawPointer?]
  private let gradients: [Floats?]
  /// Constants that were computed from the shapes; they live as long as the pass.
  private let constants: [Tensor]
  private let inputTypes: [ValueType]
  private let types: [ValueType?]
  /// Elements of each parameter, which the caller owns.
  private let parameterValues: [Floats]
  private let parameterGradients: [Floats]

  /// Bytes of values, gradients and scratch memory.
  package var byteCount: Int { arena.count + scratch.count }

  private struct PreparedNode {
    let index: Int
    let run: (TrainingPass) throws(QMError) -> Void
  }

  private struct PreparedGradient {
    let index: Int
    /// Gradients that begin here: they are set to zero.
    let begins: [(value: Int, count: Int)]
    let kernel: GradientKernel
    let memory: GradientMemory
  }

  /// How activations are rounded, and what training learns about it.
  package struct ActivationState {
    package var parameters: QuantizationParameters
    /// What the backward runs have found for the gradients of scale and zero point.
    package var sums = RoundingSums()
  }

  /// The activations' scales; the caller may change them between runs.
  package var activations: [ActivationState]

  /// - Parameters:
  ///   - shapes: of the inputs, in order.
  ///   - parameters: elements of each parameter; they may change between runs.
  ///   - gradients: where the gradient of each parameter is added; as many elements.
  ///   - lossValues: indices of the values that the loss depends on.
  /// - Throws: `invalidInput` if the shapes do not fit the network; `unsupported` for a node without
  ///   gradient; `outOfMemory`.
  package init(
    _ network: TrainingNetwork, shapes: [[Int]], parameters: [Floats], gradients: [Floats],
    lossValues: [Int], kernels: KernelSet = .best, threads: ThreadPool
  ) throws(QMError) {
    self.network = network
    self.threads = threads
    parameterValues = parameters
    parameterGradients = gradients
    activations = network.activations.map { ActivationState(parameters: $0.parameters) }
    var layout = try PassLayout(network, shapes: shapes, kernels: kernels, threads: threads)
    try layout.findGradients(lossValues: lossValues)
    let plan = try layout.memoryPlan(lossValues: lossValues)
    arena = try Buffer.allocate(byteCount: max(plan.byteCount, 1))
    scratch = try Buffer.allocate(byteCount: max(layout.scratchByteCount, 1))
    var addresses = [UnsafeMutableRawPointer?](repeating: nil, count: network.values.count)
    var ownGradients = [Floats?](repeating: nil, count: network.values.count)
    for (value, constant) in layout.constants {
      addresses[value] = constant.buffer.base + constant.byteOffset
    }
    for (index, value) in network.values.enumerated() {
      if case .parameter(let parameter) = value.content {
        addresses[index] = UnsafeMutableRawPointer(parameters[parameter])
        ownGradients[index] = gradients[parameter]
      }
    }
    for (request, offset) in zip(layout.requests, plan.offsets) {
      switch request.content {
      case .value(let value): addresses[value] = arena.base + offset
      case .gradient(let value):
        ownGradients[value] = (arena.base + offset).assumingMemoryBound(to: Float.self)
      }
    }
    self.addresses = addresses
    self.gradients = ownGradients
    constants = Array(layout.constants.values)
    types = layout.types
    inputTypes = network.inputs.compactMap { layout.types[$0] }
    nodes = layout.forward.map { step in
      let inputs = network.nodes[step.node].inputs.map { $0.flatMap { addresses[$0] } }
      let outputs = network.nodes[step.node].outputs.map { addresses[$0] }
      switch step.work {
      case .operation(let operation):
        return PreparedNode(index: step.node) { (pass) throws(QMError) in
          try operation.run(inputs, outputs, scratch: pass.scratch.base, threads: pass.threads)
        }
      case .rounding(let activation, let count):
        return PreparedNode(index: step.node) { pass in
          pass.round(activation, inputs[0]!, outputs[0]!, count: count)
        }
      }
    }
    gradientSteps = layout.backward.map { [ownGradients, scratch] step in
      let node = network.nodes[step.node]
      return PreparedGradient(
        index: step.node,
        begins: step.begins.map { ($0, layout.count(of: $0)) },
        kernel: step.kernel,
        memory: GradientMemory(
          inputs: node.inputs.map { $0.flatMap { addresses[$0] } },
          outputs: node.outputs.map { addresses[$0] },
          outputGradients: node.outputs.map {
            layout.receives.contains($0) ? ownGradients[$0] : nil
          },
          inputGradients: node.inputs.map { input in
            input.flatMap { layout.receives.contains($0) ? ownGradients[$0] : nil }
          }, scratch: scratch.base, threads: threads))
    }
    roundingGradients = layout.roundingGradients
  }

  private let roundingGradients: [Int: (activation: Int, count: Int)]

  /// Computes the outputs.
  /// - Parameter inputs: of the shapes that the pass was made for, in order.
  /// - Throws: `invalidInput`.
  package func forward(_ inputs: [Tensor]) throws(QMError) {
    guard inputs.map(\.type) == inputTypes else {
      throw .invalidInput("inputs of types \(inputs.map(\.type)); expected \(inputTypes)")
    }
    for (position, tensor) in inputs.enumerated() {
      guard let target = addresses[network.inputs[position]], tensor.byteCount > 0 else { continue }
      target.copyMemory(from: tensor.bytes.baseAddress!, byteCount: tensor.byteCount)
    }
    try withStandardFloatEnvironment { () throws(QMError) in
      threads.beginRun()
      defer { threads.endRun() }
      for step in nodes {
        do throws(QMError) { try step.run(self) } catch { throw located(error, step.index) }
      }
    }
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
    try withStandardFloatEnvironment { () throws(QMError) in
      threads.beginRun()
      defer { threads.endRun() }
      for step in gradientSteps {
        for (value, count) in step.begins {
          gradients[value]?.update(repeating: 0, count: count)
        }
        if let (activation, count) = roundingGradients[step.index] {
          addRoundingGradient(activation, step.memory, count: count)
          continue
        }
        do throws(QMError) { try step.kernel.run(step.memory) } catch {
          throw located(error, step.index)
        }
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
      (target + range.lowerBound).update(from: source + range.lowerBound, count: range.count)
      rounding.apply(
        to: UnsafeMutableBufferPointer(start: target + range.lowerBound, count: range.count))
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
      let sums = RoundingSums(
        range, of: grid, x, rounded: rounded, gradients: gradient,
        pass: { target?[$0] += gradient[$0] }, stop: { _ in })
      found.withLock { $0[range.lowerBound] = sums }
    }
    // In the order of the parts, whatever thread summed them.
    for (_, sums) in found.withLock({ $0 }).sorted(by: { $0.key < $1.key }) {
      activations[index].sums += sums
    }
  }
}

/// The steps of a pass and the memory that they need.
private struct PassLayout {
  struct ForwardStep {
    enum Work {
      case operation(PreparedOperation)
      case rounding(activation: Int, count: Int)
    }
    let node: Int
    let work: Work
  }

  struct BackwardStep {
    let node: Int
    let kernel: GradientKernel
    let begins: [Int]
  }

  struct Request {
    enum Content {
      case value(Int)
      case gradient(Int)
    }
    let content: Content
    let lifetime: MemoryPlan.Request
  }

  let network: TrainingNetwork
  let kernels: KernelSet
  let threads: ThreadPool
  var types: [ValueType?]
  /// Values that are the same in every run of these shapes, parameters aside.
  var constants: [Int: Tensor] = [:]
  var forward: [ForwardStep] = []
  var backward: [BackwardStep] = []
  /// Values whose gradients are computed.
  var receives: Set<Int> = []
  var roundingGradients: [Int: (activation: Int, count: Int)] = [:]
  var requests: [Request] = []
  var scratchByteCount = 0

  init(
    _ network: TrainingNetwork, shapes: [[Int]], kernels: KernelSet, threads: ThreadPool
  ) throws(QMError) {
    self.network = network
    self.kernels = kernels
    self.threads = threads
    types = network.values.map { $0.type.shape.extents == nil ? nil : $0.type }
    guard shapes.count == network.inputs.count else {
      throw .invalidInput("\(shapes.count) inputs; the network has \(network.inputs.count)")
    }
    for (input, shape) in zip(network.inputs, shapes) {
      let value = network.values[input]
      guard value.type.shape.admits(shape) else {
        throw .invalidInput(
          "input '\(value.name)' has shape \(shape); expected \(value.type.shape)")
      }
      types[input] = ValueType(value.type.elementType, Shape(shape), value.type.quantization)
    }
    for (index, value) in network.values.enumerated() {
      if case .constant(let tensor) = value.content { constants[index] = tensor }
    }
    var folder = ConstantFolder(for: .memory, byteLimit: ConstantFolder.allowance)
    for (index, node) in network.nodes.enumerated() {
      try within(.node(name: node.name, operation: node.operationName)) { () throws(QMError) in
        try prepare(node, index, &folder)
      }
    }
  }

  private func operand(_ value: Int?) -> Operand? {
    guard let value, let type = types[value] else { return nil }
    return Operand(type, constant: constants[value])
  }

  private mutating func prepare(
    _ node: TrainingNetwork.Node, _ index: Int, _ folder: inout ConstantFolder
  ) throws(QMError) {
    switch node.step {
    case .rounding(let activation):
      guard let type = node.inputs[0].flatMap({ types[$0] }) else { return }
      types[node.outputs[0]] = type
      forward.append(
        ForwardStep(
          node: index,
          work: .rounding(
            activation: activation, count: type.shape.extents?.reduce(1, *) ?? 0)))
    case .operation(let operation):
      let operands = node.inputs.map(operand)
      if let results = try folder.results(of: operation, operands, kernels: kernels) {
        for (output, result) in zip(node.outputs, results) {
          types[output] = ValueType(
            result.elementType, Shape(result.shape), network.values[output].type.quantization)
          constants[output] = result
        }
        return
      }
      let prepared = try PreparedOperation(operation, operands, kernels: kernels)
      for (output, type) in zip(node.outputs, prepared.outputTypes) { types[output] = type }
      scratchByteCount = max(
        scratchByteCount, prepared.scratchByteCount(threads: threads.threadCount))
      forward.append(ForwardStep(node: index, work: .operation(prepared)))
    }
  }

  func count(of value: Int) -> Int { types[value]?.shape.extents?.reduce(1, *) ?? 0 }

  // MARK: Gradients

  mutating func findGradients(lossValues: [Int]) throws(QMError) {
    var depends: Set<Int> = []
    for (index, value) in network.values.enumerated() {
      if case .parameter = value.content { depends.insert(index) }
    }
    let roundsActivations = !network.activations.isEmpty
    for step in forward {
      let node = network.nodes[step.node]
      var isTrained = node.inputs.contains { $0.map(depends.contains) ?? false }
      // The scale of an activation is trained too.
      if case .rounding = step.work, roundsActivations { isTrained = true }
      guard isTrained else { continue }
      for output in node.outputs where types[output]?.elementType == .float32 {
        depends.insert(output)
      }
      // Codes that are rounded in the run are float32 for the gradient.
      if case .operation(let operation) = node.step, case .dynamicQuantize = operation {
        depends.insert(node.outputs[0])
      }
    }
    var reached = Set(lossValues.filter(depends.contains))
    receives = reached
    for step in forward.reversed() {
      let node = network.nodes[step.node]
      let used = node.outputs.map(reached.contains)
      guard used.contains(true) else { continue }
      let wanted = node.inputs.map { $0.map(depends.contains) ?? false }
      guard wanted.contains(true) || isRounding(step) else { continue }
      try within(.node(name: node.name, operation: node.operationName)) { () throws(QMError) in
        try addGradient(of: node, step, wanted: wanted, used: used)
      }
      for (input, isWanted) in zip(node.inputs, wanted) where isWanted {
        if let input { reached.insert(input) }
      }
      receives.formUnion(reached)
    }
    var begun = Set(lossValues)
    for index in backward.indices {
      let step = backward[index]
      var begins: [Int] = []
      for case let input? in network.nodes[step.node].inputs where receives.contains(input) {
        if case .parameter = network.values[input].content { continue }
        if begun.insert(input).inserted { begins.append(input) }
      }
      backward[index] = BackwardStep(node: step.node, kernel: step.kernel, begins: begins)
    }
  }

  private func isRounding(_ step: ForwardStep) -> Bool {
    if case .rounding = step.work { true } else { false }
  }

  private mutating func addGradient(
    of node: TrainingNetwork.Node, _ step: ForwardStep, wanted: [Bool], used: [Bool]
  ) throws(QMError) {
    let kernel: GradientKernel
    switch step.work {
    case .rounding(let activation, let count):
      kernel = GradientKernel(reading: [0], outputs: [0]) { _ in }
      roundingGradients[step.node] = (activation, count)
    case .operation:
      guard case .operation(let operation) = node.step else { return }
      kernel = try operation.gradient(
        of: GradientNode(
          operands: node.inputs.map(operand), outputs: node.outputs.compactMap { types[$0] },
          wanted: wanted, isUsed: used, kernels: kernels, threadCount: threads.threadCount))
      scratchByteCount = max(scratchByteCount, kernel.scratchByteCount)
    }
    backward.append(BackwardStep(node: step.node, kernel: kernel, begins: []))
  }

  // MARK: Memory

  /// Time: each forward step takes one, then the loss, then each backward step.
  mutating func memoryPlan(lossValues: [Int]) throws(QMError) -> MemoryPlan {
    var first: [Int: Int] = [:]
    var last: [Int: Int] = [:]
    for input in network.inputs { first[input] = 0 }
    func use(_ value: Int, at time: Int) { last[value] = max(last[value] ?? 0, time) }
    for (index, step) in forward.enumerated() {
      let node = network.nodes[step.node]
      for case let input? in node.inputs { use(input, at: index + 1) }
      for output in node.outputs {
        first[output] = index + 1
        use(output, at: index + 1)
      }
    }
    let loss = forward.count + 1
    for value in lossValues + network.outputs.map(\.value) { use(value, at: loss) }
    var gradientFirst: [Int: Int] = [:]
    var gradientLast: [Int: Int] = [:]
    for value in lossValues where receives.contains(value) && !network.isParameter(value) {
      gradientFirst[value] = loss
      gradientLast[value] = loss
    }
    for (index, step) in backward.enumerated() {
      let (node, time) = (network.nodes[step.node], loss + 1 + index)
      for position in step.kernel.readInputs where position < node.inputs.count {
        if let input = node.inputs[position] { use(input, at: time) }
      }
      for position in step.kernel.readOutputs { use(node.outputs[position], at: time) }
      for value in step.begins { gradientFirst[value] = time }
      for case let value? in node.inputs where gradientFirst[value] != nil {
        gradientLast[value] = time
      }
      for value in node.outputs where gradientFirst[value] != nil { gradientLast[value] = time }
    }
    func isStored(_ value: Int) -> Bool {
      guard constants[value] == nil else { return false }
      if case .parameter = network.values[value].content { return false }
      return true
    }
    for (value, start) in first.sorted(by: { $0.key < $1.key }) where isStored(value) {
      guard let type = types[value], let extents = type.shape.extents else { continue }
      requests.append(
        Request(
          content: .value(value),
          lifetime: .init(
            firstStep: start, lastStep: last[value] ?? start,
            byteCount: try Tensor.byteCount(of: type.elementType, extents))))
    }
    for (value, start) in gradientFirst.sorted(by: { $0.key < $1.key }) {
      requests.append(
        Request(
          content: .gradient(value),
          lifetime: .init(
            firstStep: start, lastStep: gradientLast[value] ?? start,
            byteCount: try Tensor.byteCount(of: .float32, [count(of: value)]))))
    }
    return try MemoryPlan(requests.map(\.lifetime))
  }
}

extension TrainingNetwork {
  fileprivate func isParameter(_ value: Int) -> Bool {
    if case .parameter = values[value].content { true } else { false }
  }
}
