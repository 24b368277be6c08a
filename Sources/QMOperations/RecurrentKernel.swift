import CQMKernels
import QMTensor

// The fast kernel of recurrent layers: first the products of the input, for all steps at once; then
// step by step the products of the states, for a block of batch items at a time.

extension Recurrent {
  /// Whether gates are sigmoid and states tanh, in all directions.
  fileprivate var hasUsualFunctions: Bool {
    functions.indices.allSatisfy {
      functions[$0] == ($0 % cell.functionCount == 0 ? .sigmoid : .tanh)
    }
  }

  public func packedInputs(_ operands: [Operand?]) -> [Int] {
    [RecurrentOperand.weights, RecurrentOperand.recurrence]
  }

  public func pack(
    _ operands: [Operand?], for kernels: KernelSet, _ packing: Packing
  ) throws(QMError) -> PackedWeights? {
    guard let panels = try panelsToPack(operands, kernels),
      let weights = optional(RecurrentOperand.weights, of: operands)?.constant,
      let recurrence = optional(RecurrentOperand.recurrence, of: operands)?.constant,
      let first = weights.bytes.baseAddress, let second = recurrence.bytes.baseAddress
    else { return nil }
    let buffer = try Buffer.pages(byteCount: panels.byteCount)
    panels.pack(
      weights: first, recurrence: second, into: buffer.base,
      consuming: (
        packing.consumedBuffer(RecurrentOperand.weights, of: operands),
        packing.consumedBuffer(RecurrentOperand.recurrence, of: operands)
      ))
    return PackedWeights(scheme: .recurrent(panels), buffer: buffer)
  }

  public func packedForm(
    _ operands: [Operand?], for kernels: KernelSet, _ packing: Packing
  ) throws(QMError) -> PackedForm? {
    try panelsToPack(operands, kernels).map { PackedForm(schemes: [.recurrent($0)]) }
  }

  /// nil if no kernel reads the weights in panels, or if they are not known before the run.
  private func panelsToPack(
    _ operands: [Operand?], _ kernels: KernelSet
  ) throws(QMError) -> RecurrentPanels? {
    guard optional(RecurrentOperand.weights, of: operands)?.constant != nil,
      optional(RecurrentOperand.recurrence, of: operands)?.constant != nil
    else { return nil }
    return try RecurrentKernel(self, operands: operands, packed: nil, kernels: kernels)?.panels
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    guard
      let kernel = try RecurrentKernel(self, operands: operands, packed: packed, kernels: kernels)
    else { return nil }
    if let packed, packed.scheme != .recurrent(kernel.panels) {
      throw .internalFault("the weights are packed for another operation")
    }
    return Kernel(
      name: "recurrent \(kernel.fromState.table.name)",
      scratchByteCount: { kernel.layout(threads: $0).byteCount },
      run: { (memory) throws(QMError) in try kernel.run(memory) })
  }
}

struct RecurrentKernel: Sendable {
  /// Byte offsets of scratch memory.
  struct Layout {
    var panels = 0
    var inputMultipliers = 0
    var stateMultipliers = 0
    var preparedInput = 0
    var inputParameters = 0
    var products = 0
    var thread = 0
    var threadByteCount = 0
    var byteCount = 0
    /// Batch items whose steps are computed together.
    var batchBlock = 0

    // Within a thread's part.
    var codes = 0
    var prepared = 0
    var parameters = 0
    var hidden = 0
    var cell = 0
    var gates = 0
    var reset = 0
  }

  let operation: Recurrent
  let extents: Recurrent.Extents
  let fromInput: RowProduct
  let fromState: RowProduct
  let panels: RecurrentPanels
  /// The ``panels``, if they were packed when the model was loaded.
  let packed: Buffer?
  let unary: qm_unary_f32_kernel
  let clip: qm_unary?
  /// Steps of whole cells; nil for functions other than sigmoid and tanh.
  let cells: qm_cell_kernels?

  /// - Returns: nil for the reference set.
  init?(
    _ operation: Recurrent, operands: [Operand?], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) {
    let input = try operation.required(RecurrentOperand.input, of: operands).type
    let weightsOperand = try operation.required(RecurrentOperand.weights, of: operands)
    let recurrenceOperand = try operation.required(RecurrentOperand.recurrence, of: operands)
    let (weights, recurrence) = (weightsOperand.type, recurrenceOperand.type)
    guard let set = kernels.number,
      let inputTable = ProductTable(
        for: kernels, input: .int8, weights: weightsOperand,
        depth: weights.shape.extents?.last ?? 0,
        columns: .max),
      let stateTable = ProductTable(
        for: kernels, input: .int8, weights: recurrenceOperand,
        depth: recurrence.shape.extents?.last ?? 0, columns: .max),
      let recurrenceShape = recurrence.shape.extents, let weightShape = weights.shape.extents
    else { return nil }
    // Weights are packed before the input's shape is known.
    extents = operation.extents(
      input: input.shape.extents ?? [0, 0, weightShape[1]], recurrence: recurrenceShape)
    self.operation = operation
    self.packed = packed?.buffer
    unary = qm_unary_f32_for(set)
    clip = operation.clip.map { UnaryFunction.clip(minimum: -$0, maximum: $0).unary }
    let hasPeepholes = operation.optional(RecurrentOperand.peepholes, of: operands) != nil
    let isUsual = operation.clip == nil && !hasPeepholes && operation.hasUsualFunctions
    cells = isUsual ? qm_cells_for(set) : nil
    fromInput = RowProduct(
      inputTable, set, operation.inputs, weights: weights, depth: extents.inputs)
    fromState = RowProduct(
      stateTable, set, operation.inputs, weights: recurrence, depth: extents.hidden)

    let (rows, hidden) = (extents.rows, extents.hidden)
    let joined = operation.cell == .gru ? 2 * hidden : rows
    func panels(_ table: ProductTable, _ type: ValueType, depth: Int, columns: Int) -> ProductPanels
    {
      ProductPanels(
        table: table, taps: 1, depth: depth, columns: columns, matrixCount: 1,
        elementByteCount: type.elementType.byteCount)
    }
    self.panels = RecurrentPanels(
      directions: extents.directions,
      input: panels(inputTable, weights, depth: extents.inputs, columns: rows),
      recurrence: panels(stateTable, recurrence, depth: hidden, columns: joined),
      candidate: joined == rows
        ? nil : panels(stateTable, recurrence, depth: hidden, columns: rows - joined))
  }

  /// Rows of the recurrence that are multiplied by h itself, in each direction.
  private var joinedRows: Int { panels.recurrence.columns }

  /// Larger blocks are not faster: these are the rows of several register tiles.
  private static let largestBatchBlock = 24
  /// Rows (steps and batch items) in one chunk of the input's products.
  private static let rowBlock = 48

  func layout(threads: Int) -> Layout {
    let rowCount = extents.steps * extents.batch
    let total = extents.directions * extents.rows
    var layout = Layout()
    var scratch = ScratchLayout()
    layout.panels = scratch.reserve(packed == nil ? panels.byteCount : 0)
    layout.inputMultipliers = scratch.reserve(4 * total)
    layout.stateMultipliers = scratch.reserve(4 * total)
    layout.preparedInput = scratch.reserve(
      fromInput.rows == .float ? 0 : rowCount * fromInput.rowByteCount)
    layout.inputParameters = scratch.reserve(8 * rowCount)
    layout.products = scratch.reserve(4 * rowCount * total)

    let wanted = max(1, threads / extents.directions)
    layout.batchBlock = max(
      1, min(Self.largestBatchBlock, (extents.batch + wanted - 1) / wanted))
    let (block, hidden) = (layout.batchBlock, extents.hidden)
    var thread = ScratchLayout()
    layout.codes = thread.reserve(max(extents.inputs, hidden))
    layout.prepared = thread.reserve(block * fromState.rowByteCount)
    layout.parameters = thread.reserve(8 * block)
    layout.hidden = thread.reserve(4 * block * hidden)
    layout.cell = thread.reserve(operation.cell.hasCellState ? 4 * block * hidden : 0)
    layout.gates = thread.reserve(4 * block * extents.rows)
    layout.reset = thread.reserve(operation.cell == .gru ? 4 * block * hidden : 0)
    layout.threadByteCount = thread.byteCount
    layout.thread = scratch.reserve(threads * thread.byteCount)
    layout.byteCount = scratch.byteCount
    return layout
  }

  // MARK: Run

  /// The memory of a run, by name.
  struct Memory {
    let layout: Layout
    let scratch: UnsafeMutableRawPointer
    let input: UnsafePointer<Float>
    let panels: UnsafeRawPointer
    let bias: UnsafePointer<Float>?
    let hidden: UnsafePointer<Float>?
    let cell: UnsafePointer<Float>?
    let peepholes: UnsafePointer<Float>?
    let sequence: UnsafeMutablePointer<Float>
    let lastHidden: UnsafeMutablePointer<Float>
    let lastCell: UnsafeMutablePointer<Float>?

    func floats(_ offset: Int) -> UnsafeMutablePointer<Float> {
      (scratch + offset).assumingMemoryBound(to: Float.self)
    }

    /// An address in the scratch memory of a thread.
    func raw(_ thread: Int, _ offset: Int) -> UnsafeMutableRawPointer {
      scratch + layout.thread + thread * layout.threadByteCount + offset
    }

    func floats(_ thread: Int, _ offset: Int) -> UnsafeMutablePointer<Float> {
      raw(thread, offset).assumingMemoryBound(to: Float.self)
    }
  }

  func run(_ given: Kernel.Memory) throws(QMError) {
    func operand(_ index: Int) -> UnsafeMutableRawPointer? {
      index < given.inputs.count ? given.inputs[index] : nil
    }
    func floats(_ index: Int) -> UnsafePointer<Float>? {
      operand(index).map { UnsafePointer($0.assumingMemoryBound(to: Float.self)) }
    }
    let lengths = try operation.lengths(
      extents,
      operand(RecurrentOperand.lengths).map {
        UnsafePointer($0.assumingMemoryBound(to: Int32.self))
      })
    let layout = layout(threads: given.threads.threadCount)
    let scratch = given.scratch
    if packed == nil {
      panels.pack(
        weights: operand(RecurrentOperand.weights)!,
        recurrence: operand(RecurrentOperand.recurrence)!, into: scratch + layout.panels)
    }
    fill(
      (scratch + layout.inputMultipliers).assumingMemoryBound(to: Float.self), fromInput,
      floats(RecurrentOperand.weightScales))
    fill(
      (scratch + layout.stateMultipliers).assumingMemoryBound(to: Float.self), fromState,
      floats(RecurrentOperand.recurrenceScales))
    let memory = Memory(
      layout: layout, scratch: scratch, input: floats(RecurrentOperand.input)!,
      panels: UnsafeRawPointer(packed?.base ?? scratch + layout.panels),
      bias: floats(RecurrentOperand.bias), hidden: floats(RecurrentOperand.hidden),
      cell: floats(RecurrentOperand.cell), peepholes: floats(RecurrentOperand.peepholes),
      sequence: given.outputs[0]!.assumingMemoryBound(to: Float.self),
      lastHidden: given.outputs[1]!.assumingMemoryBound(to: Float.self),
      lastCell: operation.cell.hasCellState
        ? given.outputs[2]!.assumingMemoryBound(to: Float.self) : nil)

    prepareInput(memory, given.threads)
    multiplyInput(memory, given.threads)
    let blocks = (extents.batch + layout.batchBlock - 1) / layout.batchBlock
    given.threads.run(chunks: blocks * extents.directions) { (chunk, thread) in
      let first = chunk / extents.directions * layout.batchBlock
      let items = first..<min(first + layout.batchBlock, extents.batch)
      let steps = RecurrentSteps(
        kernel: self, memory: memory, direction: chunk % extents.directions, items: items,
        lengths: lengths, thread: thread, threads: given.threads)
      steps.run()
    }
  }

  /// Writes the scale of each row of weights.
  private func fill(
    _ multipliers: UnsafeMutablePointer<Float>, _ product: RowProduct,
    _ scales: UnsafePointer<Float>?
  ) {
    guard let scales, let granularity = product.granularity else { return }
    for row in 0..<extents.directions * extents.rows {
      multipliers[row] = scales[granularity == .perTensor ? 0 : row]
    }
  }

  private func prepareInput(_ memory: Memory, _ threads: ThreadPool) {
    guard fromInput.rows != .float else { return }
    let layout = memory.layout
    threads.run(
      forRangesOf: extents.steps * extents.batch, byteCount: 8 * extents.inputs
    ) { (rows, thread) in
      let codes = memory.raw(thread, layout.codes).assumingMemoryBound(to: Int8.self)
      for row in rows {
        fromInput.prepare(
          memory.input + row * extents.inputs,
          memory.scratch + layout.preparedInput + row * fromInput.rowByteCount,
          parameters: memory.floats(layout.inputParameters) + 2 * row, codes: codes)
      }
    }
  }

  /// Computes x · Wᵀ + Wb for all steps.
  private func multiplyInput(_ memory: Memory, _ threads: ThreadPool) {
    let layout = memory.layout
    let rowCount = extents.steps * extents.batch
    let blocks = (rowCount + Self.rowBlock - 1) / Self.rowBlock
    threads.run(chunks: blocks * extents.directions) { (chunk, _) in
      let direction = chunk % extents.directions
      let first = chunk / extents.directions * Self.rowBlock
      let isFloat = fromInput.rows == .float
      let pitch = isFloat ? extents.inputs : fromInput.pitch
      let source =
        isFloat
        ? UnsafeRawPointer(memory.input) : UnsafeRawPointer(memory.scratch + layout.preparedInput)
      fromInput.multiply(
        rows: min(Self.rowBlock, rowCount - first),
        source + first * pitch * fromInput.table.inputByteCount, pitch: pitch,
        parameters: memory.floats(layout.inputParameters) + 2 * first,
        panels: memory.panels + panels.inputOffset(direction), columns: extents.rows,
        multipliers: memory.floats(layout.inputMultipliers) + direction * extents.rows,
        bias: memory.bias.map { $0 + 2 * direction * extents.rows },
        products(memory, direction: direction, row: first), outputPitch: extents.rows)
    }
  }

  /// The input's products of one step and batch item.
  func products(_ memory: Memory, direction: Int, row: Int) -> UnsafeMutablePointer<Float> {
    memory.floats(memory.layout.products)
      + (direction * extents.steps * extents.batch + row) * extents.rows
  }

  /// Computes `state · Rᵀ + Rb` for the rows of `states`: for the last gate if `isCandidate`, else
  /// for the gates that are multiplied by h itself.
  func multiplyStates(
    _ memory: Memory, direction: Int, thread: Int, count: Int,
    _ states: UnsafePointer<Float>, _ output: UnsafeMutablePointer<Float>, isCandidate: Bool
  ) {
    let layout = memory.layout
    var source = UnsafeRawPointer(states)
    var pitch = extents.hidden
    let parameters = memory.floats(thread, layout.parameters)
    if fromState.rows != .float {
      let prepared = memory.raw(thread, layout.prepared)
      let codes = memory.raw(thread, layout.codes).assumingMemoryBound(to: Int8.self)
      for row in 0..<count {
        fromState.prepare(
          states + row * extents.hidden, prepared + row * fromState.rowByteCount,
          parameters: parameters + 2 * row, codes: codes)
      }
      source = UnsafeRawPointer(prepared)
      pitch = fromState.pitch
    }
    let first = isCandidate ? joinedRows : 0
    let offset =
      isCandidate ? panels.candidateOffset(direction) : panels.recurrenceOffset(direction)
    fromState.multiply(
      rows: count, source, pitch: pitch, parameters: parameters,
      panels: memory.panels + offset,
      columns: isCandidate ? extents.rows - first : joinedRows,
      multipliers: memory.floats(layout.stateMultipliers) + direction * extents.rows + first,
      bias: memory.bias.map { $0 + (2 * direction + 1) * extents.rows + first },
      output + first, outputPitch: extents.rows)
  }
}
