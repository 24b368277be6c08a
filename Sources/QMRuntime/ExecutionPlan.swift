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
  /// Values that are known before the first step: the program's inputs, what extents decide, and
  /// other views of their bytes.
  private(set) var givenValues: [Int] = []
  /// Concrete types of the values.
  let types: [ValueType?]
  private let sources: [Source?]
  /// Of values that a step computes: offset in the arena.
  private let offsets: [Int?]
  private let arena: Buffer
  private let scratch: Buffer
  /// What the steps read and write, one address per operand.
  private let pointers: UnsafeMutableBufferPointer<UnsafeMutableRawPointer?>
  /// Places in `pointers` that hold the address of each program input.
  private var inputPlaces: [[Int]]
  /// Rearranged constants that this plan made itself, kept alive.
  private let packed: [Buffer]

  var byteCount: Int { arena.count + scratch.count }

  deinit { pointers.deallocate() }

  /// - Parameter extents: of each program input.
  /// - Throws: `invalidInput` or `malformed` if the extents do not fit the program;
  ///   `unsupported` if an intermediate's extents depend on data; `outOfMemory`.
  init(_ model: Model, extents: [[Int]], threadCount: Int) throws(QMError) {
    let program = model.program
    var types = [ValueType?](repeating: nil, count: program.values.count)
    var sources = [Source?](repeating: nil, count: program.values.count)
    for (position, value) in program.inputs.enumerated() {
      let declared = program.values[value].type
      types[value] = ValueType(
        declared.elementType, Shape(extents[position]), declared.quantization)
      sources[value] = .input(position)
    }
    for (value, constant) in model.constants {
      types[value] = ValueType(
        constant.elementType, Shape(constant.shape), program.values[value].type.quantization)
      sources[value] = .constant(constant)
    }

    // Types and kernels. What extents alone decide is computed here, once, and not in a run.
    var kernels: [(node: Int, kernel: Kernel)] = []
    var evaluatedByteCount = 0
    var packed: [Buffer] = []
    for (index, node) in program.nodes.enumerated() where !model.isComputedAtLoad[index] {
      try within(.node(name: node.name, operation: node.operation.name)) { () throws(QMError) in
        var operands: [Operand?] = []
        for input in node.inputs {
          guard let input else {
            operands.append(nil)
            continue
          }
          guard let type = types[input], let source = sources[input] else {
            throw .internalFault("value \(input) is used before it is computed")
          }
          var constant: Tensor?
          if case .constant(let tensor) = source { constant = tensor }
          operands.append(Operand(type, constant: constant))
        }
        if let results = try ExecutionPlan.evaluate(
          node.operation, operands, model.kernels,
          limit: min(model.evaluatedByteLimit, model.options.runByteLimit) - evaluatedByteCount)
        {
          evaluatedByteCount += results.reduce(0) { $0 + $1.byteCount }
          for (output, tensor) in zip(node.outputs, results) {
            try program.values[output].type.shape.requireAdmitting(tensor.shape)
            types[output] = ValueType(
              tensor.elementType, Shape(tensor.shape), program.values[output].type.quantization)
            sources[output] = .constant(tensor)
          }
          return
        }
        let outputs = try node.operation.body.outputTypes(for: operands)
        for (output, type) in zip(node.outputs, outputs) {
          guard let extents = type.shape.extents else {
            throw .unsupported("the extents \(type.shape) of its output depend on data")
          }
          try program.values[output].type.shape.requireAdmitting(extents)
          // Kernels compute with the extents before memory is asked for.
          let byteCount = try Tensor.byteCount(of: type.elementType, extents)
          guard byteCount <= min(model.options.runByteLimit, Buffer.physicalByteCount) else {
            throw .outOfMemory(byteCount: byteCount)
          }
          types[output] = type
          sources[output] = .step(kernels.count)
        }
        if node.operation.body.aliasesInput, let input = node.inputs[0] {
          sources[node.outputs[0]] = .alias(input)
          return
        }
        var rearranged = model.packed[index]
        if rearranged == nil {
          rearranged = try node.operation.body.pack(operands, for: model.kernels)
          if let rearranged { packed.append(rearranged) }
        }
        let prepared = try PreparedNode(
          node.operation, operands: operands, outputs: outputs, packed: rearranged,
          kernels: model.kernels)
        kernels.append((index, prepared.kernel))
      }
    }

    // Lifetimes: a value's bytes are needed until the last step that reads it or an alias of it.
    let origins = ExecutionPlan.origins(sources)
    var lastSteps = [Int](repeating: -1, count: program.values.count)
    for (step, entry) in kernels.enumerated() {
      for case .some(let input) in program.nodes[entry.node].inputs {
        lastSteps[origins[input]] = step
      }
    }
    for output in program.outputs { lastSteps[origins[output.value]] = kernels.count }

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
    let scratchByteCount = kernels.map { $0.kernel.scratchByteCount(threadCount) }.max() ?? 0
    let limit = model.options.runByteLimit
    guard memory.byteCount <= limit, scratchByteCount <= limit - memory.byteCount else {
      throw QMError(
        .outOfMemory,
        "a run on these inputs takes \(memory.byteCount) bytes for values and \(scratchByteCount) "
          + "beside them, the limit is \(limit)")
    }
    arena = try Buffer.allocate(byteCount: memory.byteCount)
    scratch = try Buffer.allocate(byteCount: scratchByteCount)
    var offsets = [Int?](repeating: nil, count: program.values.count)
    for (owner, offset) in zip(owners, memory.offsets) { offsets[owner] = offset }

    let placeCount = kernels.reduce(0) {
      $0 + program.nodes[$1.node].inputs.count + program.nodes[$1.node].outputs.count
    }
    pointers = .allocate(capacity: placeCount)
    pointers.initialize(repeating: nil)
    inputPlaces = [[Int]](repeating: [], count: program.inputs.count)
    self.types = types
    self.sources = sources
    self.offsets = offsets
    self.packed = packed

    var place = 0
    for (node, kernel) in kernels {
      let inputs = place..<(place + program.nodes[node].inputs.count)
      for (place, input) in zip(inputs, program.nodes[node].inputs) {
        guard let input else { continue }
        let origin = origins[input]
        if case .input(let position) = sources[origin] { inputPlaces[position].append(place) }
        pointers[place] = address(of: origin)
      }
      let outputs = inputs.upperBound..<(inputs.upperBound + program.nodes[node].outputs.count)
      for (place, output) in zip(outputs, program.nodes[node].outputs) {
        pointers[place] = address(of: output)
      }
      place = outputs.upperBound
      steps.append(
        Step(
          node: node, kernel: kernel, inputs: inputs, outputs: outputs,
          values: program.nodes[node].outputs))
    }
    for (value, source) in sources.enumerated() {
      switch (source, sources[origins[value]]) {
      case (.input, _), (.alias, .input), (.alias, .constant): givenValues.append(value)
      case (.constant, _) where model.constants[value] == nil: givenValues.append(value)
      case (.alias, .step(let step)): steps[step].values.append(value)
      default: continue
      }
    }
  }

  /// Lets the steps read the program's inputs at these addresses.
  func bind(_ addresses: [UnsafeMutableRawPointer]) {
    for (places, address) in zip(inputPlaces, addresses) {
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
    let base: UnsafeMutableRawPointer?
    switch sources[value] {
    case .input(let position): base = inputs[position]
    case .alias(let other): return view(of: other, inputs: inputs).map {
      TensorView(type.elementType, extents, type.quantization, base: $0.base)
    }
    default: base = address(of: value)
    }
    return base.map { TensorView(type.elementType, extents, type.quantization, base: $0) }
  }

  private func address(of value: Int) -> UnsafeMutableRawPointer? {
    switch sources[value] {
    case .constant(let tensor): tensor.buffer.base + tensor.byteOffset
    case .step: offsets[value].map { arena.base + $0 }
    case .input, .alias, nil: nil
    }
  }

  /// For each value the one whose bytes it shares, itself mostly.
  private static func origins(_ sources: [Source?]) -> [Int] {
    sources.indices.map { value in
      var origin = value
      while case .alias(let other) = sources[origin] { origin = other }
      return origin
    }
  }

  /// The outputs of a node that extents and constants decide; nil where data does, or where they
  /// take more than `limit` bytes.
  private static func evaluate(
    _ operation: Operation, _ operands: [Operand?], _ kernels: KernelSet, limit: Int
  ) throws(QMError) -> [Tensor]? {
    if case .shapeOf(let shapeOf) = operation, let shape = operands[0]?.type.shape,
      let extents = try shapeOf.value(for: shape)
    {
      return [extents]
    }
    guard operands.allSatisfy({ $0 == nil || $0?.constant != nil }),
      try operation.resultByteCount(for: operands, limit: limit) != nil
    else { return nil }
    return try operation.evaluate(
      operands.map { $0?.constant }, quantizations: operands.map { $0?.type.quantization ?? .none },
      kernels: kernels)
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
