import QMFormat
import QMOperations
import QMTensor

/// A program prepared for inputs of certain shapes: all types are concrete, a kernel is chosen for
/// each step, and each value has an address in one arena.
///
/// Not shared between threads: a run writes to the arena.
final class ExecutionPlan {
  /// One kernel call.
  struct Step {
    let node: Int
    let kernel: Kernel
    let operands: OperandTable.Places
    /// The values that the step computes, and the aliases of them.
    var values: [Int]
  }

  let steps: [Step]
  /// Values that are known before the first step: the program's inputs, values that depend only on
  /// shapes and switch inputs, and the aliases of them.
  let givenValues: [Int]
  /// What the plan was made for.
  let request: Request
  /// The concrete type of each value; nil for values that no output needs.
  let types: [ValueType?]
  private var memory: ValueMemory
  private let operands: OperandTable
  /// For each target of the request, the value whose bytes it has.
  private let outputValues: [Int]
  /// Constants that were packed for this plan only; kept alive here.
  private let packed: [PackedWeights]

  /// Memory for values and scratch, in bytes.
  var byteCount: Int { memory.byteCount }

  /// What a plan is made for.
  struct Request: Equatable {
    /// The shape of each program input.
    var shapes: [[Int]]
    /// The bytes of the model's switch inputs, in their order (``Model/switchInputs``).
    var switches: [UInt8]
    /// Values that were computed before, because shapes or branches depend on their elements.
    var known: [Int: Tensor] = [:]
    /// The values to compute, in their order.
    var targets: [Int]
    /// Whether every value must exist, for an observer. Otherwise a step may compute two nodes at
    /// once and skip the value between them.
    var keepsAll: Bool

    static func == (left: Request, right: Request) -> Bool {
      left.shapes == right.shapes && left.switches == right.switches
        && left.targets == right.targets && left.keepsAll == right.keepsAll
        && left.known.count == right.known.count
        && left.known.allSatisfy { value, tensor in
          right.known[value].map { $0.isIdentical(to: tensor) } ?? false
        }
    }
  }

  /// - Parameter resolution: of the request, without deciding values.
  /// - Throws: the errors of the operations; `outOfMemory`.
  init(
    _ model: Model, _ request: Request, _ resolution: Resolution, threadCount: Int
  ) throws(QMError) {
    let planned = try PlannedSteps(model, resolution, joining: !request.keepsAll)
    let memory = try ValueMemory(
      ValueMemory.Layout(model, resolution, planned.steps, threadCount: threadCount))
    let outputValues = request.targets.map { memory.origins[$0] }
    let operands = try OperandTable(model.program, planned.steps, memory, outputs: outputValues)
    let observed = ExecutionPlan.observedValues(model, planned.steps, memory)
    steps = zip(planned.steps, zip(operands.places, observed.byStep)).map { step, rest in
      Step(node: step.node, kernel: step.kernel, operands: rest.0, values: rest.1)
    }
    givenValues = observed.given
    self.request = request
    types = resolution.types
    packed = planned.packed
    self.memory = memory
    self.operands = operands
    self.outputValues = outputValues
  }

  /// The values that an observer sees before the first step, and after each step.
  private static func observedValues(
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

  /// Sets the addresses at which the steps read the program's inputs.
  func bind(_ addresses: [UnsafeMutableRawPointer]) { operands.bindInputs(addresses) }

  /// Allocates a buffer for each output that a step computes. Until ``unbindOutputs()``, the steps
  /// write outputs there instead of the arena.
  /// - Returns: nil for outputs that are inputs, constants, or the same value as an earlier output.
  /// - Throws: `outOfMemory`.
  func bindOutputs() throws(QMError) -> [Buffer?] {
    var buffers: [Buffer?] = []
    for (output, value) in outputValues.enumerated() {
      guard !operands.outputPlaces[output].isEmpty, let type = types[value],
        let shape = type.shape.extents
      else {
        buffers.append(nil)
        continue
      }
      let buffer = try Buffer.uninitialized(
        byteCount: Tensor.byteCount(of: type.elementType, shape))
      operands.bindOutput(output, buffer.base)
      memory.substitute(buffer.base, for: value)
      buffers.append(buffer)
    }
    return buffers
  }

  /// Makes the steps write outputs to the arena again.
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

  /// A view of a value; nil if no output needs it. The view of a step's result is valid from this
  /// step until the last step that reads it.
  /// - Parameter inputs: addresses of the program's inputs.
  func view(of value: Int, inputs: [UnsafeMutableRawPointer]) -> TensorView? {
    guard let type = types[value], let shape = type.shape.extents else { return nil }
    let origin = memory.origins[value]
    let base: UnsafeMutableRawPointer? =
      if case .input(let position) = memory.sources[origin] {
        inputs[position]
      } else {
        memory.address(of: origin)
      }
    return base.map { TensorView(type.elementType, shape, type.quantization, base: $0) }
  }

  /// Whether the value is a constant or an alias of one.
  func isConstant(_ value: Int) -> Bool {
    if case .constant = memory.sources[memory.origins[value]] { true } else { false }
  }
}

extension Shape {
  /// Checks the shape of a node's output against this declared shape.
  /// - Throws: `invalidInput` if it does not fit.
  func requireAdmitting(_ shape: [Int]) throws(QMError) {
    guard admits(shape) else {
      throw .invalidInput("its output has shape \(shape), declared is \(self)")
    }
  }
}
