import QMOperations
import QMTensor

/// The gradient of one direction of a recurrent layer.
struct RecurrentGradientPass {
  private let layer: RecurrentGradient
  private let direction: Int
  private let lengths: [Int]
  private let memory: GradientMemory
  private let extents: Recurrent.Extents
  private let cell: Recurrent.Cell
  private let hidden: Int
  /// Elements of the states of all batch items.
  private let stateCount: Int
  private let isReverse: Bool

  private let arguments: [Floats]
  private let values: [Floats]
  private let h: Floats
  private let cells: Floats
  private let hiddenGradient: Floats
  private let cellGradient: Floats
  private let peepholes: Floats?
  private let work: UnsafeMutableRawPointer

  init(
    _ layer: RecurrentGradient, _ direction: Int, _ lengths: [Int], _ memory: GradientMemory
  ) {
    self.layer = layer
    self.direction = direction
    self.lengths = lengths
    self.memory = memory
    extents = layer.extents
    cell = layer.operation.cell
    hidden = extents.hidden
    stateCount = extents.batch * extents.hidden
    isReverse = layer.operation.isReverse(direction)
    arguments = layer.arguments.map { memory.scratch.floats(at: $0) }
    values = layer.values.map { memory.scratch.floats(at: $0) }
    h = memory.scratch.floats(at: layer.stateRows.rows)
    cells = memory.scratch.floats(at: layer.cells)
    hiddenGradient = memory.scratch.floats(at: layer.hiddenGradient)
    cellGradient = memory.scratch.floats(at: layer.cellGradient)
    work = memory.scratch + layer.work
    let position = RecurrentOperand.peepholes
    let all = position < memory.inputs.count ? memory.inputs[position] : nil
    let offset = direction * 3 * layer.extents.hidden
    peepholes = all.map { $0.assumingMemoryBound(to: Float.self) + offset }
  }

  func run() throws(QMError) {
    collectRows()
    try layer.inputRows.round(memory)
    try layer.stateRows.round(memory)
    switch cell {
    case .simple: try computeGates([0], [0])
    case .gru, .gruResetAfter: try computeGRU()
    case .lstm, .lstmCoupled: try computeLSTM()
    }
    try derive()
    try goBack()
    try addSums()
  }

  // MARK: Places

  private func operand(_ position: Int) -> Floats? {
    guard position < memory.inputs.count else { return nil }
    return memory.inputs[position]?.assumingMemoryBound(to: Float.self)
  }

  private func target(_ position: Int) -> Floats? {
    position < memory.inputGradients.count ? memory.inputGradients[position] : nil
  }

  private func time(_ step: Int, _ item: Int) -> Int {
    isReverse ? lengths[item] - 1 - step : step
  }

  /// The first element of a state in the output sequence, or in its gradient.
  private func place(_ step: Int, _ item: Int) -> Int {
    ((time(step, item) * extents.directions + direction) * extents.batch + item) * hidden
  }

  /// Calls `body` for each batch item, and whether its sequence has this step.
  private func forItems(at step: Int, _ body: (_ item: Int, _ isInside: Bool) -> Void) {
    memory.threads.forRows(extents.batch, elements: hidden) { items in
      for item in items { body(item, step < lengths[item]) }
    }
  }

  private func load(_ position: Int, to target: Floats) {
    if let source = operand(position) {
      target.update(from: source + direction * stateCount, count: stateCount)
    } else {
      target.update(repeating: 0, count: stateCount)
    }
  }

  // MARK: What the steps computed

  /// Copies x and h before each step; zeros where a sequence has ended.
  private func collectRows() {
    let x = memory.input(RecurrentOperand.input)
    let y = memory.output(0)
    let first = operand(RecurrentOperand.hidden).map { $0 + direction * stateCount }
    let rows = memory.scratch.floats(at: layer.inputRows.rows)
    memory.threads.forRows(layer.rows, elements: extents.inputs + hidden) { range in
      for row in range {
        let (step, item) = row.quotientAndRemainder(dividingBy: extents.batch)
        let (input, state) = (rows + row * extents.inputs, h + row * hidden)
        guard step < lengths[item] else {
          input.update(repeating: 0, count: extents.inputs)
          state.update(repeating: 0, count: hidden)
          continue
        }
        input.update(
          from: x + (time(step, item) * extents.batch + item) * extents.inputs,
          count: extents.inputs)
        if step > 0 {
          state.update(from: y + place(step - 1, item), count: hidden)
        } else if let first {
          state.update(from: first + item * hidden, count: hidden)
        } else {
          state.update(repeating: 0, count: hidden)
        }
      }
    }
  }

  /// - Parameter adds: whether the product adds to the target.
  private func multiply(
    _ product: PreparedOperation, _ factors: Int, _ weights: Int, depth: Int, gate: Int, bias: Int,
    adds: Bool, to target: Floats
  ) throws(QMError) {
    let row = (direction * extents.gates + gate) * hidden
    let biases = operand(RecurrentOperand.bias).map {
      $0 + direction * 2 * extents.rows + bias + gate * hidden
    }
    try product.run(
      [
        memory.scratch + factors, UnsafeMutableRawPointer(memory.input(weights) + row * depth),
        biases.map { UnsafeMutableRawPointer($0) }, nil, nil,
        adds ? UnsafeMutableRawPointer(target) : nil,
      ], [target], scratch: work, threads: memory.threads)
  }

  /// x · Wᵀ + Wb for a gate.
  private func multiplyInput(_ gate: Int, to target: Floats) throws(QMError) {
    try multiply(
      layer.products.input, layer.inputRows.factors, RecurrentOperand.weights,
      depth: extents.inputs, gate: gate, bias: 0, adds: false, to: target)
  }

  /// The product of states and R for a gate, plus Rb, plus what is stored already if `adds`.
  private func multiplyState(
    _ rows: StepRows, _ gate: Int, to target: Floats, adds: Bool = true
  ) throws(QMError) {
    try multiply(
      adds ? layer.products.addedState : layer.products.state, rows.factors,
      RecurrentOperand.recurrence, depth: hidden, gate: gate, bias: extents.rows, adds: adds,
      to: target)
  }

  private func clip(_ arguments: Floats, _ count: Int) {
    guard let bound = layer.operation.clip else { return }
    memory.threads.forParts(of: count) { range in
      for i in range { arguments[i] = min(max(arguments[i], -bound), bound) }
    }
  }

  /// Clips arguments and applies function `index`, for all steps.
  private func apply(_ index: Int, _ gate: Int) throws(QMError) {
    clip(arguments[gate], layer.rows * hidden)
    try layer.functions[direction][index].apply(
      arguments[gate], values[gate], work: work, memory.threads)
  }

  /// Gates whose arguments are the sums of both products.
  private func computeGates(_ gates: [Int], _ functions: [Int]) throws(QMError) {
    for (gate, function) in zip(gates, functions) {
      try multiplyInput(gate, to: arguments[gate])
      try multiplyState(layer.stateRows, gate, to: arguments[gate])
      try apply(function, gate)
    }
  }

  private func computeGRU() throws(QMError) {
    try computeGates([0, 1], [0, 0])
    let (argument, r) = (arguments[2], values[1])
    try multiplyInput(2, to: argument)
    if let resetRows = layer.resetRows {
      let (h, reset) = (h, memory.scratch.floats(at: resetRows.rows))
      memory.threads.forParts(of: layer.rows * hidden) { range in
        for i in range { reset[i] = r[i] * h[i] }
      }
      try resetRows.round(memory)
      try multiplyState(resetRows, 2, to: argument)
    } else {
      let candidates = memory.scratch.floats(at: layer.candidates)
      try multiplyState(layer.stateRows, 2, to: candidates, adds: false)
      memory.threads.forParts(of: layer.rows * hidden) { range in
        for i in range { argument[i] += r[i] * candidates[i] }
      }
    }
    try apply(1, 2)
  }

  private func computeLSTM() throws(QMError) {
    let isCoupled = cell == .lstmCoupled
    for gate in isCoupled ? [0, 1, 3] : [0, 1, 2, 3] {
      try multiplyInput(gate, to: arguments[gate])
      try multiplyState(layer.stateRows, gate, to: arguments[gate])
    }
    load(RecurrentOperand.cell, to: cells)
    let cellValues = memory.scratch.floats(at: layer.cellValues)
    for step in 0..<extents.steps {
      let start = step * stateCount
      let (before, after) = (cells + start, cells + start + stateCount)
      try applyStep(0, gate: 0, start, peephole: 0, before)
      if !isCoupled { try applyStep(0, gate: 2, start, peephole: 2, before) }
      try applyStep(1, gate: 3, start, peephole: nil, before)
      let (i, j, g) = (values[0] + start, values[2] + start, values[3] + start)
      forItems(at: step) { (item, isInside) in
        for unit in item * hidden..<(item + 1) * hidden {
          if isCoupled { j[unit] = 1 - i[unit] }
          after[unit] = isInside ? j[unit] * before[unit] + i[unit] * g[unit] : before[unit]
        }
      }
      try applyStep(0, gate: 1, start, peephole: 1, after)
      try layer.functions[direction][2].apply(
        after, cellValues + start, work: work, memory.threads)
    }
  }

  /// Adds what a gate sees of c, clips, and applies function `index`, for one step.
  private func applyStep(
    _ index: Int, gate: Int, _ start: Int, peephole: Int?, _ c: Floats
  ) throws(QMError) {
    let argument = arguments[gate] + start
    if let peephole, let peepholes {
      let weights = peepholes + peephole * hidden
      for item in 0..<extents.batch {
        let (row, state) = (argument + item * hidden, c + item * hidden)
        for unit in 0..<hidden { row[unit] += weights[unit] * state[unit] }
      }
    }
    clip(argument, stateCount)
    try layer.functions[direction][index].apply(
      argument, values[gate] + start, work: work, memory.threads)
  }

  /// Replaces the arguments by the derivatives of the functions there.
  private func derive() throws(QMError) {
    let count = layer.rows * hidden
    let ones = memory.scratch.floats(at: layer.ones)
    let extra = memory.scratch.floats(at: layer.extra)
    let functions: [Int]
    switch cell {
    case .simple: functions = [0]
    case .gru, .gruResetAfter: functions = [0, 0, 1]
    case .lstm, .lstmCoupled: functions = [0, 0, 0, 1]
    }
    for (gate, function) in functions.enumerated() where cell != .lstmCoupled || gate != 2 {
      let argument = arguments[gate]
      try layer.functions[direction][function].derive(
        argument, values[gate], ones: ones, to: extra, work: work, memory.threads)
      let bound = layer.operation.clip ?? .infinity
      memory.threads.forParts(of: count) { range in
        for i in range { argument[i] = argument[i].magnitude < bound ? extra[i] : 0 }
      }
    }
    if cell.hasCellState {
      try layer.functions[direction][2].derive(
        cells + stateCount, memory.scratch.floats(at: layer.cellValues), ones: ones,
        to: memory.scratch.floats(at: layer.cellDerivatives), work: work, memory.threads)
    }
  }

  // MARK: Back through time

  private func goBack() throws(QMError) {
    func begin(_ gradient: Floats, _ output: Int) {
      if let source = memory.outputGradients[output] {
        gradient.update(from: source + direction * stateCount, count: stateCount)
      } else {
        gradient.update(repeating: 0, count: stateCount)
      }
    }
    begin(hiddenGradient, 1)
    if cell.hasCellState { begin(cellGradient, 2) }
    let recurrence = memory.input(RecurrentOperand.recurrence) + direction * extents.rows * hidden
    for step in (0..<extents.steps).reversed() {
      forItems(at: step) { (item, isInside) in
        let row = step * extents.batch + item
        guard isInside else {
          for block in layer.blocks {
            (memory.scratch.floats(at: block.inputs) + row * block.columns)
              .update(repeating: 0, count: block.columns)
            (memory.scratch.floats(at: block.states) + row * block.columns)
              .update(repeating: 0, count: block.columns)
          }
          return
        }
        let gradient = hiddenGradient + item * hidden
        if let source = memory.outputGradients[0].map({ $0 + place(step, item) }) {
          for unit in 0..<hidden { gradient[unit] += source[unit] }
        }
        switch cell {
        case .simple: goBackSimple(row, gradient)
        case .gru, .gruResetAfter: goBackGRU(row, gradient)
        case .lstm, .lstmCoupled: goBackLSTM(row, gradient, cellGradient + item * hidden)
        }
      }
      if cell == .gru { try goBackReset(step, recurrence) }
      let block = layer.blocks[0]
      try block.stateStep.run(
        memory.scratch.floats(at: block.states) + step * extents.batch * block.columns, recurrence,
        to: hiddenGradient, memory)
      if layer.throughTime > 0, step > 0, step % layer.throughTime == 0 { cut(before: step) }
    }
    target(RecurrentOperand.hidden).map { $0 + direction * stateCount }?
      .add(hiddenGradient, count: stateCount, memory.threads)
    target(RecurrentOperand.cell).map { $0 + direction * stateCount }?
      .add(cellGradient, count: stateCount, memory.threads)
  }

  /// The states in front of a step are constants for it. Those of a sequence that has ended wait for
  /// their last step.
  private func cut(before step: Int) {
    forItems(at: step) { (item, isInside) in
      guard isInside else { return }
      (hiddenGradient + item * hidden).update(repeating: 0, count: hidden)
      if cell.hasCellState {
        (cellGradient + item * hidden).update(repeating: 0, count: hidden)
      }
    }
  }

  /// The gradients of the arguments of a block's gates, for one step of an item.
  private func gradients(_ array: Int, _ row: Int, _ block: Int = 0) -> Floats {
    memory.scratch.floats(at: array) + row * layer.blocks[block].columns
  }

  private func goBackSimple(_ row: Int, _ gradient: Floats) {
    let target = gradients(layer.blocks[0].inputs, row)
    let derivative = arguments[0] + row * hidden
    for unit in 0..<hidden {
      target[unit] = gradient[unit] * derivative[unit]
      gradient[unit] = 0
    }
  }

  /// All of a `gruResetAfter`; of a `gru`, all but the reset gate.
  private func goBackGRU(_ row: Int, _ gradient: Floats) {
    let start = row * hidden
    let block = layer.blocks[0]
    let (z, r, n) = (values[0] + start, values[1] + start, values[2] + start)
    let (forZ, forR, forN) = (arguments[0] + start, arguments[1] + start, arguments[2] + start)
    let before = h + start
    let target = gradients(block.inputs, row)
    let isAfter = cell == .gruResetAfter
    let candidate =
      isAfter ? target + 2 * hidden : gradients(layer.blocks[1].inputs, row, 1)
    for unit in 0..<hidden {
      let whole = gradient[unit]
      target[unit] = whole * (before[unit] - n[unit]) * forZ[unit]
      candidate[unit] = whole * (1 - z[unit]) * forN[unit]
      gradient[unit] = whole * z[unit]
    }
    guard isAfter else { return }
    let states = gradients(block.states, row)
    let candidates = memory.scratch.floats(at: layer.candidates) + start
    for unit in 0..<hidden {
      target[hidden + unit] = candidate[unit] * candidates[unit] * forR[unit]
      states[unit] = target[unit]
      states[hidden + unit] = target[hidden + unit]
      states[2 * hidden + unit] = candidate[unit] * r[unit]
    }
  }

  /// The reset gate of a `gru`.
  private func goBackReset(_ step: Int, _ recurrence: Floats) throws(QMError) {
    let block = layer.blocks[1]
    let reset = memory.scratch.floats(at: layer.resetGradient)
    reset.update(repeating: 0, count: stateCount)
    try block.stateStep.run(
      memory.scratch.floats(at: block.states) + step * extents.batch * block.columns,
      recurrence + 2 * hidden * hidden, to: reset, memory)
    forItems(at: step) { (item, isInside) in
      guard isInside else { return }
      let row = step * extents.batch + item
      let (r, before, derivative) = (
        values[1] + row * hidden, h + row * hidden, arguments[1] + row * hidden
      )
      let target = gradients(layer.blocks[0].inputs, row) + hidden
      let (own, gradient) = (reset + item * hidden, hiddenGradient + item * hidden)
      for unit in 0..<hidden {
        target[unit] = own[unit] * before[unit] * derivative[unit]
        gradient[unit] += own[unit] * r[unit]
      }
    }
  }

  private func goBackLSTM(_ row: Int, _ gradient: Floats, _ cellGradient: Floats) {
    let start = row * hidden
    let (i, o, j, g) = (
      values[0] + start, values[1] + start, values[2] + start, values[3] + start
    )
    let (forI, forO, forJ, forG) = (
      arguments[0] + start, arguments[1] + start, arguments[2] + start, arguments[3] + start
    )
    let value = memory.scratch.floats(at: layer.cellValues) + start
    let derivative = memory.scratch.floats(at: layer.cellDerivatives) + start
    let before = cells + start
    let target = gradients(layer.blocks[0].inputs, row)
    let (ofI, ofO, ofJ, ofG) = (
      target, target + hidden, target + 2 * hidden, target + 3 * hidden
    )
    for unit in 0..<hidden {
      ofO[unit] = gradient[unit] * value[unit] * forO[unit]
      cellGradient[unit] += gradient[unit] * o[unit] * derivative[unit]
      gradient[unit] = 0
    }
    if let weights = peepholes.map({ $0 + hidden }) {
      for unit in 0..<hidden { cellGradient[unit] += weights[unit] * ofO[unit] }
    }
    for unit in 0..<hidden {
      let whole = cellGradient[unit]
      ofG[unit] = whole * i[unit] * forG[unit]
      if cell == .lstmCoupled {
        ofI[unit] = whole * (g[unit] - before[unit]) * forI[unit]
        ofJ[unit] = 0
      } else {
        ofI[unit] = whole * g[unit] * forI[unit]
        ofJ[unit] = whole * before[unit] * forJ[unit]
      }
      cellGradient[unit] = whole * j[unit]
    }
    guard let peepholes else { return }
    for unit in 0..<hidden {
      cellGradient[unit] += peepholes[unit] * ofI[unit] + peepholes[2 * hidden + unit] * ofJ[unit]
    }
  }

  // MARK: Sums over all steps

  private func addSums() throws(QMError) {
    let x = memory.scratch.floats(at: layer.inputRows.factors)
    let inputGradient = memory.scratch.floats(at: layer.inputGradient)
    let wantsInput = target(RecurrentOperand.input) != nil
    if wantsInput {
      inputGradient.update(repeating: 0, count: layer.rows * extents.inputs)
    }
    for (number, block) in layer.blocks.enumerated() {
      let row = direction * extents.rows + block.gates.lowerBound * hidden
      let rows = number == 1 ? layer.resetRows ?? layer.stateRows : layer.stateRows
      let biases = target(RecurrentOperand.bias).map {
        $0 + direction * 2 * extents.rows + block.gates.lowerBound * hidden
      }
      try block.addSums(
        x, memory.scratch.floats(at: rows.factors),
        w: memory.input(RecurrentOperand.weights) + row * extents.inputs,
        to: GateBlock.Targets(
          weights: target(RecurrentOperand.weights).map { $0 + row * extents.inputs },
          recurrence: target(RecurrentOperand.recurrence).map { $0 + row * hidden },
          inputBias: biases, stateBias: biases.map { $0 + extents.rows },
          input: wantsInput ? inputGradient : nil), memory)
    }
    addInputGradient(inputGradient)
    try addPeepholeGradients()
  }

  private func addInputGradient(_ source: Floats) {
    guard let target = target(RecurrentOperand.input) else { return }
    memory.threads.forRows(layer.rows, elements: extents.inputs) { rows in
      for row in rows {
        let (step, item) = row.quotientAndRemainder(dividingBy: extents.batch)
        guard step < lengths[item] else { continue }
        let place = (time(step, item) * extents.batch + item) * extents.inputs
        for index in 0..<extents.inputs {
          target[place + index] += source[row * extents.inputs + index]
        }
      }
    }
  }

  private func addPeepholeGradients() throws(QMError) {
    guard let target = target(RecurrentOperand.peepholes) else { return }
    let products = memory.scratch.floats(at: layer.extra)
    for gate in cell == .lstmCoupled ? [0, 1] : [0, 1, 2] {
      // The output gate sees c after the step.
      let states = gate == 1 ? cells + stateCount : cells
      memory.threads.forRows(layer.rows, elements: hidden) { rows in
        for row in rows {
          let gradient = gradients(layer.blocks[0].inputs, row) + gate * hidden
          let (product, state) = (products + row * hidden, states + row * hidden)
          for unit in 0..<hidden { product[unit] = gradient[unit] * state[unit] }
        }
      }
      try layer.peepholeSum.run(
        products, to: target + (direction * 3 + gate) * hidden, memory)
    }
  }
}
