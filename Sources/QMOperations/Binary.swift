import CQMKernels
import QMTensor

/// A function of two numbers. Raw values are written in files and never change.
public enum BinaryFunction: UInt8, Hashable, Sendable, CaseIterable {
  case add = 0
  case subtract = 1
  case multiply = 2
  case divide = 3
  /// NaN if either number is; of equal numbers the left.
  case minimum = 4
  /// NaN if either number is; of equal numbers the left.
  case maximum = 5
  case power = 6
  /// On float32 with the sign of the dividend (C's `fmod`); on integers with that of the divisor.
  case remainder = 7
  /// `left < 0 ? left · right : left`: the right operand is a slope.
  case parametricRelu = 8
}

/// `output[i] = encode(secondFunction(function(real(left[i]), real(right[i]))))` with NumPy
/// broadcasting: float32, or int8/uint8/int16 codes with fixed quantization, on either side in any
/// mix, which stand for `real = scale · Float(code − zeroPoint)`. Each step is one rounding in
/// float32.
///
/// Also two int32 or two int64 operands, in two's complement with wrapping; `secondFunction` and
/// `output` are ignored there. Division truncates toward zero; dividing by 0, and 0 to a negative
/// power, are errors of the run.
public struct Binary: NonAccumulatingOperation, EncodedOutput {
  public static let name = "Binary"
  public var function: BinaryFunction
  /// A function of the result, before the one rounding.
  public var secondFunction: UnaryFunction?
  public var output: OutputEncoding

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
      // Read as codes where they are some: a division or a power is no reason to round its operands.
      IntegerForm(operands: [0, 1], result: encoded(as: Operation.binary), asksForCodes: false)
    }
  }
  public var keepsName: Bool { false }
  public var analyticRange: ClosedRange<Float>? { secondFunction?.analyticRange }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    // A constant of lower rank is broadcast from the front, and its axes are reordered with the others.
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
  /// The function's value: it *defines* the function, bit by bit.
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

  /// - Throws: `invalidInput` for a division by 0.
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
      guard right != 0 else { throw .invalidInput("an integer \(left) is divided by 0") }
      // Apart, because the most negative number has no opposite and the processor traps.
      return right == -1 ? 0 &- left : left / right
    case .remainder:
      guard right != 0 else { throw .invalidInput("an integer \(left) is divided by 0") }
      if right == -1 { return 0 }
      let rest = left % right
      return rest != 0 && (rest < 0) != (right < 0) ? rest + right : rest
    }
  }
}

/// Modulo 2^bits; with a negative exponent the quotient 1 / left^−right truncated toward zero.
private func integerPower<Integer: FixedWidthInteger & SignedInteger>(
  _ left: Integer, _ right: Integer
) throws(QMError) -> Integer {
  if right < 0 {
    switch left {
    case 0: throw .invalidInput("an integer 0 is raised to the negative power \(right)")
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
    guard left.isReal && right.isReal else {
      throw .malformed(
        "\(function) takes float32 or codes with fixed quantization on both sides, or two int32 or "
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
        var real = function(left.real(at: leftIndex), right.real(at: rightIndex))
        if let secondFunction { real = secondFunction(real) }
        output.store(real, at: index)
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
    guard left.isReal, right.isReal else {
      let pairs = try BroadcastPairs(left, right, outputs[0])
      return left.elementType == .int32
        ? kernel(pairs, of: Int32.self) : kernel(pairs, of: Int64.self)
    }
    let broadcasting = try Broadcasting(
      left: left.concreteExtents(), right: right.concreteExtents(),
      output: outputs[0].concreteExtents())
    let runs = BroadcastRuns(broadcasting, chunkLength: elementwiseChunkLength)
    let binary = qm_binary(
      function: Int32(function.rawValue), left_pattern: runs.leftPattern.rawValue,
      right_pattern: runs.rightPattern.rawValue, left: left.codes, right: right.codes,
      output: outputs[0].codes, inverse_scale: outputs[0].inverseScale,
      has_then: secondFunction != nil,
      then: (secondFunction ?? .relu).unary, row: Int64(runs.row))
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
  /// Of whole numbers; nil where a number of the run may be refused.
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
