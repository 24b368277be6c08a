import CQMKernels
import QMTensor

/// All steps of some batch items of a recurrent layer in one direction.
struct RecurrentSteps {
  private let kernel: RecurrentKernel
  private let memory: RecurrentKernel.Memory
  private let direction: Int
  private let items: Range<Int>
  private let lengths: [Int]
  private let thread: Int
  private let threads: ThreadPool
  private let functions: [qm_unary]
  private let peepholes: UnsafePointer<Float>?
  // This thread's scratch memory, [items][…].
  private let h: UnsafeMutablePointer<Float>
  private let c: UnsafeMutablePointer<Float>
  private let gates: UnsafeMutablePointer<Float>
  private let reset: UnsafeMutablePointer<Float>

  init(
    kernel: RecurrentKernel, memory: RecurrentKernel.Memory, direction: Int, items: Range<Int>,
    lengths: [Int], thread: Int, threads: ThreadPool
  ) {
    self.kernel = kernel
    self.memory = memory
    self.direction = direction
    self.items = items
    self.lengths = lengths
    self.thread = thread
    self.threads = threads
    functions = kernel.operation.functions(of: direction).map(\.unary)
    peepholes = memory.peepholes.map { $0 + direction * 3 * kernel.extents.hidden }
    let layout = memory.layout
    h = memory.floats(thread, layout.hidden)
    c = memory.floats(thread, layout.cell)
    gates = memory.floats(thread, layout.gates)
    reset = memory.floats(thread, layout.reset)
  }

  private var extents: Recurrent.Extents { kernel.extents }
  private var hidden: Int { kernel.extents.hidden }
  private var cell: Recurrent.Cell { kernel.operation.cell }

  func run() {
    let firstState = (direction * extents.batch + items.lowerBound) * hidden
    let count = items.count * hidden
    load(h, memory.hidden, at: firstState, count)
    if cell.hasCellState { load(c, memory.cell, at: firstState, count) }
    for step in 0..<(lengths[items].max() ?? 0) where !threads.runState.isCancelled {
      multiplyStates(h, isCandidate: false)
      advance(step)
      forEachItem(at: step) { (row, _, time) in
        place(time, row).update(from: h + row * hidden, count: hidden)
      }
    }
    for (row, item) in items.enumerated() {
      for time in lengths[item]..<extents.steps {
        place(time, row).update(repeating: 0, count: hidden)
      }
    }
    (memory.lastHidden + firstState).update(from: h, count: count)
    if let last = memory.lastCell { (last + firstState).update(from: c, count: count) }
  }

  /// The place of an item's state in the output sequence.
  private func place(_ time: Int, _ row: Int) -> UnsafeMutablePointer<Float> {
    let index = (time * extents.directions + direction) * extents.batch + items.lowerBound + row
    return memory.sequence + index * hidden
  }

  private func multiplyStates(_ states: UnsafePointer<Float>, isCandidate: Bool) {
    kernel.multiplyStates(
      memory, direction: direction, thread: thread, count: items.count, states, gates,
      isCandidate: isCandidate)
  }

  /// Calls `body` for each item whose sequence has this step, with the products of its input.
  private func forEachItem(
    at step: Int, _ body: (_ row: Int, _ products: UnsafePointer<Float>, _ time: Int) -> Void
  ) {
    let isReverse = kernel.operation.isReverse(direction)
    for (row, item) in items.enumerated() where step < lengths[item] {
      let time = isReverse ? lengths[item] - 1 - step : step
      let index = time * extents.batch + item
      body(row, kernel.products(memory, direction: direction, row: index), time)
    }
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

  // MARK: Cells

  /// Computes the states after a step; `gates` holds the products of the states before it.
  private func advance(_ step: Int) {
    switch cell {
    case .simple: advanceSimple(step)
    case .gruResetAfter: advanceGRUResetAfter(step)
    case .gru: advanceGRU(step)
    case .lstm, .lstmCoupled:
      forEachItem(at: step) { (row, a, _) in
        let b = gates + row * extents.rows
        if let cells = kernel.cells {
          cells.lstm(
            a, b, cell == .lstmCoupled, c + row * hidden, h + row * hidden, Int64(hidden))
          return
        }
        add(a, to: b, extents.rows)
        advanceLSTM(b, h + row * hidden, c + row * hidden)
      }
    }
  }

  private func advanceSimple(_ step: Int) {
    forEachItem(at: step) { (row, a, _) in
      let b = gates + row * extents.rows
      add(a, to: b, hidden)
      apply(functions[0], b, hidden)
      let state = h + row * hidden
      for unit in 0..<hidden { state[unit] = canonical(b[unit]) }
    }
  }

  private func advanceGRUResetAfter(_ step: Int) {
    forEachItem(at: step) { (row, a, _) in
      let b = gates + row * extents.rows
      if let cells = kernel.cells {
        cells.gru_reset_after(a, b, h + row * hidden, Int64(hidden))
        return
      }
      add(a, to: b, 2 * hidden)
      apply(functions[0], b, 2 * hidden)
      let candidates = b + 2 * hidden
      for unit in 0..<hidden {
        candidates[unit] = b[hidden + unit] * candidates[unit] + a[2 * hidden + unit]
      }
      finishGRU(b, h + row * hidden)
    }
  }

  private func advanceGRU(_ step: Int) {
    forEachItem(at: step) { (row, a, _) in
      let b = gates + row * extents.rows
      if let cells = kernel.cells {
        cells.gru_gates(a, b, h + row * hidden, reset + row * hidden, Int64(hidden))
        return
      }
      add(a, to: b, 2 * hidden)
      apply(functions[0], b, 2 * hidden)
      for unit in 0..<hidden {
        reset[row * hidden + unit] = b[hidden + unit] * h[row * hidden + unit]
      }
    }
    multiplyStates(reset, isCandidate: true)
    forEachItem(at: step) { (row, a, _) in
      let b = gates + row * extents.rows
      if let cells = kernel.cells {
        cells.gru_state(a, b, h + row * hidden, Int64(hidden))
        return
      }
      add(a + 2 * hidden, to: b + 2 * hidden, hidden)
      finishGRU(b, h + row * hidden)
    }
  }

  private func add(
    _ other: UnsafePointer<Float>, to target: UnsafeMutablePointer<Float>, _ count: Int
  ) {
    for index in 0..<count { target[index] = target[index] + other[index] }
  }

  /// Clips the arguments, then applies a gate's function.
  private func apply(_ function: qm_unary, _ numbers: UnsafeMutablePointer<Float>, _ count: Int) {
    if let clip = kernel.clip { kernel.unary(clip, numbers, numbers, Int64(count)) }
    kernel.unary(function, numbers, numbers, Int64(count))
  }

  /// The end of a GRU step: `gates` holds z and, in its third block, the candidates' arguments.
  private func finishGRU(_ gates: UnsafeMutablePointer<Float>, _ h: UnsafeMutablePointer<Float>) {
    let candidates = gates + 2 * hidden
    apply(functions[1], candidates, hidden)
    for unit in 0..<hidden {
      h[unit] = canonical((1 - gates[unit]) * candidates[unit] + gates[unit] * h[unit])
    }
  }

  /// A step of an LSTM cell: `gates` holds the arguments of i, o, j and g.
  private func advanceLSTM(
    _ gates: UnsafeMutablePointer<Float>, _ h: UnsafeMutablePointer<Float>,
    _ c: UnsafeMutablePointer<Float>
  ) {
    let isCoupled = cell == .lstmCoupled
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
    kernel.unary(functions[2], c, g, Int64(hidden))
    for unit in 0..<hidden { h[unit] = canonical(o[unit] * g[unit]) }
  }
}
