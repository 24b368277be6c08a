import QMFormat
import QMOperations
import QMTensor

/// A program made ready for inputs of certain extents: every type concrete, every kernel chosen,
/// every value at its place in one arena.
///
/// Not shared between threads: a run writes the arena.
final class ExecutionPlan {
  struct Step {
    let node: Int
    let kernel: Kernel
    let operands: OperandTable.Places
    /// Values that the step computes, and those that are other views of the same bytes.
    var values: [Int]
  }

  let steps: [Step]
  /// Values that are known before the first step: the program's inputs, what extents and switch
  /// inputs decide, and other views of their bytes.
  let givenValues: [Int]
  /// What the switch inputs hold in the runs of this plan.
  let switches: [UInt8]
  /// Concrete types of the values; nil of those that no run needs.
  let types: [ValueType?]
  private var memory: ValueMemory
  private let operands: OperandTable
  /// For each output of the program the value whose bytes it is.
  private let outputValues: [Int]
  /// Rearranged constants that this plan made itself, kept alive.
  private let packed: [PackedWeights]

  var byteCount: Int { memory.byteCount }

  /// - Parameters:
  ///   - extents: of each program input.
  ///   - switches: what the model's switch inputs hold, in their order.
  ///   - keepsAll: whether every value is to be seen; otherwise one that only the next node reads
  ///     may never exist.
  /// - Throws: `invalidInput` or `malformed` if the extents do not fit the program;
  ///   `unsupported` if an intermediate's extents depend on data; `outOfMemory`.
  init(
    _ model: Model, extents: [[Int]], switches: [UInt8], threadCount: Int, keepsAll: Bool
  ) throws(QMError) {
    let resolution = try Resolution(model, extents: extents, switches: switches)
    let planned = try PlannedSteps(model, resolution, joining: !keepsAll)
    let memory = try ValueMemory(model, resolution, planned.steps, threadCount: threadCount)
    let outputValues = model.program.outputs.map { memory.origins[$0.value] }
    let operands = try OperandTable(model.program, planned.steps, memory, outputs: outputValues)
    let shown = ExecutionPlan.shownValues(model, planned.steps, memory)
    steps = zip(planned.steps, zip(operands.places, shown.byStep)).map { step, rest in
      Step(node: step.node, kernel: step.kernel, operands: rest.0, values: rest.1)
    }
    givenValues = shown.given
    self.switches = switches
    types = resolution.types
    packed = planned.packed
    self.memory = memory
    self.operands = operands
    self.outputValues = outputValues
  }

  /// When an observer of the run sees each value.
  private static func shownValues(
    _ model: Model, _ steps: [PlannedSteps.Step], _ memory: ValueMemory
  ) -> (given: [Int], byStep: [[Int]]) {
    var given: [Int] = []
    var byStep = steps.map { model.program.nodes[$0.lastNode].outputs }
    for (value, source) in memory.sources.enumerated() {
      switch (source, memory.sources[memory.origins[value]]) {
      case (.input, _), (.alias, .input), (.alias, .constant): given.append(value)
      case (.constant, _) where model.loaded.constants[value] == nil: given.append(value)
      case (.alias, .step(let step)): byStep[step].append(value)
      default: continue
      }
    }
    return (given, byStep)
  }

  /// Lets the steps read the program's inputs at these addresses.
  func bind(_ addresses: [UnsafeMutableRawPointer]) { operands.bindInputs(addresses) }

  /// Memory of its own for each output that a step computes, which the steps of the next run write
  /// instead of the arena, until ``unbindOutputs()``.
  /// - Throws: `outOfMemory`.
  func bindOutputs() throws(QMError) -> [Buffer?] {
    var buffers: [Buffer?] = []
    for (output, value) in outputValues.enumerated() {
      guard !operands.outputPlaces[output].isEmpty, let type = types[value],
        let extents = type.shape.extents
      else {
        buffers.append(nil)
        continue
      }
      let buffer = try Buffer.uninitialized(
        byteCount: Tensor.byteCount(of: type.elementType, extents))
      operands.bindOutput(output, buffer.base)
      memory.substitute(buffer.base, for: value)
      buffers.append(buffer)
    }
    return buffers
  }

  /// Lets the steps write outputs to the arena again.
  func unbindOutputs() {
    memory.returnToArena()
    for (output, value) in outputValues.enumerated() {
      operands.bindOutput(output, memory.address(of: value))
    }
  }

  /// Runs one step.
  func run(_ step: Step, threads: ThreadPool) throws(QMError) {
    try step.kernel.run(
      Kernel.Memory(
        inputs: operands[step.operands.inputs], outputs: operands[step.operands.outputs],
        scratch: memory.scratch.base, threads: threads))
  }

  /// The bytes of a value: of a step's output from that step on, until its last reader has run.
  /// - Parameter inputs: addresses of the program's inputs.
  func view(of value: Int, inputs: [UnsafeMutableRawPointer]) -> TensorView? {
    guard let type = types[value], let extents = type.shape.extents else { return nil }
    let origin = memory.origins[value]
    let base: UnsafeMutableRawPointer? =
      if case .input(let position) = memory.sources[origin] {
        inputs[position]
      } else {
        memory.address(of: origin)
      }
    return base.map { TensorView(type.elementType, extents, type.quantization, base: $0) }
  }

  /// Whether no step and no input gives the value its bytes.
  func isConstant(_ value: Int) -> Bool {
    if case .constant = memory.sources[memory.origins[value]] { true } else { false }
  }
}

extension Shape {
  /// - Throws: `invalidInput` if a value of these extents contradicts what is declared.
  func requireAdmitting(_ extents: [Int]) throws(QMError) {
    guard admits(extents) else {
      throw .invalidInput("its output has extents \(extents), declared are \(self)")
    }
  }
}
