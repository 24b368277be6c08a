import QMTensor

// What the rest of the package asks of an operation: how it treats elements, codes, axes and sums.
// A requirement has no answer for everybody. An operation states its kind by conforming to
// `DataMovement`, `ConditionalMovement`, `PositionOperation`, `FloatOperation`, `IntegerOperation`,
// `ProductOperation` or a kind of these: the kind answers what is the same for all of it, and asks
// for the rest.

/// Where the elements of an operation's outputs come from.
public enum ElementSource: Hashable, Sendable {
  /// Elements of the operands at these positions, chosen by their places alone, and perhaps the
  /// number 0 or a constant. Codes stay codes, on the quantization parameters that they have.
  case moved(from: [Int])
  /// Elements of operand 0, chosen by comparing them. Codes compare like the numbers they stand for.
  case picked
  /// Shapes, positions and patterns: integers, truth values or constants.
  case positions
  /// New numbers.
  case computed

  /// Positions of the operands whose elements the outputs hold; empty where they hold new ones.
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
  public enum Result: Sendable {
    /// Rounded once: the operation with its result stored in an encoding.
    case encoded(@Sendable (OutputEncoding) -> Operation)
    /// Codes of operand 0, on its quantization parameters.
    case codesOfInput
    /// Truth values or indices.
    case noNumbers
  }

  /// Positions of the operands that may be codes.
  public var operands: [Int]
  public var result: Result
  /// Whether a value is worth quantizing because this operation reads it.
  public var asksForCodes: Bool

  public init(operands: [Int], result: Result, asksForCodes: Bool = true) {
    self.operands = operands
    self.result = result
    self.asksForCodes = asksForCodes
  }
}

/// A product of codes and weights whose sums are held in 32-bit accumulators. Numbers are positions
/// of operands.
public struct IntegerSum: Hashable, Sendable {
  /// How the weights lie.
  public enum Layout: Hashable, Sendable {
    /// `[channels, …]`: a sum goes over all axes but the first.
    case channelThenWindow
    /// `[…, channels, depth]`: a sum goes over the last axis.
    case channelThenDepth
    /// `[…, depth, channels]`: a sum goes over the axis before the last.
    case depthThenChannel
  }

  /// nil where the operation itself makes int8 codes of its input.
  public var input: Int?
  public var weights: Int
  public var scales: Int
  /// nil where no bias enters the accumulator.
  public var bias: Int?
  public var layout: Layout

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
  /// It adds no codes: it compares them, or computes on dequantized elements.
  case none
  /// 64-bit integers, which no sum of codes leaves.
  case wide
  /// 32-bit integers. ``AccumulatorBound`` proves of each of these products that no sum leaves them.
  case products([IntegerSum])

  /// The products whose sums need a proof.
  public var products: [IntegerSum] {
    if case .products(let products) = self { products } else { [] }
  }
}

/// Weights among the operands of an operation.
public struct WeightOperand: Hashable, Sendable {
  public enum Use: Hashable, Sendable {
    /// Multiplied and summed up.
    case product
    /// Rows that are looked up.
    case table
  }

  /// Position of the operand.
  public var position: Int
  /// Axis whose every index has a scale of its own: the output channel of a product, the row of a
  /// table.
  public var channelAxis: Int
  public var use: Use

  /// Axis along which groups of weights may share scales; nil where they may not.
  public var groupAxis: Int?

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
  public let sources: [Int]

  public init(_ sources: [Int]) { self.sources = sources }

  /// Batch, spatial axes, channels, made of batch, channels, spatial axes. For a rank of 2 or more.
  public static func channelsLast(rank: Int) -> AxisOrder {
    AxisOrder([0] + Array(2..<max(rank, 2)) + [1])
  }

  public var rank: Int { sources.count }

  /// The new place of each old axis.
  public var places: [Int] {
    var places = sources
    for (new, old) in sources.enumerated() { places[old] = new }
    return places
  }

  /// Back to the old order.
  public var inverse: AxisOrder { AxisOrder(places) }

  /// Whether the old axes but these stand in the new order as they did.
  func keepsOrder(without axes: [Int]) -> Bool {
    let left = sources.filter { !axes.contains($0) }
    return left == left.sorted()
  }
}

/// An operation rewritten for operands whose axes stand in another order: the same bits.
public struct ReorderedForm: Hashable, Sendable {
  public enum Change: Hashable, Sendable {
    case unchanged
    /// Its axes in the new order.
    case reordered
    /// A constant that is broadcast: with leading axes of extent 1 up to the rank, then reordered.
    case expandedAndReordered
    /// Its elements replaced by these, int64.
    case replaced([Int])
  }

  public var operation: Operation
  /// Of each operand.
  public var operands: [Change]
  /// Whether the axes of the output stand in the new order too; if not, the output is as before.
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

/// What is asked of every operation; part of ``OperationProtocol``.
public protocol OperationFacts {
  /// - Parameter operandCount: how many operands the node has.
  func elementSource(operandCount: Int) -> ElementSource

  /// How the operation computes on codes, were its real operands codes; nil where it needs float32.
  /// What only moves elements answers nil: ``elementSource(operandCount:)`` says all.
  /// - Parameter operands: of the float operation.
  func integerForm(of operands: [Operand?]) -> IntegerForm?

  /// How the operation adds up codes.
  var accumulators: Accumulators { get }

  /// Weights among the operands.
  func weightOperands(of operands: [Operand?]) -> [WeightOperand]

  /// Multiply-adds for these shapes; nil for an operation that is no product.
  /// - Parameters:
  ///   - inputs: shape of each operand; nil for an absent one.
  ///   - output: shape of the first output.
  func multiplyAdds(inputs: [[Int]?], output: [Int]) -> Int?

  /// The operation for operands whose axes stand in another order; nil where it needs them as they
  /// are.
  func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm?

  /// Whether the operation is faster with its channels last, so that a chain of such operations
  /// begins at it.
  var prefersChannelsLast: Bool { get }

  /// Whether the only output has the bytes of the first input under another shape, so that both
  /// may be the same memory and the kernel need not run.
  var keepsBytes: Bool { get }

  /// Whether the result on a constant is that constant in another form, called as before.
  var keepsName: Bool { get }

  /// A range that no element of the output can leave; nil where there is none to tell.
  var analyticRange: ClosedRange<Float>? { get }
}

// MARK: - Kinds of operations

/// Moves elements without looking at them, of any element type.
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

/// Moves elements or computes new ones on float32, as its attributes say.
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

/// Gives shapes, positions and patterns.
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

/// Computes on numbers, never on codes.
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

/// Computes on codes too, without weights.
public protocol IntegerOperation: OperationProtocol {}

extension IntegerOperation {
  public func weightOperands(of operands: [Operand?]) -> [WeightOperand] { [] }
  public func multiplyAdds(inputs: [[Int]?], output: [Int]) -> Int? { nil }
  public var keepsBytes: Bool { false }
}

/// Computes on codes without adding them up: it compares them, or computes on the numbers that they
/// stand for.
protocol NonAccumulatingOperation: IntegerOperation {}

extension NonAccumulatingOperation {
  public func elementSource(operandCount: Int) -> ElementSource { .computed }
  public var accumulators: Accumulators { .none }
  public var prefersChannelsLast: Bool { false }
}

/// Rounds its result once, into the encoding that is one of its attributes.
protocol EncodedOutput: IntegerOperation {
  var output: OutputEncoding { get set }
}

extension EncodedOutput {
  /// - Parameter operation: the case of ``Operation`` that holds such an operation.
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
  /// The elements of an int64 constant operand; nil where it is none.
  static func integers(_ operands: [Operand?], _ index: Int) -> [Int]? {
    guard index < operands.count, let constant = operands[index]?.constant,
      constant.elementType == .int64
    else { return nil }
    return constant.elements(as: Int64.self).map(Int.init)
  }
}
