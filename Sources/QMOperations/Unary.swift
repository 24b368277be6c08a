import CQMKernels
import QMTensor

/// A function of one float32 number. The bits are defined in `Functions.swift`, equation (18) of
/// `schema/arithmetic.md`.
public enum UnaryFunction: Hashable, Sendable {
  /// `max(x, 0)`
  case relu
  /// `min(max(x, minimum), maximum)`
  case clip(minimum: Float, maximum: Float)
  /// `x < 0 ? x · slope : x`
  case leakyRelu(slope: Float)
  /// `x ≤ threshold ? 0 : x`
  case thresholdedRelu(threshold: Float)
  /// `x > 0 ? x : alpha · (e^x − 1)`
  case elu(alpha: Float)
  /// `gamma · (x > 0 ? x : alpha · (e^x − 1))`
  case selu(alpha: Float, gamma: Float)
  /// `x > 0 ? x : alpha · (e^(x / alpha) − 1)`
  case celu(alpha: Float)
  /// `alpha · x + beta`, clipped to 0…1
  case hardSigmoid(alpha: Float, beta: Float)
  /// `x · (x / 6 + 0.5, clipped to 0…1)`
  case hardSwish
  /// `1 / (1 + e^−x)`
  case sigmoid
  /// `x · sigmoid(x)`, also called swish
  case silu
  case tanh
  /// The error function.
  case erf
  /// `x/2 · (1 + erf(x/√2))`
  case gelu
  /// `x/2 · (1 + tanh(√(2/π)(x + 0.044715 x³)))`
  case geluTanh
  /// `ln(1 + e^x)`
  case softplus
  /// `x / (1 + |x|)`
  case softsign
  /// `x · tanh(softplus(x))`
  case mish
  case exponential
  /// The natural logarithm.
  case logarithm
  case squareRoot
  case reciprocal
  case square
  case absolute
  case negate
  case sign
  case floor
  case ceiling
  /// To the nearest integer, ties to even.
  case round
  case sine
  case cosine
  case tangent
  /// `x · scale + offset`, two roundings.
  case affine(scale: Float, offset: Float)
}

extension UnaryFunction {
  /// A range that contains every result; nil if none is known.
  public var analyticRange: ClosedRange<Float>? {
    switch self {
    case .sigmoid, .hardSigmoid: 0...1
    case .tanh, .erf: -1...1
    default: nil
    }
  }
}

/// `output[i] = store(function(number(input[i])))`. The input is float32, or int8, uint8 or int16
/// codes with fixed quantization, which represent `scale · Float(code − zeroPoint)`.
///
/// `absolute`, `negate` and `sign` also take int32 and int64, with two's complement wrapping; then
/// the output has the input's type, and the attribute `output` is ignored.
public struct Unary: NonAccumulatingOperation, EncodedOutput {
  public static let name = "Unary"
  /// Applied to each element.
  public var function: UnaryFunction
  /// How results are stored.
  public var output: OutputEncoding

  /// Float32 output unless stated otherwise.
  public init(_ function: UnaryFunction, output: OutputEncoding = .float32) {
    self.function = function
    self.output = output
  }

  public static let placeholder = Unary(.relu)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("function", &function)
    try visitor.visit("output", &output)
  }
}

extension Unary {
  public func integerForm(of operands: [Operand?]) -> IntegerForm? {
    IntegerForm(operands: [0], result: encoded(as: Operation.unary))
  }
  public var keepsName: Bool { true }
  public var analyticRange: ClosedRange<Float>? { function.analyticRange }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    ReorderedForm(.unary(self), [.reordered], of: operands)
  }
}

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

extension Unary {
  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    let input = try required(0, of: operands).type
    if function.takesIntegers && input.isInteger { return [input] }
    guard input.isFloatOrCodes else {
      throw .malformed(
        "\(function) takes float32 or codes with fixed quantization, found \(input)")
    }
    try input.checkParametersIfFixed()
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
        output.store(function(input.number(at: index)), at: index)
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
    guard input.isFloatOrCodes, let set = kernels.number else { return nil }
    let count = try input.concreteShape().reduce(1, *)
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
