import QMOperations
import QMRuntime
import QMTensor

/// The nodes of a pass and their gradients, prepared for concrete shapes.
struct PassLayout {
  struct ForwardStep {
    enum Work {
      case operation(PreparedOperation)
      case rounding(activation: Int, count: Int)
      case normalization(PreparedOperation, BatchStatistics)
    }
    let node: Int
    let work: Work
  }

  struct BackwardStep {
    let node: Int
    /// The number of the forward step of this node.
    let forward: Int
    let kernel: GradientKernel
    /// Values whose gradients begin here.
    let begins: [Int]
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
      var work = ForwardStep.Work.operation(prepared)
      if case .batchNormalization(let normalization) = operation,
        network.usesBatchStatistics(node), let shape = operands[0]?.type.shape.extents
      {
        work = .normalization(prepared, try BatchStatistics(normalization, shape))
      }
      forward.append(ForwardStep(node: index, work: work))
    }
  }

  /// Whether a pass stores the value: constants and parameters have memory of their own.
  func isStored(_ value: Int) -> Bool {
    constants[value] == nil && !network.isParameter(value)
  }

  func byteCount(of value: Int) throws(QMError) -> Int {
    guard let type = types[value], let extents = type.shape.extents else { return 0 }
    return try Tensor.byteCount(of: type.elementType, extents)
  }

  func count(of value: Int) -> Int { types[value]?.shape.extents?.reduce(1, *) ?? 0 }

  // MARK: Gradients

  /// - Parameter throughTime: see ``TrainingPass/Options``.
  mutating func findGradients(lossValues: [Int], throughTime: Int) throws(QMError) {
    var depends: Set<Int> = []
    for index in network.values.indices {
      if let parameter = network.parameter(index), !network.parameters[parameter].isStatistic {
        depends.insert(index)
      }
    }
    for step in forward {
      let node = network.nodes[step.node]
      // The scale of an activation is trained too.
      guard isRounding(step) || node.inputs.contains(where: { $0.map(depends.contains) ?? false })
      else { continue }
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
    for (number, step) in forward.enumerated().reversed() {
      let node = network.nodes[step.node]
      let used = node.outputs.map(reached.contains)
      guard used.contains(true) else { continue }
      let wanted = node.inputs.map { $0.map(depends.contains) ?? false }
      guard wanted.contains(true) || isRounding(step) else { continue }
      try within(.node(name: node.name, operation: node.operationName)) { () throws(QMError) in
        let gradient = GradientNode(
          operands: node.inputs.map(operand), outputs: node.outputs.compactMap { types[$0] },
          wanted: wanted, isUsed: used, kernels: kernels, threadCount: threads.threadCount,
          throughTime: throughTime)
        try addGradient(gradient, of: node, number)
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
      backward[index] = BackwardStep(
        node: step.node, forward: step.forward, kernel: step.kernel, begins: begins)
    }
  }

  private func isRounding(_ step: ForwardStep) -> Bool {
    if case .rounding = step.work { true } else { false }
  }

  private mutating func addGradient(
    _ gradient: GradientNode, of node: TrainingNetwork.Node, _ number: Int
  ) throws(QMError) {
    let kernel =
      switch node.step {
      case .rounding: GradientKernel(reading: [0], outputs: [0]) { _ in }
      case .operation(.batchNormalization(let normalization)):
        try normalization.gradient(
          of: gradient, ofBatchStatistics: network.usesBatchStatistics(node))
      case .operation(let operation): try operation.gradient(of: gradient)
      }
    scratchByteCount = max(scratchByteCount, kernel.scratchByteCount)
    backward.append(
      BackwardStep(node: forward[number].node, forward: number, kernel: kernel, begins: []))
  }
}

extension TrainingNetwork {
  func isParameter(_ value: Int) -> Bool { parameter(value) != nil }
}
