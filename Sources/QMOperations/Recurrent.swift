import QMTensor

/// A recurrent layer: RNN, GRU or LSTM. Each direction and batch item has its own states, which are
/// carried from step to step of the sequence. Input positions: ``RecurrentOperand``.
///
/// Outputs, float32: `[T, D, B, H]`, h after every step, +0 after the end of a shorter sequence;
/// `[D, B, H]`, h after the last step; `[D, B, H]`, c after the last step (`lstm` and `lstmCoupled`
/// only).
///
/// A gate is H rows of the weights. With the functions f, g, k of a direction, in their order, and
/// with each sum and product one float32 operation:
///
///     a = x[t] · Wᵀ + Wb                     b = h · Rᵀ + Rb
///
///     simple            h = f(b + a)
///
///     gru               z = f(b[0] + a[0])   r = f(b[1] + a[1])
///                       n = g(((r · h) · R[2]ᵀ + Rb[2]) + a[2])
///     gruResetAfter     n = g(r · b[2] + a[2])
///                       h = (1 − z) · n + z · h
///
///     lstm              i = f((b[0] + a[0]) + P[0] · c)
///                       j = f((b[2] + a[2]) + P[2] · c)
///     lstmCoupled       j = 1 − i
///                       c = j · c + i · g(b[3] + a[3])
///                       o = f((b[1] + a[1]) + P[1] · c)
///                       h = o · k(c)
///
/// The step of an absent bias or peephole is left out. With `clip`, the arguments of f and g are
/// clamped to −clip…clip. NaN is stored in h and c as the bits 0x7FC00000.
///
/// The products are summed as in ``MatrixMultiply``: K ascending, one fused multiply-add per step,
/// starting with +0. With ``Inputs/roundedPerRow``, x[t], h and r · h are first quantized, each
/// with its own scale and zero point, as by ``DynamicQuantize``. With weights that are codes, the
/// sum is then an exact integer, and
///
///     x · Wᵀ = Float(Σ (code − zeroPoint) · w) · (scale · weightScale)
public struct Recurrent: ProductOperation {
  public static let name = "Recurrent"

  /// The equations of one step. Raw values are written in files.
  public enum Cell: UInt8, Hashable, Sendable, CaseIterable {
    /// ONNX's RNN.
    case simple = 0
    /// ONNX's GRU: the reset gate acts on h before its product.
    case gru = 1
    /// GRU with `linear_before_reset`: the reset gate acts on the product.
    case gruResetAfter = 2
    /// ONNX's LSTM.
    case lstm = 3
    /// LSTM with `input_forget`.
    case lstmCoupled = 4
  }

  /// The order in which steps are taken. Raw values are written in files.
  public enum Direction: UInt8, Hashable, Sendable, CaseIterable {
    /// From the beginning of each sequence to its end.
    case forward = 0
    /// From the end of each sequence to its beginning.
    case reverse = 1
    /// Two directions: direction 0 is forward, direction 1 is reverse.
    case bidirectional = 2
  }

  /// What the products read of x and h. Raw values are written in files.
  public enum Inputs: UInt8, Hashable, Sendable, CaseIterable {
    /// float32, unchanged.
    case real = 0
    /// int8 codes, or the numbers that they represent, with a scale and zero point for each row.
    case roundedPerRow = 1
  }

  /// The equations of one step.
  public var cell: Cell
  /// The order in which steps are taken.
  public var direction: Direction
  /// `cell.functionCount` functions for each direction, those of direction 0 first.
  public var functions: [UnaryFunction]
  /// Bound on the magnitude of the arguments of f and g, above 0; nil for none.
  public var clip: Float?
  /// What the products read of x and h.
  public var inputs: Inputs

  /// - Parameter functions: `cell.functionCount` for each direction.
  public init(
    _ cell: Cell, direction: Direction, functions: [UnaryFunction], clip: Float? = nil,
    inputs: Inputs = .real
  ) {
    self.cell = cell
    self.direction = direction
    self.functions = functions
    self.clip = clip
    self.inputs = inputs
  }

  public static let placeholder = Recurrent(.simple, direction: .forward, functions: [])

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("cell", &cell)
    try visitor.visit("direction", &direction)
    try visitor.visit("functions", &functions)
    try visitor.visit("clip", &clip)
    try visitor.visit("inputs", &inputs)
  }
}

extension Recurrent {
  /// Always nil: the layer quantizes its input and states itself, and reads no codes.
  public func integerForm(of operands: [Operand?]) -> IntegerForm? { nil }
  public var accumulators: Accumulators {
    .products([
      IntegerSum(
        input: nil, weights: RecurrentOperand.weights, scales: RecurrentOperand.weightScales,
        bias: nil, layout: .channelThenDepth),
      IntegerSum(
        input: nil, weights: RecurrentOperand.recurrence,
        scales: RecurrentOperand.recurrenceScales, bias: nil, layout: .channelThenDepth),
    ])
  }
  public func weightOperands(of operands: [Operand?]) -> [WeightOperand] {
    [WeightOperand(RecurrentOperand.weights), WeightOperand(RecurrentOperand.recurrence)]
  }
  /// The products of every gate, for each element of the states in each step.
  public func multiplyAdds(inputs: [[Int]?], output: [Int]) -> Int? {
    guard inputs.count > RecurrentOperand.recurrence,
      let depth = inputs[RecurrentOperand.weights]?.last,
      let hidden = inputs[RecurrentOperand.recurrence]?.last
    else { return nil }
    return Shape.elementCount(of: output + [cell.gateCount * (depth + hidden)])
  }
  public var prefersChannelsLast: Bool { false }
  public var analyticRange: ClosedRange<Float>? { nil }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
}

/// Positions of the inputs of ``Recurrent``; T steps, B batch items, D directions, G gates.
public enum RecurrentOperand {
  /// float32 `[T, B, I]`.
  public static let input = 0
  /// `[D·G·H, I]`: float32, or int8 codes with weights quantization.
  public static let weights = 1
  /// `[D·G·H, H]`: as the weights.
  public static let recurrence = 2
  /// Optional, float32 `[D, 2·G·H]`: Wb, then Rb.
  public static let bias = 3
  /// Optional, int32 `[B]`: the number of steps of each sequence, within 0…T; T if absent.
  public static let lengths = 4
  /// Optional, float32 `[D, B, H]`: h before the first step; +0 if absent.
  public static let hidden = 5
  /// Optional, float32 `[D, B, H]`: c before the first step; +0 if absent.
  public static let cell = 6
  /// Optional, float32 `[D, 3·H]`: the weights P.
  public static let peepholes = 7
  /// float32, present exactly if the weights are codes: one scale per row, or a single one.
  public static let weightScales = 8
  /// The same for the recurrence.
  public static let recurrenceScales = 9

  static let count = 10
}

extension Recurrent.Cell {
  /// Number of gates: blocks of H rows in the weights of a direction.
  public var gateCount: Int {
    switch self {
    case .simple: 1
    case .gru, .gruResetAfter: 3
    case .lstm, .lstmCoupled: 4
    }
  }

  /// Number of functions of a direction.
  public var functionCount: Int {
    switch self {
    case .simple: 1
    case .gru, .gruResetAfter: 2
    case .lstm, .lstmCoupled: 3
    }
  }

  /// Whether there is a state c.
  public var hasCellState: Bool { self == .lstm || self == .lstmCoupled }
}

extension Recurrent.Direction {
  /// Number of directions.
  public var count: Int { self == .bidirectional ? 2 : 1 }
}

extension Recurrent {
  /// Whether direction `index` runs from the end to the beginning.
  package func isReverse(_ index: Int) -> Bool { direction == .reverse || index == 1 }

  /// The functions of direction `index`.
  package func functions(of index: Int) -> ArraySlice<UnaryFunction> {
    functions[index * cell.functionCount..<(index + 1) * cell.functionCount]
  }

  /// The extents of concrete operands, by name.
  package struct Extents {
    package let steps: Int
    package let batch: Int
    package let inputs: Int
    package let hidden: Int
    package let gates: Int
    package let directions: Int
    /// Rows of the weights of one direction.
    package var rows: Int { gates * hidden }
  }

  /// The extents of operands that ``outputTypes(for:)`` accepts.
  package func extents(input: [Int], recurrence: [Int]) -> Extents {
    Extents(
      steps: input[0], batch: input[1], inputs: input[2], hidden: recurrence[1],
      gates: cell.gateCount, directions: direction.count)
  }

  // MARK: Types

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(3...RecurrentOperand.count, operands)
    let input = try required(RecurrentOperand.input, of: operands).type
    let weights = try required(RecurrentOperand.weights, of: operands).type
    let recurrence = try required(RecurrentOperand.recurrence, of: operands).type
    guard input.elementType == .float32, input.quantization == .none, input.shape.rank == 3 else {
      throw .malformed("\(Self.name) takes float32[steps, batch, inputs], found \(input)")
    }
    guard let weightShape = weights.shape.extents, let shape = recurrence.shape.extents,
      weightShape.count == 2, shape.count == 2,
      (weightShape + shape).allSatisfy({ (1...Window.largest).contains($0) })
    else {
      throw .malformed(
        "\(Self.name) takes weights and recurrence with two fixed axes, found \(weights) and "
          + "\(recurrence)"
      )
    }
    let hidden = shape[1]
    let rows = direction.count * cell.gateCount * hidden
    guard weightShape[0] == rows, shape[0] == rows else {
      throw .malformed(
        "\(Self.name) with \(hidden) hidden units has \(rows) rows of weights, found \(weights) "
          + "and \(recurrence)"
      )
    }
    _ = try unified(input.shape[2], weights.shape[1], "the inputs of \(input) and \(weights)")
    try checkFunctions()
    try checkQuantization(operands, rows: rows)

    var batch = input.shape[1]
    func check(_ index: Int, _ meaning: String, _ type: ElementType, _ axes: [Shape.Axis?])
      throws(QMError)
    {
      guard let found = optional(index, of: operands)?.type else { return }
      guard found.elementType == type, found.quantization == .none,
        found.shape.rank == axes.count
      else {
        throw .malformed(
          "\(meaning) of \(Self.name) must be \(type) with \(axes.count) axes, found \(found)")
      }
      for (axis, expected) in zip(found.shape.axes, axes) {
        let place = "\(meaning) \(found) of \(Self.name)"
        if let expected {
          _ = try unified(axis, expected, place)
        } else {
          batch = try unified(batch, axis, place)
        }
      }
    }
    let directions = Shape.Axis.fixed(direction.count)
    try check(
      RecurrentOperand.bias, "biases", .float32,
      [directions, .fixed(2 * cell.gateCount * hidden)])
    try check(RecurrentOperand.lengths, "lengths", .int32, [nil])
    try check(
      RecurrentOperand.hidden, "initial states", .float32, [directions, nil, .fixed(hidden)])
    for index in [RecurrentOperand.cell, RecurrentOperand.peepholes]
    where optional(index, of: operands) != nil && !cell.hasCellState {
      throw .malformed("\(Self.name) \(cell) has no cell state, found input \(index)")
    }
    try check(
      RecurrentOperand.cell, "initial cell states", .float32, [directions, nil, .fixed(hidden)])
    try check(
      RecurrentOperand.peepholes, "peepholes", .float32, [directions, .fixed(3 * hidden)])

    let state = try ValueType(.float32, Shape([directions, batch, .fixed(hidden)])).checked()
    let sequence = try ValueType(
      .float32, Shape([input.shape[0], directions, batch, .fixed(hidden)])
    ).checked()
    return [sequence, state] + (cell.hasCellState ? [state] : [])
  }

  private func checkFunctions() throws(QMError) {
    let count = direction.count * cell.functionCount
    guard functions.count == count else {
      throw .malformed(
        "\(Self.name) \(cell), \(direction), needs \(count) functions, found \(functions.count)")
    }
    if let clip {
      guard clip > 0 else {
        throw .malformed("\(Self.name) needs a positive clip, found \(clip)")
      }
    }
  }

  private func checkQuantization(_ operands: [Operand?], rows: Int) throws(QMError) {
    var isInteger: [Bool] = []
    for (index, scalesIndex) in [
      (RecurrentOperand.weights, RecurrentOperand.weightScales),
      (RecurrentOperand.recurrence, RecurrentOperand.recurrenceScales),
    ] {
      let weights = try required(index, of: operands).type
      let scales = optional(scalesIndex, of: operands)?.type
      let count: Int
      switch (weights.elementType, weights.quantization) {
      case (.float32, .none):
        guard scales == nil else {
          throw .malformed(
            "\(Self.name) has scales (input \(scalesIndex)), but its weights are float32")
        }
        isInteger.append(false)
        continue
      case (.int8, .weights(_, .perTensor)): count = 1
      case (.int8, .weights(_, .perChannel(axis: 0))): count = rows
      case (.int8, .weights):
        throw .unsupported(
          "\(Self.name) takes one weight scale, or one per row, found \(weights)")
      default:
        throw .malformed(
          "\(Self.name) takes float32 weights, or int8 codes with weights quantization, "
            + "found \(weights)"
        )
      }
      guard let scales, scales.elementType == .float32, scales.quantization == .none,
        ProductRule.agree(scales.shape, [.fixed(count)])
      else {
        throw .malformed(
          "\(Self.name) needs scales float32[\(count)] (input \(scalesIndex)), found "
            + (scales?.description ?? "none")
        )
      }
      isInteger.append(true)
    }
    guard isInteger[0] == isInteger[1], !isInteger[0] || inputs == .roundedPerRow else {
      throw .malformed(
        "\(Self.name) of codes needs codes in both weights and recurrence, and inputs rounded per "
          + "row"
      )
    }
  }

  /// The number of steps of each batch item.
  /// - Throws: `invalidInput` if one is negative or beyond the steps of the input.
  package func lengths(_ extents: Extents, _ lengths: UnsafePointer<Int32>?) throws(QMError)
    -> [Int]
  {
    guard let lengths else { return [Int](repeating: extents.steps, count: extents.batch) }
    var result: [Int] = []
    for item in 0..<extents.batch {
      let length = Int(lengths[item])
      guard (0...extents.steps).contains(length) else {
        throw .invalidInput(
          "sequence \(item) has length \(length), expected 0 to \(extents.steps) steps")
      }
      result.append(length)
    }
    return result
  }
}
