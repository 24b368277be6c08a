import QMTensor

// A loop whose shapes are known before the run is one kernel: the kernels of its nodes over fixed
// places in the scratch memory. Any other loop is computed node by node, on tensors.

extension Loop {
  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let inference = try inference(operands)
    guard inference.isFixed else { return nil }
    return try FixedLoop(self, operands, inference, kernels).kernel
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    var tensors: [Tensor?] = []
    for view in inputs {
      tensors.append(
        try view.map { (view) throws(QMError) in
          try Tensor(
            view.elementType, view.shape,
            buffer: .copying(UnsafeRawBufferPointer(start: view.base, count: view.byteCount)))
        })
    }
    let results = try run(
      tensors, kernels: .reference, threads: ThreadPool(threadCount: 1), byteLimit: .max)
    for (result, output) in zip(results, outputs) {
      guard result.shape == output.shape else {
        throw .invalidInput("an output has shape \(result.shape), expected \(output.shape)")
      }
      output.base.copyMemory(
        from: result.buffer.base + result.byteOffset, byteCount: output.byteCount)
    }
  }

  /// Runs the loop, with the shapes that each iteration has.
  /// - Parameters:
  ///   - threads: share the work; if their run is cancelled, the loop ends after the iteration.
  ///   - byteLimit: bytes that the values of an iteration and the results may take.
  /// - Throws: `cancelled`; `outOfMemory` beyond the limit; `invalidInput` if results that are to be
  ///   stacked have different shapes; the errors of the operations.
  package func run(
    _ inputs: [Tensor?], kernels: KernelSet, threads: ThreadPool, byteLimit: Int
  ) throws(QMError) -> [Tensor] {
    let operands = inputs.map { $0.map { Operand($0.type, constant: $0) } }
    let inference = try inference(operands)
    let count = inputs[0].map { $0.elements(as: Int64.self)[0] } ?? .max
    var goesOn = inputs[1].map { $0.elements(as: Bool.self)[0] } ?? true
    var given: [Tensor] = []
    for case let tensor? in inputs.dropFirst(2) { given.append(tensor) }
    var carried = Array(given.prefix(carriedCount))
    let outside = Array(given.dropFirst(carriedCount))
    var stacks = [[Tensor]](repeating: [], count: results.count - carriedCount)
    var stackedBytes = 0
    var iteration: Int64 = 0
    while goesOn, iteration < count {
      guard !threads.runState.isCancelled else { throw .cancelled() }
      var values = [try Tensor([], [iteration])] + carried + outside
      var budget = Budget(byteLimit: byteLimit, byteCount: stackedBytes)
      for node in nodes {
        values += try results(
          of: node, values, kernels: kernels, threads: threads, budget: &budget)
      }
      carried = results.prefix(carriedCount).map { values[$0] }
      for (index, number) in results.dropFirst(carriedCount).enumerated() {
        let result = values[number]
        if let first = stacks[index].first, first.shape != result.shape {
          throw .invalidInput(
            "results of shapes \(first.shape) and \(result.shape), which cannot be stacked")
        }
        stackedBytes += max(result.byteCount, MemoryLayout<Tensor>.size)
        stacks[index].append(result)
      }
      if let condition { goesOn = values[condition].elements(as: Bool.self)[0] }
      iteration += 1
    }
    var outputs = carried
    for (stack, type) in zip(stacks, inference.outputs.dropFirst(carriedCount)) {
      // Without an iteration, a dynamic axis has no elements.
      let shape = stack.first?.shape ?? type.shape.axes.dropFirst().map { $0.extent ?? 0 }
      let stacked = try Tensor(zeros: type.elementType, [stack.count] + shape)
      for (index, tensor) in stack.enumerated() {
        (stacked.buffer.base + index * tensor.byteCount).copyMemory(
          from: tensor.buffer.base + tensor.byteOffset, byteCount: tensor.byteCount)
      }
      outputs.append(stacked)
    }
    return outputs
  }

  /// Bytes of the values of an iteration and of the results so far.
  private struct Budget {
    let byteLimit: Int
    var byteCount: Int

    mutating func add(_ type: ValueType) throws(QMError) {
      guard let extents = type.shape.extents else {
        throw .malformed("the inputs do not determine the output shape \(type.shape)")
      }
      let added = try Tensor.byteCount(of: type.elementType, extents)
      guard added <= byteLimit, byteCount <= byteLimit - added else {
        throw .overLimit("a loop takes more than the limit of \(byteLimit) bytes")
      }
      byteCount += added
    }
  }

  private func results(
    of node: LoopNode, _ values: [Tensor], kernels: KernelSet, threads: ThreadPool,
    budget: inout Budget
  ) throws(QMError) -> [Tensor] {
    let inputs = node.inputs.map { $0.map { values[$0] } }
    if case .loop(let inner) = node.operation {
      return try inner.run(
        inputs, kernels: kernels, threads: threads,
        byteLimit: budget.byteLimit - min(budget.byteCount, budget.byteLimit))
    }
    let operands = inputs.map { $0.map { Operand($0.type, constant: $0) } }
    for type in try node.operation.body.outputTypes(for: operands) { try budget.add(type) }
    return try node.operation.evaluate(inputs, kernels: kernels, threads: threads)
  }
}

/// A loop all of whose shapes are known.
private struct FixedLoop {
  /// Where a value of the body is.
  private enum Place {
    case iteration
    case carried(Int)
    /// An operand of the loop.
    case operand(Int)
    /// An offset in the scratch memory.
    case scratch(Int)
    case constant(Tensor)
  }

  private struct Step {
    let kernel: Kernel
    let inputs: [Int?]
    let outputs: [Int]
  }

  private let loop: Loop
  private var places: [Place] = []
  private var steps: [Step] = []
  /// Constants that were rearranged for the kernels, which hold addresses in them.
  private var packed: [PackedWeights] = []
  private var layout = Layout()
  /// Offsets of the carried values: those that an iteration reads, and those that it returns.
  private var current: [Int] = []
  private var next: [Int] = []
  private let carriedSizes: [Int]
  /// Bytes of each result that is stacked.
  private let stackedSizes: [Int]

  /// Parts of the scratch memory. Sums stay far from overflow.
  private struct Layout {
    private(set) var byteCount = 0
    /// Parts that no later step reads, by size.
    private var free: [Int: [Int]] = [:]

    static func rounded(_ size: Int) -> Int {
      (max(size, 1) + Buffer.alignment - 1) / Buffer.alignment * Buffer.alignment
    }

    mutating func reserve(_ size: Int) throws(QMError) -> Int {
      let size = Self.rounded(size)
      if let offset = free[size]?.popLast() { return offset }
      let offset = byteCount
      guard size <= 1 << 50, offset <= 1 << 50 else { throw .outOfMemory(byteCount: size) }
      byteCount = offset + size
      return offset
    }

    mutating func release(_ offset: Int, _ size: Int) {
      free[Self.rounded(size), default: []].append(offset)
    }
  }

  init(
    _ loop: Loop, _ operands: [Operand?], _ inference: Loop.Inference, _ kernels: KernelSet
  ) throws(QMError) {
    self.loop = loop
    func size(_ type: ValueType) throws(QMError) -> Int {
      try Tensor.byteCount(of: type.elementType, type.concreteShape())
    }
    let values = inference.values
    var sizes: [Int] = []
    for value in values { sizes.append(try size(value.type)) }
    carriedSizes = loop.results.prefix(loop.carriedCount).map { sizes[$0] }
    stackedSizes = loop.results.dropFirst(loop.carriedCount).map { sizes[$0] }
    _ = try layout.reserve(MemoryLayout<Int64>.size)
    for size in carriedSizes {
      current.append(try layout.reserve(size))
      next.append(try layout.reserve(size))
    }
    places = [.iteration] + (0..<loop.carriedCount).map { .carried($0) }
    places += operands.indices.dropFirst(2 + loop.carriedCount).map { .operand($0) }

    var lastReaders = [Int](repeating: -1, count: values.count)
    for (index, node) in loop.nodes.enumerated() {
      for case let input? in node.inputs { lastReaders[input] = index }
    }
    for result in loop.results + [loop.condition].compactMap({ $0 }) {
      lastReaders[result] = loop.nodes.count
    }
    for (index, node) in loop.nodes.enumerated() {
      let outputs = Array(places.count..<places.count + node.outputCount)
      let known = outputs.compactMap { values[$0].constant }
      guard known.count < outputs.count else {
        places += known.map { .constant($0) }
        continue
      }
      for output in outputs { places.append(.scratch(try layout.reserve(sizes[output]))) }
      try within(.node(name: "\(index) of the body", operation: node.operation.name)) {
        () throws(QMError) in
        let inputs = try node.operands(in: values)
        let weights = try node.operation.body.pack(inputs, for: kernels, .fastest)
        if let weights { packed.append(weights) }
        let prepared = try PreparedNode(
          node.operation, operands: inputs, outputs: outputs.map { values[$0].type },
          packed: weights, kernels: kernels)
        steps.append(Step(kernel: prepared.kernel, inputs: node.inputs, outputs: outputs))
      }
      for value in Set(node.inputs.compactMap { $0 } + outputs) where lastReaders[value] <= index {
        if case .scratch(let offset) = places[value] { layout.release(offset, sizes[value]) }
      }
    }
  }

  var kernel: Kernel {
    let (own, steps, ownByteCount) = (self, steps, layout.byteCount)
    return Kernel(
      name: Loop.name,
      scratchByteCount: { threads in
        ownByteCount + (steps.map { $0.kernel.scratchByteCount(threads) }.max() ?? 0)
      },
      run: { (memory) throws(QMError) in try own.run(memory) })
  }

  private func run(_ memory: Kernel.Memory) throws(QMError) {
    let count = memory.inputs[0]?.load(as: Int64.self) ?? .max
    var goesOn = memory.inputs[1].map { $0.load(as: UInt8.self) != 0 } ?? true
    var (current, next) = (current, next)
    for (index, size) in carriedSizes.enumerated() {
      (memory.scratch + current[index]).copyMemory(
        from: memory.inputs[2 + index]!, byteCount: size)
    }
    func address(_ value: Int) -> UnsafeMutableRawPointer {
      switch places[value] {
      case .iteration: memory.scratch
      case .carried(let index): memory.scratch + current[index]
      case .operand(let index): memory.inputs[index]!
      case .scratch(let offset): memory.scratch + offset
      case .constant(let tensor): tensor.buffer.base + tensor.byteOffset
      }
    }
    var iteration: Int64 = 0
    while goesOn, iteration < count {
      guard !memory.threads.runState.isCancelled else { throw .cancelled() }
      memory.scratch.storeBytes(of: iteration, as: Int64.self)
      for step in steps {
        let inputs = step.inputs.map { $0.map(address) }
        let outputs = step.outputs.map { Optional(address($0)) }
        try inputs.withUnsafeBufferPointer { (inputs) throws(QMError) in
          try outputs.withUnsafeBufferPointer { (outputs) throws(QMError) in
            try step.kernel.run(
              Kernel.Memory(
                inputs: inputs, outputs: outputs, scratch: memory.scratch + layout.byteCount,
                threads: memory.threads))
          }
        }
      }
      for (index, size) in stackedSizes.enumerated() {
        (memory.outputs[loop.carriedCount + index]! + Int(iteration) * size).copyMemory(
          from: address(loop.results[loop.carriedCount + index]), byteCount: size)
      }
      if let condition = loop.condition { goesOn = address(condition).load(as: UInt8.self) != 0 }
      for (index, size) in carriedSizes.enumerated() {
        (memory.scratch + next[index]).copyMemory(
          from: address(loop.results[index]), byteCount: size)
      }
      swap(&current, &next)
      iteration += 1
    }
    for (index, size) in carriedSizes.enumerated() {
      memory.outputs[index]!.copyMemory(from: memory.scratch + current[index], byteCount: size)
    }
  }
}
