import QMTensor

// The facts that the rest of the package needs about an operation: how it treats elements, codes,
// axes and sums. No fact has a default for all operations. An operation states its kind by
// conforming to `DataMovement`, `ConditionalMovement`, `PositionOperation`, `FloatOperation`,
// `IntegerOperation`, `ProductOperation` or a refinement of these. The kind states the facts that
// all its operations share; the operation states the others.

/// Where the elements of an operation's outputs come from.
public enum ElementSource: Hashable, Sendable {
  /// Elements of the operands at these positions, chosen by their position only, and possibly zeros
  /// or a constant. Codes keep their scale and zero point.
  case moved(from: [Int])
  /// Elements of operand 0, chosen by comparing them. Codes compare like the numbers that they
  /// represent.
  case picked
  /// Shapes, positions and patterns: integers, Booleans or constants.
  case positions
  /// New numbers.
  case computed

  /// Positions of the operands whose elements the outputs hold; empty if the elements are new.
  public var operands: [Int] {
    switch self {
    case .moved(let positions): positions
    case .picked: [0]
    case .positions, .computed: []
    }
  }
}

/// How an operation computes on codes.
public struct IntegerForm: Sendable {
  /// What the output holds.
  public enum Result: Sendable {
    /// A number that is rounded once. The closure returns the operation that stores its result in
    /// the given encoding.
    case encoded(@Sendable (OutputEncoding) -> Operation)
    /// Codes of operand 0, with its scale and zero point.
    case codesOfInput
    /// Booleans or indices.
    case noNumbers
  }

  /// Positions of the operands that may be codes.
  public var operands: [Int]
  /// What the output holds.
  public var result: Result
  /// Whether it is worth quantizing a value only because this operation reads it.
  public var asksForCodes: Bool

  /// - Parameter operands: positions of the operands that may be codes.
  public init(operands: [Int], result: Result, asksForCodes: Bool = true) {
    self.operands = operands
    self.result = result
    self.asksForCodes = asksForCodes
  }
}

/// A product of codes and weights whose sums are held in 32-bit accumulators. Its integers are
/// positions of operands.
public struct IntegerSum: Hashable, Sendable {
  /// Order of the axes of the weights.
  public enum Layout: Hashable, Sendable {
    /// `[channels, …]`: a sum goes over all axes but the first.
    case channelThenWindow
    /// `[…, channels, depth]`: a sum goes over the last axis.
    case channelThenDepth
    /// `[…, depth, channels]`: a sum goes over the axis before the last.
    case depthThenChannel
  }

  /// The codes; nil if the operation itself quantizes its input to int8.
  public var input: Int?
  /// The weights that the codes are multiplied by.
  public var weights: Int
  /// The scales of the weights.
  public var scales: Int
  /// The bias; nil if no bias is added to the accumulator.
  public var bias: Int?
  /// Order of the axes of the weights.
  public var layout: Layout

  /// All integers are positions of operands.
  public init(input: Int?, weights: Int, scales: Int, bias: Int?, layout: Layout) {
    self.input = input
    self.weights = weights
    self.scales = scales
    self.bias = bias
    self.layout = layout
  }
}

/// How an operation on codes adds them up.
public enum Accumulators: Hashable, Sendable {
  /// No sums: the operation compares codes, or computes on dequantized elements.
  case none
  /// 64-bit integers, which no sum of codes exceeds.
  case wide
  /// 32-bit integers. ``AccumulatorBound`` proves for each of these products that no sum exceeds
  /// them.
  case products([IntegerSum])

  /// The products whose sums need a proof.
  public var products: [IntegerSum] {
    if case .products(let products) = self { products } else { [] }
  }
}

/// Weights among the operands of an operation.
public struct WeightOperand: Hashable, Sendable {
  /// What the operation does with the weights.
  public enum Use: Hashable, Sendable {
    /// It multiplies and sums them.
    case product
    /// It looks up rows.
    case table
  }

  /// Position of the operand.
  public var position: Int
  /// Axis along which each index may have its own scale: output channels of a product, rows of a
  /// table.
  public var channelAxis: Int
  /// What the operation does with the weights.
  public var use: Use

  /// Axis along which groups of weights may share scales; nil if the operation takes no scales per
  /// group.
  public var groupAxis: Int?

  /// - Parameter position: of the operand.
  public init(
    _ position: Int, channelAxis: Int = 0, groupAxis: Int? = nil, use: Use = .product
  ) {
    self.position = position
    self.channelAxis = channelAxis
    self.groupAxis = groupAxis
    self.use = use
  }
}

/// Another order of axes: axis `i` of the new order is axis `sources[i]` of the old one.
public struct AxisOrder: Hashable, Sendable {
  /// The old axis at each new position.
  public let sources: [Int]

  /// - Parameter sources: a permutation of the axes.
  public init(_ sources: [Int]) { self.sources = sources }

  /// From batch, channels, spatial axes to batch, spatial axes, channels. The rank is at least 2.
  public static func channelsLast(rank: Int) -> AxisOrder {
    AxisOrder([0] + Array(2..<max(rank, 2)) + [1])
  }

  /// Number of axes.
  public var rank: Int { sources.count }

  /// The new position of each old axis.
  public var places: [Int] {
    var places = sources
    for (new, old) in sources.enumerated() { places[old] = new }
    return places
  }

  /// The order that restores the old one.
  public var inverse: AxisOrder { AxisOrder(places) }

  /// Whether all axes except these keep their relative order.
  func keepsOrder(without axes: [Int]) -> Bool {
    let left = sources.filter { !axes.contains($0) }
    return left == left.sorted()
  }
}

/// An operation rewritten for operands with another order of axes; it gives the same bits.
public struct ReorderedForm: Hashable, Sendable {
  /// How an operand changes.
  public enum Change: Hashable, Sendable {
    /// Not at all.
    case unchanged
    /// Its axes are in the new order.
    case reordered
    /// A broadcast constant gets leading axes of extent 1 up to the full rank, then is reordered.
    case expandedAndReordered
    /// An int64 constant gets these elements.
    case replaced([Int])
  }

  /// The operation with attributes for the new order.
  public var operation: Operation
  /// The change of each operand.
  public var operands: [Change]
  /// Whether the axes of the output are in the new order too; if not, the output is unchanged.
  public var reordersOutput: Bool

  /// - Parameters:
  ///   - operation: with attributes for the new order.
  ///   - changes: of the leading operands; the others are unchanged.
  init(
    _ operation: Operation, _ changes: [Change], of operands: [Operand?],
    reordersOutput: Bool = true
  ) {
    self.operation = operation
    self.operands = operands.indices.map { $0 < changes.count ? changes[$0] : .unchanged }
    self.reordersOutput = reordersOutput
  }
}

/// The facts that every operation states; part of ``OperationProtocol``.
public protocol OperationFacts {
  /// Where the elements of the outputs come from.
  /// - Parameter operandCount: number of operands of the node.
  func elementSource(operandCount: Int) -> ElementSource

  /// How the operation would compute if its float32 operands were codes; nil if it needs float32.
  /// Data movement answers nil, because ``elementSource(operandCount:)`` describes it completely.
  /// - Parameter operands: operands of the float32 operation.
  func integerForm(of operands: [Operand?]) -> IntegerForm?

  /// How the operation sums codes.
  var accumulators: Accumulators { get }

  /// Weights among the operands.
  func weightOperands(of operands: [Operand?]) -> [WeightOperand]

  /// Number of multiply-adds for these shapes; nil for an operation that is no product.
  /// - Parameters:
  ///   - inputs: shape of each operand; nil for an absent one.
  ///   - output: shape of the first output.
  func multiplyAdds(inputs: [[Int]?], output: [Int]) -> Int?

  /// The operation for operands with another order of axes; nil if it needs the present order.
  func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm?

  /// Whether the operation is faster with channels last, so that a chain of operations in that
  /// order starts at it.
  var prefersChannelsLast: Bool { get }

  /// Whether the only output has the bytes of the first input under another shape, so that both can
  /// share memory and no kernel needs to run.
  var keepsBytes: Bool { get }

  /// Whether the result of folding a constant is the same constant in another form and keeps its
  /// name.
  var keepsName: Bool { get }

  /// A range that contains every element of the output, for any input; nil if none is known.
  var analyticRange: ClosedRange<Float>? { get }
}

// MARK: - Kinds of operations

/// Moves elements of any element type without reading their values.
public protocol DataMovement: OperationProtocol {
  /// Positions of the operands whose elements are moved.
  func movedOperands(of operandCount: Int) -> [Int]
}

extension DataMovement {
  public func elementSource(operandCount: Int) -> ElementSource {
    .moved(from: movedOperands(of: operandCount))
  }
  public func integerForm(of operands: [Operand?]) -> IntegerForm? { nil }
  public var accumulators: Accumulators { .none }
  public func weightOperands(of operands: [Operand?]) -> [WeightOperand] { [] }
  public func multiplyAdds(inputs: [[Int]?], output: [Int]) -> Int? { nil }
  public var prefersChannelsLast: Bool { false }
  public var analyticRange: ClosedRange<Float>? { nil }
}

/// Moves elements of its first operand to other places.
protocol FirstOperandMovement: DataMovement {}

extension FirstOperandMovement {
  public func movedOperands(of operandCount: Int) -> [Int] { [0] }
  public var keepsBytes: Bool { false }
}

/// Gives its first operand another shape.
protocol ShapeChange: DataMovement {}

extension ShapeChange {
  public func movedOperands(of operandCount: Int) -> [Int] { [0] }
  public var keepsBytes: Bool { true }
  public var keepsName: Bool { true }
}

/// Moves elements, or computes new ones in float32, depending on its attributes.
protocol ConditionalMovement: OperationProtocol {}

extension ConditionalMovement {
  public func integerForm(of operands: [Operand?]) -> IntegerForm? { nil }
  public var accumulators: Accumulators { .none }
  public func weightOperands(of operands: [Operand?]) -> [WeightOperand] { [] }
  public func multiplyAdds(inputs: [[Int]?], output: [Int]) -> Int? { nil }
  public var prefersChannelsLast: Bool { false }
  public var keepsBytes: Bool { false }
  public var keepsName: Bool { false }
  public var analyticRange: ClosedRange<Float>? { nil }
}

/// Computes shapes, positions and patterns.
public protocol PositionOperation: OperationProtocol {}

extension PositionOperation {
  public func elementSource(operandCount: Int) -> ElementSource { .positions }
  public func integerForm(of operands: [Operand?]) -> IntegerForm? { nil }
  public var accumulators: Accumulators { .none }
  public func weightOperands(of operands: [Operand?]) -> [WeightOperand] { [] }
  public func multiplyAdds(inputs: [[Int]?], output: [Int]) -> Int? { nil }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
  public var prefersChannelsLast: Bool { false }
  public var keepsBytes: Bool { false }
  public var keepsName: Bool { false }
  public var analyticRange: ClosedRange<Float>? { nil }
}

/// Computes on float32 numbers, never on codes.
public protocol FloatOperation: OperationProtocol {}

extension FloatOperation {
  public func elementSource(operandCount: Int) -> ElementSource { .computed }
  public func integerForm(of operands: [Operand?]) -> IntegerForm? { nil }
  public var accumulators: Accumulators { .none }
  public func weightOperands(of operands: [Operand?]) -> [WeightOperand] { [] }
  public func multiplyAdds(inputs: [[Int]?], output: [Int]) -> Int? { nil }
  public var prefersChannelsLast: Bool { false }
  public var keepsBytes: Bool { false }
  public var analyticRange: ClosedRange<Float>? { nil }
}

/// Computes on float32 numbers or on codes, without weights.
public protocol IntegerOperation: OperationProtocol {}

extension IntegerOperation {
  public func weightOperands(of operands: [Operand?]) -> [WeightOperand] { [] }
  public func multiplyAdds(inputs: [[Int]?], output: [Int]) -> Int? { nil }
  public var keepsBytes: Bool { false }
}

/// Computes on codes without summing them: it compares them, or computes on the numbers that they
/// represent.
protocol NonAccumulatingOperation: IntegerOperation {}

extension NonAccumulatingOperation {
  public func elementSource(operandCount: Int) -> ElementSource { .computed }
  public var accumulators: Accumulators { .none }
  public var prefersChannelsLast: Bool { false }
}

/// Rounds its result once, to the encoding in its attribute `output`.
protocol EncodedOutput: IntegerOperation {
  var output: OutputEncoding { get set }
}

extension EncodedOutput {
  /// The result of the integer form: this operation with another encoding.
  /// - Parameter operation: the case of ``Operation`` for this type.
  func encoded(
    as operation: @escaping @Sendable (Self) -> Operation
  ) -> IntegerForm.Result {
    .encoded { output in
      var result = self
      result.output = output
      return operation(result)
    }
  }
}

/// Sums products of activations and weights.
public protocol ProductOperation: OperationProtocol {}

extension ProductOperation {
  public func elementSource(operandCount: Int) -> ElementSource { .computed }
  public var keepsBytes: Bool { false }
  public var keepsName: Bool { false }
}

extension OperationProtocol {
  /// The elements of an operand; nil if it is absent or is no int64 constant.
  static func integers(_ operands: [Operand?], _ index: Int) -> [Int]? {
    guard index < operands.count, let constant = operands[index]?.constant,
      constant.elementType == .int64
    else { return nil }
    return constant.elements(as: Int64.self).map(Int.init)
  }
}
