import QMFormat
import QMOperations
import QMTensor

/// The steps of a run in their order, each with its kernel.
struct PlannedSteps {
  /// A node, or a node together with the Transpose that follows it.
  struct Step {
    let node: Int
    /// The node whose outputs the kernel writes.
    let lastNode: Int
    let kernel: Kernel
  }

  private(set) var steps: [Step] = []
  /// Constants that are packed for these steps only.
  private(set) var packed: [PackedWeights] = []

  /// - Parameter joining: whether a node and a Transpose that is its only reader may be one step.
  /// - Throws: the errors of the operations; `outOfMemory`.
  init(_ model: Model, _ resolution: Resolution, joining: Bool) throws(QMError) {
    let nodes = resolution.nodesToRun()
    let transposes = joining ? resolution.transposesAlone(nodes) : [:]
    var joined: Set<Int> = []
    for index in nodes where !joined.contains(index) {
      let step = try within(model.program.nodes[index].context) { () throws(QMError) -> Step in
        try self.step(model, resolution, node: index, transpose: transposes[index])
      }
      if step.lastNode != index { joined.insert(step.lastNode) }
      steps.append(step)
    }
  }

  /// - Parameter transpose: a Transpose that the step may include.
  private mutating func step(
    _ model: Model, _ resolution: Resolution, node index: Int, transpose: Int?
  ) throws(QMError) -> Step {
    let node = model.program.nodes[index]
    let operands = try resolution.operands(of: index)
    let outputs = node.outputs.compactMap { resolution.types[$0] }
    let weights = try weights(of: index, model, operands)
    if let transpose, !outputs.contains(where: \.isEmpty),
      case .transpose(let operation) = model.program.nodes[transpose].operation,
      let kernel = try node.operation.body.kernel(
        for: operands, outputs: outputs, packed: weights, kernels: model.kernels,
        transposing: operation.permutation)
    {
      return Step(node: index, lastNode: transpose, kernel: kernel)
    }
    let prepared = try PreparedNode(
      node.operation, operands: operands, outputs: outputs, packed: weights,
      kernels: model.kernels)
    let readsReleased = node.inputs.contains { $0.map(model.loaded.released.contains) ?? false }
    guard prepared.isFast || !readsReleased else {
      throw .internalFault("its weights are packed, but no kernel reads them packed")
    }
    return Step(node: index, lastNode: index, kernel: prepared.kernel)
  }

  /// The packed constants of a node: those of the model, or, if they are known only in this plan,
  /// packed here.
  private mutating func weights(
    of node: Int, _ model: Model, _ operands: [Operand?]
  ) throws(QMError) -> PackedWeights? {
    if let weights = model.loaded.packed[node] { return weights }
    guard !model.loaded.packedInRuns.contains(node) else { return nil }
    let weights = try model.program.nodes[node].operation.body.pack(
      operands, for: model.kernels, Packing(memory: model.options.memory))
    if let weights { packed.append(weights) }
    return weights
  }
}
