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
    /// Places in `pointers`.
    let inputs: Range<Int>
    let outputs: Range<Int>
    /// Values that the step computes, and those that are other views of the same bytes.
    var values: [Int]
  }

  /// Where the bytes of a value come from.
  private enum Source {
    case input(Int)
    case constant(Tensor)
    case step(Int)
    /// The bytes of another value.
    case alias(Int)
  }

  private(set) var steps: [Step] = []
  /// Values that are known before the first step: the program's inputs, what extents and switch
  /// inputs decide, and other views of their bytes.
  private(set) var givenValues: [Int] = []
  /// What the switch inputs hold in the runs of this plan.
  let switches: [UInt8]
  /// Concrete types of the values; nil of those that no run needs.
  let types: [ValueType?]
  private let sources: [Source?]
  /// For each value the one whose bytes it shares, itself mostly.
  private let origins: [Int]
  /// Of values that a step computes: offset in the arena.
  private let offsets: [Int?]
  private let arena: Buffer
  private let scratch: Buffer
  /// What the steps read and write, one address per operand.
  private let pointers: UnsafeMutableBufferPointer<UnsafeMutableRawPointer?>
  /// Places in `pointers` that hold the address of each program input.
  private var inputPlaces: [[Int]]
  /// The same of each program output that a step computes; empty of the others, and of those that
  /// are the bytes of an earlier one.
  private var outputPlaces: [[Int]]
  /// Where the outputs lie that have memory of their own in this run, by value.
  private var outputAddresses: [Int: UnsafeMutableRawPointer] = [:]
  private let outputValues: [Int]
  /// Rearranged constants that this plan made itself, kept alive.
  private let packed: [PackedWeights]

  var byteCount: Int { arena.count + scratch.count }

  deinit { pointers.deallocate() }

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
    let program = model.program
    let resolution = try Resolution(model, extents: extents, switches: switches)
    self.switches = switches
    types = resolution.types
    let nodes = resolution.nodesToRun()

    var packed: [PackedWeights] = []
    let planned = try ExecutionPlan.planned(
      model, resolution, nodes, joining: !keepsAll, packing: &packed)
    var stepNumbers: [Int: Int] = [:]
    for (step, entry) in planned.enumerated() { stepNumbers[entry.lastNode] = step }
    let sources = resolution.sources.map { source -> Source? in
      switch source {
      case .input(let position): .input(position)
      case .constant(let tensor): .constant(tensor)
      case .alias(let other): .alias(other)
      case .node(let node): stepNumbers[node].map { .step($0) }
      case nil: nil
      }
    }

    // Lifetimes: a value's bytes are needed until the last step that reads it or an alias of it.
    origins = ExecutionPlan.origins(sources)
    var lastSteps = [Int](repeating: -1, count: program.values.count)
    for (step, entry) in planned.enumerated() {
      for case .some(let input) in program.nodes[entry.node].inputs {
        lastSteps[origins[input]] = step
      }
    }
    for output in program.outputs { lastSteps[origins[output.value]] = planned.count }

    var requests: [MemoryPlan.Request] = []
    var owners: [Int] = []
    for (value, source) in sources.enumerated() {
      guard case .step(let step) = source, let type = types[value],
        let extents = type.shape.extents
      else { continue }
      requests.append(
        MemoryPlan.Request(
          firstStep: step, lastStep: max(step, lastSteps[value]),
          byteCount: try Tensor.byteCount(of: type.elementType, extents)))
      owners.append(value)
    }
    let memory = try MemoryPlan(requests)
    let scratchByteCount = planned.map { $0.kernel.scratchByteCount(threadCount) }.max() ?? 0
    let limit = model.options.runByteLimit
    guard memory.byteCount <= limit, scratchByteCount <= limit - memory.byteCount else {
      throw QMError(
        .outOfMemory,
        "a run on these inputs takes \(memory.byteCount) bytes for values and \(scratchByteCount) "
          + "beside them, the limit is \(limit)")
    }
    arena = try Buffer.pages(byteCount: memory.byteCount)
    scratch = try Buffer.pages(byteCount: scratchByteCount)
    var offsets = [Int?](repeating: nil, count: program.values.count)
    for (owner, offset) in zip(owners, memory.offsets) { offsets[owner] = offset }

    let placeCount = planned.reduce(0) {
      $0 + program.nodes[$1.node].inputs.count + program.nodes[$1.lastNode].outputs.count
    }
    pointers = .allocate(capacity: placeCount)
    pointers.initialize(repeating: nil)
    inputPlaces = [[Int]](repeating: [], count: program.inputs.count)
    outputPlaces = [[Int]](repeating: [], count: program.outputs.count)
    outputValues = program.outputs.map { [origins] in origins[$0.value] }
    self.sources = sources
    self.offsets = offsets
    self.packed = packed

    var place = 0
    for entry in planned {
      let (given, made) = (
        program.nodes[entry.node].inputs, program.nodes[entry.lastNode].outputs
      )
      let inputs = place..<(place + given.count)
      for (place, input) in zip(inputs, given) {
        guard let input else { continue }
        let origin = origins[input]
        if case .input(let position) = sources[origin] {
          inputPlaces[position].append(place)
        } else {
          pointers[place] = try requiredAddress(of: origin)
          note(place, of: origin)
        }
      }
      let outputs = inputs.upperBound..<(inputs.upperBound + made.count)
      for (place, output) in zip(outputs, made) {
        pointers[place] = try requiredAddress(of: output)
        note(place, of: origins[output])
      }
      place = outputs.upperBound
      steps.append(
        Step(
          node: entry.node, kernel: entry.kernel, inputs: inputs, outputs: outputs, values: made))
    }
    for (value, source) in sources.enumerated() {
      switch (source, sources[origins[value]]) {
      case (.input, _), (.alias, .input), (.alias, .constant): givenValues.append(value)
      case (.constant, _) where model.loaded.constants[value] == nil: givenValues.append(value)
      case (.alias, .step(let step)): steps[step].values.append(value)
      default: continue
      }
    }
  }

  /// A step to be: a node, or one and the Transpose behind it.
  private struct Planned {
    let node: Int
    let lastNode: Int
    let kernel: Kernel
  }

  /// The kernels of `nodes`, in their order.
  /// - Parameters:
  ///   - joining: whether a node and the Transpose that alone reads it may be one step.
  ///   - packed: receives what is rearranged for this plan alone.
  private static func planned(
    _ model: Model, _ resolution: Resolution, _ nodes: [Int], joining: Bool,
    packing packed: inout [PackedWeights]
  ) throws(QMError) -> [Planned] {
    let program = model.program
    let transposes = joining ? resolution.transposesAlone(nodes) : [:]
    var joined: Set<Int> = []
    var planned: [Planned] = []
    for index in nodes where !joined.contains(index) {
      let node = program.nodes[index]
      try within(node.context) { () throws(QMError) in
        let operands = try resolution.operands(of: index)
        let outputs = node.outputs.compactMap { resolution.types[$0] }
        var rearranged = model.loaded.packed[index]
        if rearranged == nil, !model.loaded.packedInRuns.contains(index) {
          rearranged = try node.operation.body.pack(
            operands, for: model.kernels,
            Packing(memory: model.options.memory))
          if let rearranged { packed.append(rearranged) }
        }
        if let next = transposes[index],
          case .transpose(let transpose) = program.nodes[next].operation,
          let kernel = try node.operation.body.kernel(
            for: operands, outputs: outputs, packed: rearranged, kernels: model.kernels,
            transposing: transpose.permutation)
        {
          joined.insert(next)
          planned.append(Planned(node: index, lastNode: next, kernel: kernel))
          return
        }
        let prepared = try PreparedNode(
          node.operation, operands: operands, outputs: outputs, packed: rearranged,
          kernels: model.kernels)
        let readsReleased = node.inputs.contains { $0.map(model.loaded.released.contains) ?? false }
        guard prepared.isFast || !readsReleased else {
          throw .internalFault("its weights are packed for a kernel that it does not have")
        }
        planned.append(Planned(node: index, lastNode: index, kernel: prepared.kernel))
      }
    }
    return planned
  }

  /// Lets the steps read the program's inputs at these addresses.
  func bind(_ addresses: [UnsafeMutableRawPointer]) {
    for (places, address) in zip(inputPlaces, addresses) {
      for place in places { pointers[place] = address }
    }
  }

  private func note(_ place: Int, of value: Int) {
    if case .step = sources[value], let output = outputValues.firstIndex(of: value) {
      outputPlaces[output].append(place)
    }
  }

  /// Memory of its own for each output that a step computes, which the steps of the next run write
  /// instead of the arena, until ``unbindOutputs()``.
  /// - Throws: `outOfMemory`.
  func bindOutputs() throws(QMError) -> [Buffer?] {
    var buffers: [Buffer?] = []
    for (value, places) in zip(outputValues, outputPlaces) {
      guard !places.isEmpty, let type = types[value], let extents = type.shape.extents else {
        buffers.append(nil)
        continue
      }
      let buffer = try Buffer.uninitialized(
        byteCount: Tensor.byteCount(of: type.elementType, extents))
      for place in places { pointers[place] = buffer.base }
      outputAddresses[value] = buffer.base
      buffers.append(buffer)
    }
    return buffers
  }

  /// Lets the steps write outputs to the arena again.
  func unbindOutputs() {
    outputAddresses = [:]
    for (value, places) in zip(outputValues, outputPlaces) {
      let address = address(of: value)
      for place in places { pointers[place] = address }
    }
  }

  /// Runs one step.
  func run(_ step: Step, threads: ThreadPool) throws(QMError) {
    try step.kernel.run(
      Kernel.Memory(
        inputs: UnsafeBufferPointer(rebasing: pointers[step.inputs]),
        outputs: UnsafeBufferPointer(rebasing: pointers[step.outputs]),
        scratch: scratch.base, threads: threads))
  }

  /// The bytes of a value: of a step's output from that step on, until its last reader has run.
  /// - Parameter inputs: addresses of the program's inputs.
  func view(of value: Int, inputs: [UnsafeMutableRawPointer]) -> TensorView? {
    guard let type = types[value], let extents = type.shape.extents else { return nil }
    let origin = origins[value]
    let base: UnsafeMutableRawPointer? =
      if case .input(let position) = sources[origin] {
        inputs[position]
      } else {
        address(of: origin)
      }
    return base.map { TensorView(type.elementType, extents, type.quantization, base: $0) }
  }

  /// Whether no step and no input gives the value its bytes.
  func isConstant(_ value: Int) -> Bool {
    if case .constant = sources[origins[value]] { true } else { false }
  }

  /// What kernels rely on: an operand that a node has, has memory. That a node has the operands
  /// which its kernel reads, the type rule of its operation has proved before a kernel is made.
  private func requiredAddress(of value: Int) throws(QMError) -> UnsafeMutableRawPointer {
    guard let address = address(of: value) else {
      throw .internalFault("value \(value) has no memory")
    }
    return address
  }

  private func address(of value: Int) -> UnsafeMutableRawPointer? {
    switch sources[value] {
    case .constant(let tensor): tensor.buffer.base + tensor.byteOffset
    case .step: outputAddresses[value] ?? offsets[value].map { arena.base + $0 }
    case .input, .alias, nil: nil
    }
  }

  private static func origins(_ sources: [Source?]) -> [Int] {
    var origins = Array(sources.indices)
    // An alias is of a value with a smaller number.
    for (value, source) in sources.enumerated() {
      if case .alias(let other) = source { origins[value] = origins[other] }
    }
    return origins
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
