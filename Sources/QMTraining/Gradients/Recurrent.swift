import QMOperations
import QMTensor

/// Backpropagation through time. What a step computed is computed again, all products for all steps
/// at once, because the layer's outputs hold every state h; then the gradients of the gates'
/// arguments follow step by step from the last, with one product each; then all sums over steps and
/// batch items are one product each.
///
/// With D = f′ of an argument, 0 where it was clipped, ∂ the gradient of the argument of a gate, and
/// ∂h, ∂c those of the states after a step:
///
///     simple       ∂ = ∂h · D
///     gru…         ∂z = ∂h · (h₋ − n) · Dz      ∂n = ∂h · (1 − z) · Dn      ∂h₋ = ∂h · z + …
///       gru        ∂(r · h₋) = ∂n · R[2]        ∂r = ∂(r · h₋) · h₋ · Dr    ∂h₋ += ∂(r · h₋) · r
///       ResetAfter ∂b[2] = ∂n · r               ∂r = ∂n · b[2] · Dr
///     lstm…        ∂o = ∂h · k(c) · Do          ∂c += ∂h · o · k′(c) + P[1] · ∂o
///                  ∂i = ∂c · g · Di             ∂g = ∂c · i · Dg            ∂c₋ = ∂c · j + …
///       lstm       ∂j = ∂c · c₋ · Dj            ∂c₋ += P[0] · ∂i + P[2] · ∂j
///       Coupled    ∂i = ∂c · (g − c₋) · Di      ∂c₋ += P[0] · ∂i
///
///     ∂h₋ += Σ over gates: ∂ · R      ∂W = Σ ∂ᵀ · x      ∂R = Σ ∂ᵀ · h₋      ∂x = ∂ · W
///
/// where a subscript − means before the step. Rows that the products read rounded count as they are
/// for ∂W and ∂R; for ∂x and ∂h₋, rounding counts as the identity.
///
/// Truncated, with N steps: the sequence is cut into segments of N steps, in the order in which they
/// run, and a segment counts the states that the one before hands over as constants: ∂h₋ and ∂c₋ are 0
/// at its first step. The memory is the same.
///
/// Sources: Werbos 1990, "Backpropagation Through Time"; Williams and Peng 1990, "An Efficient
/// Gradient-Based Algorithm for On-Line Training of Recurrent Network Trajectories", section 2, with
/// h′ = h = N (truncation); the straight-through estimator as for
/// ``DynamicQuantize``.
extension Recurrent: Differentiable {
  package func gradient(of node: GradientNode) throws(QMError) -> GradientKernel {
    var scratch = ScratchParts()
    let gradient = try RecurrentGradient(self, node, &scratch)
    let reads = node.operands.indices.filter { node.operands[$0] != nil }
    return GradientKernel(
      reading: Set(reads), outputs: [0], scratchByteCount: scratch.byteCount
    ) { (memory) throws(QMError) in try gradient.run(memory) }
  }
}

/// The gradient of a recurrent layer, prepared for concrete shapes. Arrays are ordered by step, which
/// is time for a forward direction, and within a step by batch item.
struct RecurrentGradient {
  let operation: Recurrent
  let extents: Recurrent.Extents
  /// N of the truncation; 0 for the whole sequence.
  let throughTime: Int
  /// Steps × batch items.
  let rows: Int
  let functions: [[GateFunction]]
  let products: RecurrentProducts
  let blocks: [GateBlock]
  let inputRows: StepRows
  let stateRows: StepRows
  /// The states, reset, as the products read them; only for `gru`.
  let resetRows: StepRows?
  let peepholeSum: AddedSum

  // Places of arrays in scratch memory, [rows, hidden] unless stated otherwise.
  /// For each gate.
  let arguments: [Int]
  let values: [Int]
  /// The products b[2] of a `gruResetAfter`.
  let candidates: Int
  /// [steps + 1, batch, hidden]: c before the first step, and after each.
  let cells: Int
  let cellValues: Int
  let cellDerivatives: Int
  let ones: Int
  let extra: Int
  /// [batch, hidden].
  let (hiddenGradient, cellGradient, resetGradient): (Int, Int, Int)
  /// [rows, inputs].
  let inputGradient: Int
  /// For operations that run one at a time.
  let work: Int

  init(
    _ operation: Recurrent, _ node: GradientNode, _ scratch: inout ScratchParts
  ) throws(QMError) {
    self.operation = operation
    throughTime = node.throughTime
    let extents = operation.extents(
      input: try node.shape(RecurrentOperand.input),
      recurrence: try node.shape(RecurrentOperand.recurrence))
    self.extents = extents
    let (cell, hidden) = (operation.cell, extents.hidden)
    let rows = extents.steps * extents.batch
    self.rows = rows
    let (all, state) = (rows * hidden, extents.batch * hidden)
    var functions: [[GateFunction]] = []
    for direction in 0..<extents.directions {
      var own: [GateFunction] = []
      for function in operation.functions(of: direction) {
        // The arguments of an LSTM's gates depend on the step before.
        own.append(
          try GateFunction(
            function, count: cell.hasCellState ? state : all, total: all, node))
      }
      functions.append(own)
    }
    self.functions = functions
    products = try RecurrentProducts(extents, rows: rows, node)
    var blocks: [GateBlock] = []
    for gates in cell == .gru ? [0..<2, 2..<3] : [0..<extents.gates] {
      blocks.append(
        try GateBlock(
          gates, extents, rows: rows, hasOwnStates: cell == .gruResetAfter, node, &scratch))
    }
    self.blocks = blocks
    let isRounded = operation.inputs == .roundedPerRow
    inputRows = try StepRows(rows, extents.inputs, isRounded: isRounded, node, &scratch)
    stateRows = try StepRows(rows, hidden, isRounded: isRounded, node, &scratch)
    resetRows =
      cell == .gru ? try StepRows(rows, hidden, isRounded: isRounded, node, &scratch) : nil
    peepholeSum = try AddedSum([rows, hidden], to: [1, hidden], node, &scratch)
    arguments = (0..<extents.gates).map { _ in scratch.floats(all) }
    values = (0..<extents.gates).map { _ in scratch.floats(all) }
    candidates = scratch.floats(cell == .gruResetAfter ? all : 0)
    cells = scratch.floats(cell.hasCellState ? all + state : 0)
    cellValues = scratch.floats(cell.hasCellState ? all : 0)
    cellDerivatives = scratch.floats(cell.hasCellState ? all : 0)
    ones = scratch.floats(all)
    extra = scratch.floats(all)
    hiddenGradient = scratch.floats(state)
    cellGradient = scratch.floats(cell.hasCellState ? state : 0)
    resetGradient = scratch.floats(cell == .gru ? state : 0)
    inputGradient = scratch.floats(rows * extents.inputs)
    work = scratch.bytes(
      max(products.scratchByteCount, functions.joined().map(\.scratchByteCount).max() ?? 0))
  }

  func run(_ memory: GradientMemory) throws(QMError) {
    let lengths = try operation.lengths(
      extents,
      memory.inputs.count > RecurrentOperand.lengths
        ? memory.inputs[RecurrentOperand.lengths].map {
          UnsafePointer($0.assumingMemoryBound(to: Int32.self))
        } : nil)
    memory.scratch.floats(at: ones).update(repeating: 1, count: rows * extents.hidden)
    for direction in 0..<extents.directions {
      try RecurrentGradientPass(self, direction, lengths, memory).run()
    }
  }
}

/// A function of gates, and its derivative.
struct GateFunction {
  private let count: Int
  private let total: Int
  private let function: PreparedOperation
  private let derivative: GradientKernel
  let scratchByteCount: Int

  /// - Parameters:
  ///   - count: elements of one run of the function.
  ///   - total: elements of one run of the derivative.
  init(
    _ function: UnaryFunction, count: Int, total: Int, _ node: GradientNode
  ) throws(QMError) {
    (self.count, self.total) = (count, total)
    self.function = try node.prepared(.unary(Unary(function)), [[count]])
    let type = ValueType(.float32, Shape([total]))
    derivative = try Unary(function).gradient(
      of: GradientNode(
        operands: [Operand(type)], outputs: [type], wanted: [true], isUsed: [true],
        kernels: node.kernels, threadCount: node.threadCount))
    scratchByteCount = max(
      self.function.scratchByteCount(threads: node.threadCount), derivative.scratchByteCount)
  }

  func apply(
    _ arguments: Floats, _ values: Floats, work: UnsafeMutableRawPointer, _ threads: ThreadPool
  ) throws(QMError) {
    try function.run([arguments], [values], scratch: work, threads: threads)
  }

  /// Writes the derivatives.
  /// - Parameter ones: as many ones.
  func derive(
    _ arguments: Floats, _ values: Floats, ones: Floats, to target: Floats,
    work: UnsafeMutableRawPointer, _ threads: ThreadPool
  ) throws(QMError) {
    target.update(repeating: 0, count: total)
    try derivative.run(
      GradientMemory(
        inputs: [UnsafeMutableRawPointer(arguments)], outputs: [UnsafeMutableRawPointer(values)],
        outputGradients: [ones], inputGradients: [target], scratch: work, threads: threads))
  }
}

/// The rows that products read in each step: x, h before the step, or r · h.
struct StepRows {
  /// The rows as they are.
  let rows: Int
  /// What the products read of them.
  let factors: Int
  private let rounding: Rounding?

  private struct Rounding {
    let quantize: PreparedOperation
    let dequantize: PreparedOperation
    let codes: Int
    let parameters: Int
    let work: Int
  }

  init(
    _ count: Int, _ length: Int, isRounded: Bool, _ node: GradientNode,
    _ scratch: inout ScratchParts
  ) throws(QMError) {
    rows = scratch.floats(count * length)
    guard isRounded else {
      (factors, rounding) = (rows, nil)
      return
    }
    factors = scratch.floats(count * length)
    let quantize = try node.prepared(.dynamicQuantize(DynamicQuantize(axes: 1)), [[count, length]])
    let dequantize = try PreparedOperation(
      .dequantize(Dequantize()), quantize.outputTypes.map { Operand($0) }, kernels: node.kernels)
    rounding = Rounding(
      quantize: quantize, dequantize: dequantize, codes: scratch.bytes(count * length),
      parameters: scratch.floats(2 * count),
      work: scratch.bytes(
        max(
          quantize.scratchByteCount(threads: node.threadCount),
          dequantize.scratchByteCount(threads: node.threadCount))))
  }

  /// Makes the factors of the rows.
  func round(_ memory: GradientMemory) throws(QMError) {
    guard let rounding else { return }
    let codes = [memory.scratch + rounding.codes, memory.scratch + rounding.parameters]
    let work = memory.scratch + rounding.work
    try rounding.quantize.run(
      [memory.scratch + rows], codes, scratch: work, threads: memory.threads)
    try rounding.dequantize.run(
      codes, [memory.scratch + factors], scratch: work, threads: memory.threads)
  }
}

/// The products of one gate for all steps.
struct RecurrentProducts {
  /// x · Wᵀ + Wb.
  let input: PreparedOperation
  /// h · Rᵀ + Rb.
  let state: PreparedOperation
  /// The same plus what is stored already.
  let addedState: PreparedOperation
  let scratchByteCount: Int

  init(_ extents: Recurrent.Extents, rows: Int, _ node: GradientNode) throws(QMError) {
    let hidden = extents.hidden
    let hasBias =
      node.operands.count > RecurrentOperand.bias && node.operands[RecurrentOperand.bias] != nil
    func product(depth: Int, adds: Bool) throws(QMError) -> PreparedOperation {
      var shapes = [[Int]?](repeating: nil, count: ProductOperand.residual + 1)
      shapes[ProductOperand.input] = [rows, depth]
      shapes[ProductOperand.weights] = [hidden, depth]
      if hasBias { shapes[ProductOperand.bias] = [hidden] }
      if adds { shapes[ProductOperand.residual] = [rows, hidden] }
      return try node.prepared(.matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), shapes)
    }
    input = try product(depth: extents.inputs, adds: false)
    state = try product(depth: hidden, adds: false)
    addedState = try product(depth: hidden, adds: true)
    scratchByteCount =
      [input, state, addedState].map { $0.scratchByteCount(threads: node.threadCount) }.max() ?? 0
  }
}

/// Neighbouring gates whose recurrent products read the same rows: the gradients of their arguments,
/// and the products with these.
struct GateBlock {
  let gates: Range<Int>
  /// Gates × hidden.
  let columns: Int
  /// [rows, columns]: gradients of the arguments, as the products of the input see them.
  let inputs: Int
  /// The same for the recurrent products; differs for `gruResetAfter` only.
  let states: Int
  /// ∂h₋ += ∂ · R for one step.
  let stateStep: AddedProduct
  private let rows: Int
  private let inputProduct: AddedProduct
  private let transpose: PreparedOperation
  private let transposed: Int
  private let work: Int
  private let weights: AddedProduct
  private let recurrence: AddedProduct
  private let bias: AddedSum

  init(
    _ gates: Range<Int>, _ extents: Recurrent.Extents, rows: Int, hasOwnStates: Bool,
    _ node: GradientNode, _ scratch: inout ScratchParts
  ) throws(QMError) {
    self.gates = gates
    self.rows = rows
    let (inputCount, hidden) = (extents.inputs, extents.hidden)
    columns = gates.count * hidden
    inputs = scratch.floats(rows * columns)
    states = hasOwnStates ? scratch.floats(rows * columns) : inputs
    stateStep = try AddedProduct(
      [extents.batch, columns], [columns, hidden], .depthFirst, to: [extents.batch, hidden], node,
      &scratch)
    inputProduct = try AddedProduct(
      [rows, columns], [columns, inputCount], .depthFirst, to: [rows, inputCount], node, &scratch)
    transpose = try node.prepared(.transpose(Transpose(permutation: [1, 0])), [[rows, columns]])
    transposed = scratch.floats(rows * columns)
    work = scratch.bytes(transpose.scratchByteCount(threads: node.threadCount))
    weights = try AddedProduct(
      [columns, rows], [rows, inputCount], .depthFirst, to: [columns, inputCount], node, &scratch)
    recurrence = try AddedProduct(
      [columns, rows], [rows, hidden], .depthFirst, to: [columns, hidden], node, &scratch)
    bias = try AddedSum([rows, columns], to: [1, columns], node, &scratch)
  }

  /// Where the gradients of the operands are added, beginning with this block's rows.
  struct Targets {
    var weights: Floats?
    var recurrence: Floats?
    var inputBias: Floats?
    var stateBias: Floats?
    var input: Floats?
  }

  /// - Parameters:
  ///   - x: [rows, inputs].
  ///   - states: [rows, hidden]: what the recurrent products of these gates read.
  ///   - w: the rows of W.
  func addSums(
    _ x: Floats, _ states: Floats, w: Floats, to targets: Targets, _ memory: GradientMemory
  ) throws(QMError) {
    let gradients = memory.scratch.floats(at: inputs)
    let stateGradients = memory.scratch.floats(at: self.states)
    let transposed = memory.scratch.floats(at: transposed)
    func transposeGradients(_ source: Floats) throws(QMError) {
      try transpose.run(
        [source], [transposed], scratch: memory.scratch + work, threads: memory.threads)
    }
    if targets.weights != nil || (targets.recurrence != nil && self.states == inputs) {
      try transposeGradients(gradients)
    }
    if let target = targets.weights { try weights.run(transposed, x, to: target, memory) }
    if let target = targets.recurrence {
      if self.states != inputs { try transposeGradients(stateGradients) }
      try recurrence.run(transposed, states, to: target, memory)
    }
    if let target = targets.inputBias { try bias.run(gradients, to: target, memory) }
    if let target = targets.stateBias { try bias.run(stateGradients, to: target, memory) }
    if let target = targets.input { try inputProduct.run(gradients, w, to: target, memory) }
  }
}
