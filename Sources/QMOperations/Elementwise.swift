import CQMKernels
import QMTensor

/// A function of one number. Definitions: `Functions.swift`.
public enum UnaryFunction: Hashable, Sendable {
  case relu
  case clip(minimum: Float, maximum: Float)
  case leakyRelu(slope: Float)
  case thresholdedRelu(threshold: Float)
  case elu(alpha: Float)
  case selu(alpha: Float, gamma: Float)
  case celu(alpha: Float)
  case hardSigmoid(alpha: Float, beta: Float)
  case hardSwish
  case sigmoid
  case silu
  case tanh
  case erf
  /// `x/2 · (1 + erf(x/√2))`
  case gelu
  /// `x/2 · (1 + tanh(√(2/π)(x + 0.044715 x³)))`
  case geluTanh
  case softplus
  case softsign
  case mish
  case exponential
  case logarithm
  case squareRoot
  case reciprocal
  case square
  case absolute
  case negate
  case sign
  case floor
  case ceiling
  /// To the nearest integer, halves to even.
  case round
  case sine
  case cosine
  case tangent
  /// `x · scale + offset`, two roundings.
  case affine(scale: Float, offset: Float)
}

/// `output[i] = encode(function(real(input[i])))`: float32, or int8/uint8/int16 codes with fixed
/// quantization, which stand for `real = scale · Float(code − zeroPoint)`; stored by `output`.
///
/// `absolute`, `negate` and `sign` also on int32 and int64, in two's complement with wrapping;
/// `output` is ignored there.
public struct Unary: OperationProtocol {
  public static let name = "Unary"
  public var function: UnaryFunction
  public var output: OutputEncoding

  public init(_ function: UnaryFunction, output: OutputEncoding = .float32) {
    self.function = function
    self.output = output
  }
}

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

/// `output[i] = encode(then(function(real(left[i]), real(right[i]))))` with NumPy broadcasting:
/// float32, or int8/uint8/int16 codes with fixed quantization, on either side in any mix, which
/// stand for `real = scale · Float(code − zeroPoint)`. Each step is one rounding in float32.
///
/// Also two int32 or two int64 operands, in two's complement with wrapping; `then` and `output`
/// are ignored there. Division truncates toward zero; dividing by 0, and 0 to a negative power,
/// are errors of the run.
public struct Binary: OperationProtocol {
  public static let name = "Binary"
  public var function: BinaryFunction
  /// A function of the result, before the one rounding.
  public var then: UnaryFunction?
  public var output: OutputEncoding

  public init(
    _ function: BinaryFunction, then: UnaryFunction? = nil, output: OutputEncoding = .float32
  ) {
    self.function = function
    self.then = then
    self.output = output
  }
}

/// int8 codes → int8 codes by a table: `output[i] = table[input[i] + 128]`.
/// Inputs: codes with fixed quantization; 256 int8 entries, of code −128 first.
public struct Table: OperationProtocol {
  public static let name = "Table"
  /// Meaning of the entries.
  public var scale: Float
  public var zeroPoint: Int32

  public init(scale: Float, zeroPoint: Int32) {
    self.scale = scale
    self.zeroPoint = zeroPoint
  }
}

/// Another element type for the same numbers; to the same type, the same bytes.
///
/// - Float to float rounds to nearest, halves to even, once; NaN becomes the type's positive quiet
///   NaN without payload.
/// - Float to integer truncates toward zero and saturates; NaN becomes 0.
/// - Integer to float rounds once; to float16 and bfloat16 by way of float32.
/// - Integer to integer keeps the low bits.
/// - To bool: whether unequal 0 (NaN is). From bool: 0 or 1.
public struct Cast: OperationProtocol {
  public static let name = "Cast"
  public var elementType: ElementType

  public init(to elementType: ElementType) { self.elementType = elementType }
}

// MARK: Unary

extension UnaryFunction {
  /// Whether the function takes integers.
  fileprivate var takesIntegers: Bool {
    switch self {
    case .absolute, .negate, .sign: true
    default: false
    }
  }

  fileprivate func callAsFunction<Integer: FixedWidthInteger & SignedInteger>(_ x: Integer)
    -> Integer
  {
    switch self {
    case .absolute: x < 0 ? 0 &- x : x
    case .negate: 0 &- x
    default: x.signum()
    }
  }
}

extension ValueType {
  /// Whether the elements stand for real numbers: float32, or codes on one grid.
  var isReal: Bool {
    switch quantization {
    case .none: elementType == .float32
    case .fixed: elementType.codes != nil
    default: false
    }
  }

  /// Whether the elements are whole numbers that operations compute with.
  fileprivate var isInteger: Bool {
    quantization == .none && (elementType == .int32 || elementType == .int64)
  }

  /// - Throws: `malformed` if the grid of codes breaks its rules.
  func checkGridIfFixed() throws(QMError) {
    if case .fixed(let scale, let zeroPoint) = quantization {
      try checkGrid(elementType, scale: scale, zeroPoint: zeroPoint)
    }
  }

  /// The type as C knows it, where its elements stand for real numbers.
  var codes: qm_codes {
    let type = Int32(elementType.rawValue)
    if case .fixed(let scale, let zeroPoint) = quantization {
      return qm_codes(element_type: type, scale: scale, zero_point: zeroPoint)
    }
    return qm_codes(element_type: type, scale: 1, zero_point: 0)
  }

  /// 1 / scale, in float32; 1 where the elements are no codes.
  var inverseScale: Float {
    if case .fixed(let scale, _) = quantization { 1 / scale } else { 1 }
  }
}

/// Output elements that are worth a thread.
private let chunkLength = 1 << 14

/// Runs `body` on consecutive pieces of `count` elements, on the threads of a pool.
func forEachChunk(
  of count: Int, on threads: ThreadPool, _ body: (_ start: Int, _ count: Int) -> Void
) {
  threads.run(chunks: (count + chunkLength - 1) / chunkLength) { chunk, _ in
    let start = chunk * chunkLength
    body(start, min(chunkLength, count - start))
  }
}

extension Unary {
  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    let input = try required(0, of: operands).type
    if function.takesIntegers && input.isInteger { return [input] }
    guard input.isReal else {
      throw .malformed(
        "\(function) takes float32 or codes with fixed quantization, found \(input)")
    }
    try input.checkGridIfFixed()
    try output.check()
    return [ValueType(output.elementType, input.shape, output.quantization)]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!
    let output = outputs[0]
    switch input.elementType {
    case .int32: apply(input.elements(as: Int32.self), output.elements())
    case .int64: apply(input.elements(as: Int64.self), output.elements())
    default:
      for index in 0..<input.elementCount {
        output.store(function(input.real(at: index)), at: index)
      }
    }
  }

  private func apply<Integer: FixedWidthInteger & SignedInteger & TensorElement>(
    _ input: UnsafeMutableBufferPointer<Integer>, _ output: UnsafeMutableBufferPointer<Integer>
  ) {
    for index in input.indices { output[index] = function(input[index]) }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let input = try required(0, of: operands).type
    guard input.isReal, let set = kernels.number else { return nil }
    let count = try input.concreteExtents().reduce(1, *)
    let unary = function.unary
    if input.elementType == .float32 && output == .float32 {
      let kernel = qm_unary_f32_for(set)!
      return Kernel(name: "unary float32 \(kernels)") { memory in
        let source = memory.inputs[0]!.assumingMemoryBound(to: Float.self)
        let target = memory.outputs[0]!.assumingMemoryBound(to: Float.self)
        forEachChunk(of: count, on: memory.threads) { start, count in
          kernel(unary, source + start, target + start, Int64(count))
        }
      }
    }
    if case .fixed(let scale, let zeroPoint) = input.quantization, input.elementType == .int8,
      case .quantized(.int8, let outputScale, let outputZeroPoint) = output
    {
      let table = lookupTable(
        of: [function], inputScale: scale, inputZeroPoint: zeroPoint, outputScale: outputScale,
        outputZeroPoint: outputZeroPoint)
      let kernel = qm_quantize_for(set).table!
      return Kernel(name: "unary table \(kernels)") { memory in
        let source = memory.inputs[0]!.assumingMemoryBound(to: Int8.self)
        let target = memory.outputs[0]!.assumingMemoryBound(to: Int8.self)
        forEachChunk(of: count, on: memory.threads) { start, count in
          kernel(table, source + start, target + start, Int64(count))
        }
      }
    }
    let kernel = qm_elementwise_for(set).unary!
    let sourceSize = input.elementType.byteCount
    let targetSize = output.elementType.byteCount
    let sourceCodes = input.codes
    let targetCodes = outputs[0].codes
    let inverseScale = outputs[0].inverseScale
    return Kernel(name: "unary codes \(kernels)") { memory in
      let source = memory.inputs[0]!
      let target = memory.outputs[0]!
      forEachChunk(of: count, on: memory.threads) { start, count in
        kernel(
          unary, sourceCodes, targetCodes, inverseScale, source + start * sourceSize,
          target + start * targetSize, Int64(count))
      }
    }
  }
}

// MARK: Binary

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
    try left.checkGridIfFixed()
    try right.checkGridIfFixed()
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
        if let then { real = then(real) }
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
    let runs = BroadcastRuns(broadcasting, chunkLength: chunkLength)
    let binary = qm_binary(
      function: Int32(function.rawValue), left_pattern: runs.leftPattern.rawValue,
      right_pattern: runs.rightPattern.rawValue, left: left.codes, right: right.codes,
      output: outputs[0].codes, inverse_scale: outputs[0].inverseScale, has_then: then != nil,
      then: (then ?? .relu).unary, row: Int64(runs.row))
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

// MARK: Table

extension Table {
  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    let input = try required(0, of: operands).type
    let table = try required(1, of: operands).type
    guard case .fixed = input.quantization, input.elementType == .int8 else {
      throw .malformed("a table takes int8 codes with fixed quantization, found \(input)")
    }
    try input.checkGridIfFixed()
    guard table.elementType == .int8, table.shape.extents == [256] else {
      throw .malformed("a table has 256 int8 entries, found \(table)")
    }
    try checkGrid(.int8, scale: scale, zeroPoint: zeroPoint)
    return [ValueType(.int8, input.shape, .fixed(scale: scale, zeroPoint: zeroPoint))]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!.elements(as: Int8.self)
    let table = inputs[1]!.elements(as: Int8.self)
    let output = outputs[0].elements(as: Int8.self)
    for index in input.indices { output[index] = table[Int(input[index]) + 128] }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    guard let set = kernels.number else { return nil }
    let kernel = qm_quantize_for(set).table!
    let count = try outputs[0].concreteExtents().reduce(1, *)
    return Kernel(name: "table \(kernels)") { memory in
      let source = memory.inputs[0]!.assumingMemoryBound(to: Int8.self)
      let table = memory.inputs[1]!.assumingMemoryBound(to: Int8.self)
      let target = memory.outputs[0]!.assumingMemoryBound(to: Int8.self)
      forEachChunk(of: count, on: memory.threads) { start, count in
        kernel(table, source + start, target + start, Int64(count))
      }
    }
  }
}

// MARK: Cast

extension Cast {
  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    let input = try required(0, of: operands).type
    guard input.quantization == .none else {
      throw .malformed("a cast takes numbers, found codes \(input); dequantize them first")
    }
    return [ValueType(elementType, input.shape)]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!
    let output = outputs[0]
    if input.elementType == output.elementType {
      output.base.copyMemory(from: input.base, byteCount: input.byteCount)
      return
    }
    for index in 0..<input.elementCount { output.store(input.number(at: index), at: index) }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let input = try required(0, of: operands).type
    guard kernels != .reference else { return nil }
    guard input.elementType != elementType else {
      return try .copyingBytes(of: outputs[0], Self.name, kernels)
    }
    let count = try outputs[0].concreteExtents().reduce(1, *)
    func from<Source: FixedWidthInteger & BitwiseCopyable & Sendable>(
      _: Source.Type
    ) -> Kernel.Body? {
      switch elementType {
      case .float32: { Self.convert($0, count) { (number: Source) in Float(number) } }
      case .int8:
        { Self.convert($0, count) { (number: Source) in Int8(truncatingIfNeeded: number) } }
      case .uint8:
        { Self.convert($0, count) { (number: Source) in UInt8(truncatingIfNeeded: number) } }
      case .int32:
        { Self.convert($0, count) { (number: Source) in Int32(truncatingIfNeeded: number) } }
      case .int64:
        { Self.convert($0, count) { (number: Source) in Int64(truncatingIfNeeded: number) } }
      case .bool: { Self.convert($0, count) { (number: Source) in number != 0 } }
      case .int16, .uint16, .uint32, .uint64, .float16, .bfloat16, .float64: nil
      }
    }
    // As numbers, because a byte from a file may be neither 0 nor 1.
    func fromBool() -> Kernel.Body? {
      switch elementType {
      case .float32: { Self.convert($0, count) { (byte: UInt8) -> Float in byte == 0 ? 0 : 1 } }
      case .int8: { Self.convert($0, count) { (byte: UInt8) -> Int8 in byte == 0 ? 0 : 1 } }
      case .uint8: { Self.convert($0, count) { (byte: UInt8) -> UInt8 in byte == 0 ? 0 : 1 } }
      case .int32: { Self.convert($0, count) { (byte: UInt8) -> Int32 in byte == 0 ? 0 : 1 } }
      case .int64: { Self.convert($0, count) { (byte: UInt8) -> Int64 in byte == 0 ? 0 : 1 } }
      default: nil
      }
    }
    func fromReal() -> Kernel.Body? {
      switch elementType {
      case .bool: { Self.convert($0, count) { (number: Float) in number != 0 } }
      case .int32:
        {
          Self.convert($0, count) { (number: Float) in
            Number.real(Double(number)).integer(as: Int32.self)
          }
        }
      case .int64:
        {
          Self.convert($0, count) { (number: Float) in
            Number.real(Double(number)).integer(as: Int64.self)
          }
        }
      case .float16: { Self.convert($0, count) { (number: Float) in SmallFloat.half(number) } }
      case .bfloat16: { Self.convert($0, count) { (number: Float) in SmallFloat.brain(number) } }
      default: nil
      }
    }
    let body: Kernel.Body? =
      switch input.elementType {
      case .int8: from(Int8.self)
      case .uint8: from(UInt8.self)
      case .int16: from(Int16.self)
      case .uint16: from(UInt16.self)
      case .int32: from(Int32.self)
      case .uint32: from(UInt32.self)
      case .int64: from(Int64.self)
      case .uint64: from(UInt64.self)
      case .bool: fromBool()
      case .float32: fromReal()
      case .float16 where elementType == .float32:
        { Self.convert($0, count) { (bits: UInt16) in SmallFloat.number(half: bits) } }
      case .bfloat16 where elementType == .float32:
        { Self.convert($0, count) { (bits: UInt16) in SmallFloat.number(brain: bits) } }
      case .float16, .bfloat16, .float64: nil
      }
    return body.map { Kernel(name: Self.name, run: $0) }
  }

  @inline(__always)
  private static func convert<Source: BitwiseCopyable, Target: BitwiseCopyable>(
    _ memory: Kernel.Memory, _ count: Int, _ body: (Source) -> Target
  ) {
    let source = memory.inputs[0]!.assumingMemoryBound(to: Source.self)
    let target = memory.outputs[0]!.assumingMemoryBound(to: Target.self)
    forEachChunk(of: count, on: memory.threads) { start, count in
      for index in start..<(start + count) { target[index] = body(source[index]) }
    }
  }
}

/// An element of any type, exactly.
private enum Number {
  case real(Double)
  case signed(Int64)
  case unsigned(UInt64)

  var float32: Float {
    switch self {
    case .real(let value): canonical(Float(value))
    case .signed(let value): Float(value)
    case .unsigned(let value): Float(value)
    }
  }

  var float64: Double {
    switch self {
    case .real(let value): value.isNaN ? .nan : value
    case .signed(let value): Double(value)
    case .unsigned(let value): Double(value)
    }
  }

  /// What is rounded to a type of 16 bits.
  var narrowed: Double {
    if case .real(let value) = self { value } else { Double(float32) }
  }

  var isZero: Bool {
    switch self {
    case .real(let value): value == 0
    case .signed(let value): value == 0
    case .unsigned(let value): value == 0
    }
  }

  func integer<Integer: FixedWidthInteger>(as: Integer.Type) -> Integer {
    switch self {
    case .signed(let value): return Integer(truncatingIfNeeded: value)
    case .unsigned(let value): return Integer(truncatingIfNeeded: value)
    case .real(let value):
      if value.isNaN { return 0 }
      // The bounds are powers of two, exact in Double; `Integer.max` itself might not be.
      let whole = value.rounded(.towardZero)
      if whole < Double(Integer.min) { return .min }
      let bits = Integer.bitWidth - (Integer.isSigned ? 1 : 0)
      let beyond = Double(sign: .plus, exponent: bits, significand: 1)
      return whole < beyond ? Integer(whole) : .max
    }
  }
}

extension TensorView {
  fileprivate func number(at index: Int) -> Number {
    switch elementType {
    case .float32: .real(Double(load(index, as: Float.self)))
    case .float64: .real(load(index, as: Double.self))
    case .float16: .real(SmallFloat.half.value(of: load(index, as: UInt16.self)))
    case .bfloat16: .real(SmallFloat.brain.value(of: load(index, as: UInt16.self)))
    case .int8: .signed(Int64(load(index, as: Int8.self)))
    case .int16: .signed(Int64(load(index, as: Int16.self)))
    case .int32: .signed(Int64(load(index, as: Int32.self)))
    case .int64: .signed(load(index, as: Int64.self))
    case .uint8: .unsigned(UInt64(load(index, as: UInt8.self)))
    case .uint16: .unsigned(UInt64(load(index, as: UInt16.self)))
    case .uint32: .unsigned(UInt64(load(index, as: UInt32.self)))
    case .uint64: .unsigned(load(index, as: UInt64.self))
    // As a number, because a byte from a file may be neither 0 nor 1.
    case .bool: .unsigned(load(index, as: UInt8.self) == 0 ? 0 : 1)
    }
  }

  fileprivate func store(_ number: Number, at index: Int) {
    switch elementType {
    case .float32: store(element: number.float32, index)
    case .float64: store(element: number.float64, index)
    case .float16: store(element: SmallFloat.half.bits(of: number.narrowed), index)
    case .bfloat16: store(element: SmallFloat.brain.bits(of: number.narrowed), index)
    case .int8: store(element: number.integer(as: Int8.self), index)
    case .int16: store(element: number.integer(as: Int16.self), index)
    case .int32: store(element: number.integer(as: Int32.self), index)
    case .int64: store(element: number.integer(as: Int64.self), index)
    case .uint8: store(element: number.integer(as: UInt8.self), index)
    case .uint16: store(element: number.integer(as: UInt16.self), index)
    case .uint32: store(element: number.integer(as: UInt32.self), index)
    case .uint64: store(element: number.integer(as: UInt64.self), index)
    case .bool: store(element: UInt8(number.isZero ? 0 : 1), index)
    }
  }

  private func load<Element: BitwiseCopyable>(_ index: Int, as: Element.Type) -> Element {
    base.load(fromByteOffset: index * MemoryLayout<Element>.stride, as: Element.self)
  }

  private func store<Element: BitwiseCopyable>(element: Element, _ index: Int) {
    base.storeBytes(
      of: element, toByteOffset: index * MemoryLayout<Element>.stride, as: Element.self)
  }
}

/// A binary float of 16 bits. (Swift's Float16 does not exist on every processor.)
private struct SmallFloat {
  let fractionBits: Int
  let bias: Int

  static let half = SmallFloat(fractionBits: 10, bias: 15)
  static let brain = SmallFloat(fractionBits: 7, bias: 127)

  private var exponentMask: Int { (1 << (15 - fractionBits)) - 1 }

  /// Exact.
  func value(of bits: UInt16) -> Double {
    let exponent = Int(bits) >> fractionBits & exponentMask
    let fraction = Int(bits) & ((1 << fractionBits) - 1)
    let magnitude: Double
    if exponent == exponentMask {
      magnitude = fraction == 0 ? .infinity : .nan
    } else if exponent == 0 {
      magnitude = Double(
        sign: .plus, exponent: 1 - bias - fractionBits, significand: Double(fraction))
    } else {
      magnitude = Double(
        sign: .plus, exponent: exponent - bias - fractionBits,
        significand: Double(fraction + 1 << fractionBits))
    }
    return bits >> 15 == 0 ? magnitude : -magnitude
  }

  /// Rounded to nearest, halves to even; infinite from the largest finite number and half a step
  /// on.
  func bits(of value: Double) -> UInt16 {
    let infinity = exponentMask << fractionBits
    if value.isNaN { return UInt16(infinity | 1 << (fractionBits - 1)) }
    let sign: UInt16 = value.sign == .minus ? 0x8000 : 0
    let magnitude = value.magnitude
    guard magnitude < .infinity else { return sign | UInt16(infinity) }
    // Steps of the format at this magnitude, below the normal numbers those of the least.
    let exponent = magnitude == 0 ? 1 - bias : max(Int(magnitude.exponent), 1 - bias)
    let steps = Double(sign: .plus, exponent: fractionBits - exponent, significand: magnitude)
    // A carry out of the fraction steps into the exponent, which is what it should do.
    let whole = Int(steps.rounded(.toNearestOrEven)) + (exponent + bias - 1) << fractionBits
    return sign | UInt16(min(whole, infinity))
  }
}

/// The same bits without branches, for loops that take vectors.
extension SmallFloat {
  @inline(__always)
  static func half(_ number: Float) -> UInt16 {
    let bits = number.bitPattern
    let magnitude = bits & 0x7FFF_FFFF
    let sign = bits >> 16 & 0x8000
    // Adding 0.5 rounds to the step of the numbers below the normal ones, 2^−24.
    let small = (Float(bitPattern: magnitude) + 0.5).bitPattern &- 0x3F00_0000
    // The exponent changes its bias; what is cut off rounds, halves to even.
    let normal = (magnitude &+ 0xC800_0FFF &+ (magnitude >> 13 & 1)) >> 13
    var result = magnitude < 0x3880_0000 ? small : normal
    result = magnitude >= 0x4780_0000 ? 0x7C00 : result
    result |= sign
    return UInt16(truncatingIfNeeded: magnitude > 0x7F80_0000 ? 0x7E00 : result)
  }

  @inline(__always)
  static func number(half bits: UInt16) -> Float {
    let magnitude = UInt32(bits & 0x7FFF)
    let shifted = magnitude << 13
    let small = Float(magnitude) * 0x1p-24
    var result = magnitude < 0x400 ? small.bitPattern : shifted &+ 112 << 23
    result = magnitude == 0x7C00 ? 0x7F80_0000 : result
    result |= UInt32(bits & 0x8000) << 16
    return Float(bitPattern: magnitude > 0x7C00 ? 0x7FC0_0000 : result)
  }

  @inline(__always)
  static func brain(_ number: Float) -> UInt16 {
    let bits = number.bitPattern
    let rounded = (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16
    return UInt16(truncatingIfNeeded: bits & 0x7FFF_FFFF > 0x7F80_0000 ? 0x7FC0 : rounded)
  }

  @inline(__always)
  static func number(brain bits: UInt16) -> Float {
    Float(bitPattern: bits & 0x7FFF > 0x7F80 ? 0x7FC0_0000 : UInt32(bits) << 16)
  }
}
