import CQMKernels
import QMTensor

/// A function of two numbers. Raw values are written in files and never change.
public enum BinaryFunction: UInt8, Hashable, Sendable, CaseIterable {
  case add = 0
  case subtract = 1
  case multiply = 2
  case divide = 3
  /// NaN if either number is; the left of equal numbers.
  case minimum = 4
  /// NaN if either number is; the left of equal numbers.
  case maximum = 5
  /// `left` raised to `right`, with the special cases of IEEE 754's pow.
  case power = 6
  /// On float32, with the sign of the dividend (C's `fmod`); on integers, with that of the divisor.
  case remainder = 7
  /// `left < 0 ? left · right : left`: the right operand is the slope.
  case parametricRelu = 8
}

/// `output[i] = store(secondFunction(function(number(left[i]), number(right[i]))))` with NumPy
/// broadcasting. Each operand is float32, or int8, uint8 or int16 codes with fixed quantization,
/// which represent `scale · Float(code − zeroPoint)`. Each step is rounded once, in float32.
///
/// Two int32 or two int64 operands are computed with two's complement wrapping; `secondFunction`
/// and `output` are then ignored. Division truncates toward zero. Division by 0, and 0 raised to a
/// negative power, are errors of the run.
public struct Binary: NonAccumulatingOperation, EncodedOutput {
  public static let name = "Binary"
  /// Applied to each pair of elements.
  public var function: BinaryFunction
  /// Applied to the result before it is stored; nil leaves it unchanged.
  public var secondFunction: UnaryFunction?
  /// How results are stored.
  public var output: OutputEncoding

  /// Without a second function, and with float32 output, unless stated otherwise.
  public init(
    _ function: BinaryFunction, secondFunction: UnaryFunction? = nil,
    output: OutputEncoding = .float32
  ) {
    self.function = function
    self.secondFunction = secondFunction
    self.output = output
  }

  public static let placeholder = Binary(.add)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("function", &function)
    try visitor.visit("second function", &secondFunction)
    try visitor.visit("output", &output)
  }
}

extension Binary {
  public func integerForm(of operands: [Operand?]) -> IntegerForm? {
    switch function {
    case .add, .subtract, .multiply, .minimum, .maximum:
      IntegerForm(operands: [0, 1], result: encoded(as: Operation.binary))
    case .parametricRelu: IntegerForm(operands: [0], result: encoded(as: Operation.binary))
    case .divide, .power, .remainder:
      // Operands that are codes anyway are read as codes, but no value is quantized for these.
      IntegerForm(operands: [0, 1], result: encoded(as: Operation.binary), asksForCodes: false)
    }
  }
  public var keepsName: Bool { false }
  public var analyticRange: ClosedRange<Float>? { secondFunction?.analyticRange }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    // A constant of lower rank gets leading axes, and its axes are reordered like the others.
    let changes = operands.map { operand -> ReorderedForm.Change? in
      guard let operand else { return nil }
      if operand.type.shape.rank == order.rank { return .reordered }
      guard let constant = operand.constant, constant.shape.count < order.rank else { return nil }
      return constant.elementCount > 1 ? .expandedAndReordered : .unchanged
    }
    guard changes.count == 2, let left = changes[0], let right = changes[1] else { return nil }
    return ReorderedForm(.binary(self), [left, right], of: operands)
  }
}

extension BinaryFunction {
  /// The function's value. This code *defines* the function, bit by bit.
  public func callAsFunction(_ left: Float, _ right: Float) -> Float {
    switch self {
    case .add: canonical(left + right)
    case .subtract: canonical(left - right)
    case .multiply: canonical(left * right)
    case .divide: canonical(left / right)
    case .minimum: canonical(right.isNaN ? right : right < left ? right : left)
    case .maximum: canonical(right.isNaN ? right : right > left ? right : left)
    case .power: QMOperations.power(left, right)
    case .remainder: canonical(left.truncatingRemainder(dividingBy: right))
    case .parametricRelu: canonical(left < 0 ? left * right : left)
    }
  }

  /// - Throws: `invalidInput` for a division by 0, or 0 raised to a negative power.
  fileprivate func callAsFunction<Integer: FixedWidthInteger & SignedInteger>(
    _ left: Integer, _ right: Integer
  ) throws(QMError) -> Integer {
    switch self {
    case .add: return left &+ right
    case .subtract: return left &- right
    case .multiply: return left &* right
    case .minimum: return min(left, right)
    case .maximum: return max(left, right)
    case .power: return try integerPower(left, right)
    case .parametricRelu: return left < 0 ? left &* right : left
    case .divide:
      guard right != 0 else { throw .invalidInput("the integer \(left) is divided by 0") }
      // A case of its own: the negation of the most negative number overflows, and `/` would trap.
      return right == -1 ? 0 &- left : left / right
    case .remainder:
      guard right != 0 else { throw .invalidInput("the integer \(left) is divided by 0") }
      if right == -1 { return 0 }
      let rest = left % right
      return rest != 0 && (rest < 0) != (right < 0) ? rest + right : rest
    }
  }
}

/// `left` raised to `right`, modulo 2^bits. For a negative exponent, 1 / left^−right truncated
/// toward zero.
private func integerPower<Integer: FixedWidthInteger & SignedInteger>(
  _ left: Integer, _ right: Integer
) throws(QMError) -> Integer {
  if right < 0 {
    switch left {
    case 0: throw .invalidInput("the integer 0 is raised to the negative power \(right)")
    case 1: return 1
    case -1: return right & 1 == 0 ? 1 : -1
    default: return 0
    }
  }
  var result: Integer = 1
  var base = left
  var exponent = right
  while exponent > 0 {
    if exponent & 1 == 1 { result = result &* base }
    base = base &* base
    exponent >>= 1
  }
  return result
}

extension Binary {
  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    let left = try required(0, of: operands).type
    let right = try required(1, of: operands).type
    let shape = try Shape.broadcast(left.shape, right.shape)
    if left.isInteger && left.elementType == right.elementType && right.isInteger {
      return [ValueType(left.elementType, shape)]
    }
    guard left.isFloatOrCodes && right.isFloatOrCodes else {
      throw .malformed(
        "\(function) takes float32 or codes with fixed quantization on both sides, two int32, or "
          + "two int64, found \(left) and \(right); cast them")
    }
    try left.checkParametersIfFixed()
    try right.checkParametersIfFixed()
    try output.check()
    return [ValueType(output.elementType, shape, output.quantization)]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let left = inputs[0]!
    let right = inputs[1]!
    let output = outputs[0]
    let broadcasting = Broadcasting(left: left.shape, right: right.shape, output: output.shape)
    switch left.elementType {
    case .int32: try apply(Int32.self, left, right, output, broadcasting)
    case .int64: try apply(Int64.self, left, right, output, broadcasting)
    default:
      broadcasting.forEach { index, leftIndex, rightIndex in
        var number = function(left.number(at: leftIndex), right.number(at: rightIndex))
        if let secondFunction { number = secondFunction(number) }
        output.store(number, at: index)
      }
    }
  }

  private func apply<Integer: FixedWidthInteger & SignedInteger & TensorElement>(
    _: Integer.Type, _ left: TensorView, _ right: TensorView, _ output: TensorView,
    _ broadcasting: Broadcasting
  ) throws(QMError) {
    let left = left.elements(as: Integer.self)
    let right = right.elements(as: Integer.self)
    let output = output.elements(as: Integer.self)
    try broadcasting.forEach { (index, leftIndex, rightIndex) throws(QMError) in
      output[index] = try function(left[leftIndex], right[rightIndex])
    }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let left = try required(0, of: operands).type
    let right = try required(1, of: operands).type
    guard let set = kernels.number else { return nil }
    guard left.isFloatOrCodes, right.isFloatOrCodes else {
      let pairs = try BroadcastPairs(left, right, outputs[0])
      return left.elementType == .int32
        ? kernel(pairs, of: Int32.self) : kernel(pairs, of: Int64.self)
    }
    let broadcasting = try Broadcasting(
      left: left.concreteShape(), right: right.concreteShape(),
      output: outputs[0].concreteShape())
    let runs = BroadcastRuns(broadcasting, chunkLength: elementwiseChunkLength)
    let binary = qm_binary(
      function: Int32(function.rawValue), left_pattern: runs.leftPattern.rawValue,
      right_pattern: runs.rightPattern.rawValue, left: left.codes, right: right.codes,
      output: outputs[0].codes, inverse_scale: outputs[0].inverseScale,
      has_second_function: secondFunction != nil,
      second_function: (secondFunction ?? .relu).unary, row: Int64(runs.row))
    let kernel = qm_elementwise_for(set).binary!
    let leftSize = left.elementType.byteCount
    let rightSize = right.elementType.byteCount
    let outputSize = output.elementType.byteCount
    return Kernel(name: "binary \(kernels)") { memory in
      let left = memory.inputs[0]!
      let right = memory.inputs[1]!
      let output = memory.outputs[0]!
      memory.threads.run(chunks: runs.chunkCount) { chunk, _ in
        var binary = binary
        runs.forEachPiece(ofChunk: chunk) { leftStart, rightStart, outputStart, count in
          kernel(
            &binary, left + leftStart * leftSize, right + rightStart * rightSize,
            output + outputStart * outputSize, Int64(count))
        }
      }
    }
  }
}

extension Binary {
  /// The kernel for integers; nil for functions that may refuse an operand.
  private func kernel<Integer: FixedWidthInteger & SignedInteger & BitwiseCopyable & Sendable>(
    _ pairs: BroadcastPairs, of: Integer.Type
  ) -> Kernel? {
    let function = function
    switch function {
    case .divide, .remainder, .power: return nil
    case .add, .subtract, .multiply, .minimum, .maximum, .parametricRelu: break
    }
    return Kernel(name: Self.name) { (memory) throws(QMError) in
      switch function {
      case .add: pairs.run(memory) { (a: Integer, b: Integer) in a &+ b }
      case .subtract: pairs.run(memory) { (a: Integer, b: Integer) in a &- b }
      case .multiply: pairs.run(memory) { (a: Integer, b: Integer) in a &* b }
      case .minimum: pairs.run(memory) { (a: Integer, b: Integer) in min(a, b) }
      case .maximum: pairs.run(memory) { (a: Integer, b: Integer) in max(a, b) }
      default: pairs.run(memory) { (a: Integer, b: Integer) in a < 0 ? a &* b : a }
      }
    }
  }
}
