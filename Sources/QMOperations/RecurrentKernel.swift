import CQMKernels
import QMTensor

// The fast way of recurrent layers: the input's products for all steps at once, then step by step
// the states' products, for a block of batch items at a time.

extension Recurrent {
  public func packedInputs(_ operands: [Operand?]) -> [Int] {
    [RecurrentOperand.weights, RecurrentOperand.recurrence]
  }

  public func pack(
    _ operands: [Operand?], for kernels: KernelSet, form: PackedForm
  ) throws(QMError) -> Buffer? {
    guard let kernel = try RecurrentKernel(self, operands: operands, packed: nil, kernels: kernels),
      let weights = optional(RecurrentOperand.weights, of: operands),
      let recurrence = optional(RecurrentOperand.recurrence, of: operands),
      let first = weights.constant?.bytes.baseAddress,
      let second = recurrence.constant?.bytes.baseAddress
    else { return nil }
    let buffer = try Buffer.pages(byteCount: kernel.panels.byteCount)
    kernel.pack(
      weights: (first, weights.givenUpBuffer), recurrence: (second, recurrence.givenUpBuffer),
      into: buffer.base)
    return buffer
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: Buffer?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    guard
      let kernel = try RecurrentKernel(self, operands: operands, packed: packed, kernels: kernels)
    else { return nil }
    return Kernel(
      name: "recurrent \(kernel.fromState.table.name)",
      scratchByteCount: { kernel.layout(threads: $0).byteCount },
      run: { (memory) throws(QMError) in try kernel.run(memory) })
  }
}

/// Rows of real numbers times packed weights.
private struct RowProduct: Sendable {
  /// What the product reads of a row.
  enum Rows { case real, rounded, codes }

  let table: ProductTable
  let quantize: qm_quantize_kernels
  let rows: Rows
  let depth: Int
  /// Scales of the weights; nil where they are real numbers.
  let granularity: Granularity?

  init(
    _ table: ProductTable, _ set: qm_kernel_set, _ inputs: Recurrent.Inputs, weights: ValueType,
    depth: Int
  ) {
    self.table = table
    quantize = qm_quantize_for(set)
    self.depth = depth
    if case .weights(_, let granularity) = weights.quantization {
      self.granularity = granularity
      rows = .codes
    } else {
      granularity = nil
      rows = inputs == .roundedPerRow ? .rounded : .real
    }
  }

  /// Elements from one prepared row to the next: a row's slack is its own.
  var pitch: Int { depth + table.slackByteCount / table.inputByteCount }
  var rowByteCount: Int { pitch * table.inputByteCount }

  /// Puts a row on its grid.
  /// - Parameters:
  ///   - parameters: room for the scale and zero point.
  ///   - codes: room for `depth` codes.
  func prepare(
    _ row: UnsafePointer<Float>, _ output: UnsafeMutableRawPointer,
    parameters: UnsafeMutablePointer<Float>, codes: UnsafeMutablePointer<Int8>
  ) {
    var bounds: (Float, Float) = (0, 0)
    withUnsafeMutableBytes(of: &bounds) {
      quantize.bounds(
        row, Int64(depth), $0.assumingMemoryBound(to: Float.self).baseAddress!)
    }
    let (scale, zeroPoint) = dynamicGrid(low: bounds.0, high: bounds.1)
    parameters[0] = scale
    parameters[1] = Float(zeroPoint)
    let type = qm_codes(element_type: Int32(QM_INT8), scale: scale, zero_point: zeroPoint)
    quantize.encode(type, 1 / scale, row, codes, Int64(depth))
    if rows == .codes {
      table.prepare(
        qm_input_tile(
          input: codes, input_extents: (1, 1, 1), origin: (0, 0, 0), extents: (1, 1, 1),
          channels: Int64(depth), pitch: Int64(depth), zero_point: zeroPoint, output: output))
    } else {
      quantize.decode(type, codes, output.assumingMemoryBound(to: Float.self), Int64(depth))
    }
  }

  /// `output[row][column] = row · panels[column] + bias[column]`, of prepared rows.
  func multiply(
    rows count: Int, _ input: UnsafeRawPointer, pitch: Int,
    parameters: UnsafePointer<Float>?, panels: UnsafeRawPointer, columns: Int,
    multipliers: UnsafePointer<Float>?, bias: UnsafePointer<Float>?,
    _ output: UnsafeMutablePointer<Float>, outputPitch: Int
  ) {
    var block = qm_product_block()
    block.input = input
    block.extents = (1, 1, Int64(count))
    block.input_strides = (0, 0, Int64(pitch))
    block.output_strides = (0, 0, Int64(outputPitch))
    block.tap_count = 1
    block.depth = Int64(depth)
    block.weights = panels
    block.columns = Int64(columns)
    block.epilogue.bias = bias
    block.epilogue.residual_number = QM_NUMBER_NONE
    block.epilogue.output = UnsafeMutableRawPointer(output)
    block.epilogue.output_number = QM_NUMBER_FLOAT32
    if rows == .codes {
      block.epilogue.multipliers = multipliers
      block.epilogue.row_parameters = parameters
    }
    withUnsafePointer(to: Int64(0)) { tap in
      block.taps = tap
      table.multiply(block)
    }
  }
}

private struct RecurrentKernel: Sendable {
  /// Byte offsets of packed weights, by direction.
  struct Panels {
    var input: [Int] = []
    var recurrence: [Int] = []
    /// Of the last gate, where its product stands alone.
    var candidate: [Int] = []
    var byteCount = 0
  }

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
    /// Batch items that go through the steps together.
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
  let panels: Panels
  let packed: Buffer?
  private let unary: qm_unary_f32_kernel
  private let clip: qm_unary?

  /// nil in the reference set.
  init?(
    _ operation: Recurrent, operands: [Operand?], packed: Buffer?, kernels: KernelSet
  ) throws(QMError) {
    let input = try operation.required(RecurrentOperand.input, of: operands).type
    let weightsOperand = try operation.required(RecurrentOperand.weights, of: operands)
    let recurrenceOperand = try operation.required(RecurrentOperand.recurrence, of: operands)
    let (weights, recurrence) = (weightsOperand.type, recurrenceOperand.type)
    guard let set = kernels.number,
      let inputTable = ProductTable(
        for: kernels, input: .int8, weights: weightsOperand, columns: .max),
      let stateTable = ProductTable(
        for: kernels, input: .int8, weights: recurrenceOperand, columns: .max),
      let recurrenceExtents = recurrence.shape.extents, let weightExtents = weights.shape.extents
    else { return nil }
    // Weights are packed before the extents of a run are known.
    extents = operation.extents(
      input: input.shape.extents ?? [0, 0, weightExtents[1]], recurrence: recurrenceExtents)
    self.operation = operation
    self.packed = packed
    unary = qm_unary_f32_for(set)
    clip = operation.clip.map { UnaryFunction.clip(minimum: -$0, maximum: $0).unary }
    fromInput = RowProduct(
      inputTable, set, operation.inputs, weights: weights, depth: extents.inputs)
    fromState = RowProduct(
      stateTable, set, operation.inputs, weights: recurrence, depth: extents.hidden)

    var layout = ScratchLayout()
    var panels = Panels()
    let joined = operation.cell == .gated ? 2 * extents.hidden : extents.rows
    for _ in 0..<extents.directions {
      panels.input.append(
        layout.reserve(
          inputTable.packedByteCount(taps: 1, depth: extents.inputs, columns: extents.rows)))
      panels.recurrence.append(
        layout.reserve(
          stateTable.packedByteCount(taps: 1, depth: extents.hidden, columns: joined)))
      panels.candidate.append(
        layout.reserve(
          joined == extents.rows
            ? 0
            : stateTable.packedByteCount(
              taps: 1, depth: extents.hidden, columns: extents.rows - joined)))
    }
    panels.byteCount = layout.byteCount
    self.panels = panels
  }

  /// Rows of the recurrence that are multiplied by h itself, in each direction.
  private var joinedRows: Int {
    operation.cell == .gated ? 2 * extents.hidden : extents.rows
  }

  /// The elements of weights, and the memory of theirs that may go.
  typealias Given = (elements: UnsafeRawPointer, givenUp: Buffer?)

  func pack(weights: Given, recurrence: Given, into target: UnsafeMutableRawPointer) {
    func pack(_ product: RowProduct, _ given: Given, row: Int, count: Int, at offset: Int) {
      let size = product.rows == .codes ? 1 : 4
      product.table.pack(
        qm_weights(
          elements: given.elements + row * product.depth * size, taps: 1,
          depth: Int64(product.depth), columns: Int64(count), tap_stride: 0, depth_stride: 1,
          column_stride: Int64(product.depth)),
        elementByteCount: size, into: target + offset, givingUp: given.givenUp)
    }
    for direction in 0..<extents.directions {
      let first = direction * extents.rows
      pack(
        fromInput, weights, row: first, count: extents.rows, at: panels.input[direction])
      pack(
        fromState, recurrence, row: first, count: joinedRows, at: panels.recurrence[direction])
      if joinedRows < extents.rows {
        pack(
          fromState, recurrence, row: first + joinedRows, count: extents.rows - joinedRows,
          at: panels.candidate[direction])
      }
    }
  }

  /// Batch items beyond which a block gains nothing: the rows of several tiles.
  private static let largestBatchBlock = 24
  /// Steps' rows of one chunk of the input's products.
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
      fromInput.rows == .real ? 0 : rowCount * fromInput.rowByteCount)
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
    layout.reset = thread.reserve(operation.cell == .gated ? 4 * block * hidden : 0)
    layout.threadByteCount = thread.byteCount
    layout.thread = scratch.reserve(threads * thread.byteCount)
    layout.byteCount = scratch.byteCount
    return layout
  }

  // MARK: Run

  /// The memory of a run by meaning.
  private struct Memory {
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

    /// A place in the memory of a thread.
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
      pack(
        weights: (UnsafeRawPointer(operand(RecurrentOperand.weights)!), nil),
        recurrence: (UnsafeRawPointer(operand(RecurrentOperand.recurrence)!), nil),
        into: scratch + layout.panels)
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
      runSteps(memory, direction: chunk % extents.directions, items, lengths, thread: thread)
    }
  }

  /// The scale of each row of weights.
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
    guard fromInput.rows != .real else { return }
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

  /// x · Wᵀ + Wb of every step.
  private func multiplyInput(_ memory: Memory, _ threads: ThreadPool) {
    let layout = memory.layout
    let rowCount = extents.steps * extents.batch
    let blocks = (rowCount + Self.rowBlock - 1) / Self.rowBlock
    threads.run(chunks: blocks * extents.directions) { (chunk, _) in
      let direction = chunk % extents.directions
      let first = chunk / extents.directions * Self.rowBlock
      let isReal = fromInput.rows == .real
      let pitch = isReal ? extents.inputs : fromInput.pitch
      let source =
        isReal
        ? UnsafeRawPointer(memory.input) : UnsafeRawPointer(memory.scratch + layout.preparedInput)
      fromInput.multiply(
        rows: min(Self.rowBlock, rowCount - first),
        source + first * pitch * fromInput.table.inputByteCount, pitch: pitch,
        parameters: memory.floats(layout.inputParameters) + 2 * first,
        panels: memory.panels + panels.input[direction], columns: extents.rows,
        multipliers: memory.floats(layout.inputMultipliers) + direction * extents.rows,
        bias: memory.bias.map { $0 + 2 * direction * extents.rows },
        products(memory, direction: direction, row: first), outputPitch: extents.rows)
    }
  }

  /// The input's products of one step and batch item.
  private func products(_ memory: Memory, direction: Int, row: Int) -> UnsafeMutablePointer<Float> {
    memory.floats(memory.layout.products)
      + (direction * extents.steps * extents.batch + row) * extents.rows
  }

  /// `state · Rᵀ + Rb` for the rows of `states`, gates from `gate` on.
  private func multiplyStates(
    _ memory: Memory, direction: Int, thread: Int, count: Int,
    _ states: UnsafePointer<Float>, _ output: UnsafeMutablePointer<Float>, isCandidate: Bool
  ) {
    let layout = memory.layout
    var source = UnsafeRawPointer(states)
    var pitch = extents.hidden
    let parameters = memory.floats(thread, layout.parameters)
    if fromState.rows != .real {
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
    let offsets = isCandidate ? panels.candidate : panels.recurrence
    fromState.multiply(
      rows: count, source, pitch: pitch, parameters: parameters,
      panels: memory.panels + offsets[direction],
      columns: isCandidate ? extents.rows - first : joinedRows,
      multipliers: memory.floats(layout.stateMultipliers) + direction * extents.rows + first,
      bias: memory.bias.map { $0 + (2 * direction + 1) * extents.rows + first },
      output + first, outputPitch: extents.rows)
  }

  /// All steps of some batch items in one direction.
  private func runSteps(
    _ memory: Memory, direction: Int, _ items: Range<Int>, _ lengths: [Int], thread: Int
  ) {
    let hidden = extents.hidden
    let layout = memory.layout
    let count = items.count
    let h = memory.floats(thread, layout.hidden)
    let c = memory.floats(thread, layout.cell)
    let gates = memory.floats(thread, layout.gates)
    let reset = memory.floats(thread, layout.reset)
    let firstState = (direction * extents.batch + items.lowerBound) * hidden
    load(h, memory.hidden, at: firstState, count * hidden)
    if operation.cell.hasCellState { load(c, memory.cell, at: firstState, count * hidden) }
    let functions = operation.functions(of: direction).map(\.unary)
    let peepholes = memory.peepholes.map { $0 + direction * 3 * hidden }
    let isReverse = operation.isReverse(direction)

    let longest = lengths[items].max() ?? 0
    for step in 0..<longest {
      multiplyStates(
        memory, direction: direction, thread: thread, count: count, h, gates, isCandidate: false)
      func forEachItem(_ body: (_ row: Int, _ products: UnsafePointer<Float>, _ time: Int) -> Void)
      {
        for row in 0..<count {
          let item = items.lowerBound + row
          guard step < lengths[item] else { continue }
          let time = isReverse ? lengths[item] - 1 - step : step
          body(
            row, products(memory, direction: direction, row: time * extents.batch + item), time)
        }
      }
      switch operation.cell {
      case .simple:
        forEachItem { (row, a, _) in
          let b = gates + row * extents.rows
          add(a, to: b, hidden)
          apply(functions[0], b, hidden)
          store(b, h + row * hidden, hidden)
        }
      case .gatedResetAfter:
        forEachItem { (row, a, _) in
          let b = gates + row * extents.rows
          add(a, to: b, 2 * hidden)
          apply(functions[0], b, 2 * hidden)
          let candidates = b + 2 * hidden
          for unit in 0..<hidden {
            candidates[unit] = b[hidden + unit] * candidates[unit] + a[2 * hidden + unit]
          }
          mix(b, functions[1], h + row * hidden)
        }
      case .gated:
        forEachItem { (row, a, _) in
          let b = gates + row * extents.rows
          add(a, to: b, 2 * hidden)
          apply(functions[0], b, 2 * hidden)
          for unit in 0..<hidden {
            reset[row * hidden + unit] = b[hidden + unit] * h[row * hidden + unit]
          }
        }
        multiplyStates(
          memory, direction: direction, thread: thread, count: count, reset, gates,
          isCandidate: true)
        forEachItem { (row, a, _) in
          let b = gates + row * extents.rows
          add(a + 2 * hidden, to: b + 2 * hidden, hidden)
          mix(b, functions[1], h + row * hidden)
        }
      case .longShortTerm, .longShortTermCoupled:
        forEachItem { (row, a, _) in
          let b = gates + row * extents.rows
          add(a, to: b, extents.rows)
          remember(b, functions, peepholes, h + row * hidden, c + row * hidden)
        }
      }
      forEachItem { (row, _, time) in
        let place =
          (time * extents.directions + direction) * extents.batch + items.lowerBound + row
        (memory.sequence + place * hidden).update(from: h + row * hidden, count: hidden)
      }
    }
    for item in items {
      for time in lengths[item]..<extents.steps {
        let place = (time * extents.directions + direction) * extents.batch + item
        (memory.sequence + place * hidden).update(repeating: 0, count: hidden)
      }
    }
    (memory.lastHidden + firstState).update(from: h, count: count * hidden)
    if let last = memory.lastCell { (last + firstState).update(from: c, count: count * hidden) }
  }

  private func load(
    _ state: UnsafeMutablePointer<Float>, _ source: UnsafePointer<Float>?, at offset: Int,
    _ count: Int
  ) {
    if let source {
      state.update(from: source + offset, count: count)
    } else {
      state.update(repeating: 0, count: count)
    }
  }

  // MARK: Steps

  private func add(
    _ other: UnsafePointer<Float>, to target: UnsafeMutablePointer<Float>, _ count: Int
  ) {
    for index in 0..<count { target[index] = target[index] + other[index] }
  }

  private func store(
    _ source: UnsafePointer<Float>, _ target: UnsafeMutablePointer<Float>, _ count: Int
  ) {
    for index in 0..<count { target[index] = canonical(source[index]) }
  }

  /// A gate's function of arguments that are clipped first.
  private func apply(_ function: qm_unary, _ numbers: UnsafeMutablePointer<Float>, _ count: Int) {
    if let clip { unary(clip, numbers, numbers, Int64(count)) }
    unary(function, numbers, numbers, Int64(count))
  }

  /// The end of a gated step, from z and the candidates' arguments in `gates`.
  private func mix(
    _ gates: UnsafeMutablePointer<Float>, _ function: qm_unary, _ h: UnsafeMutablePointer<Float>
  ) {
    let candidates = gates + 2 * extents.hidden
    apply(function, candidates, extents.hidden)
    for unit in 0..<extents.hidden {
      h[unit] = canonical((1 - gates[unit]) * candidates[unit] + gates[unit] * h[unit])
    }
  }

  /// A step of a cell with state c, from the arguments in `gates`: i, o, j, and those of g.
  private func remember(
    _ gates: UnsafeMutablePointer<Float>, _ functions: [qm_unary],
    _ peepholes: UnsafePointer<Float>?, _ h: UnsafeMutablePointer<Float>,
    _ c: UnsafeMutablePointer<Float>
  ) {
    let hidden = extents.hidden
    let isCoupled = operation.cell == .longShortTermCoupled
    let (i, o, j, g) = (gates, gates + hidden, gates + 2 * hidden, gates + 3 * hidden)
    func addPeephole(_ gate: Int) {
      guard let peepholes else { return }
      let weights = peepholes + gate * hidden
      let argument = gates + gate * hidden
      for unit in 0..<hidden { argument[unit] = argument[unit] + weights[unit] * c[unit] }
    }
    addPeephole(0)
    apply(functions[0], i, hidden)
    if isCoupled {
      for unit in 0..<hidden { j[unit] = 1 - i[unit] }
    } else {
      addPeephole(2)
      apply(functions[0], j, hidden)
    }
    apply(functions[1], g, hidden)
    for unit in 0..<hidden { c[unit] = canonical(j[unit] * c[unit] + i[unit] * g[unit]) }
    addPeephole(1)
    apply(functions[0], o, hidden)
    unary(functions[2], c, g, Int64(hidden))
    for unit in 0..<hidden { h[unit] = canonical(o[unit] * g[unit]) }
  }
}
