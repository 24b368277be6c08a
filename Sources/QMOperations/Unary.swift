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

extension UnaryFunction {
  /// A range that no result can leave; nil where there is none to tell.
  public var analyticRange: ClosedRange<Float>? {
    switch self {
    case .sigmoid, .hardSigmoid: 0...1
    case .tanh, .erf: -1...1
    default: nil
    }
  }
}

/// `output[i] = encode(function(real(input[i])))`: float32, or int8/uint8/int16 codes with fixed
/// quantization, which stand for `real = scale · Float(code − zeroPoint)`; stored by `output`.
///
/// `absolute`, `negate` and `sign` also on int32 and int64, in two's complement with wrapping;
/// `output` is ignored there.
public struct Unary: NonAccumulatingOperation, EncodedOutput {
  public static let name = "Unary"
  public var function: UnaryFunction
  public var output: OutputEncoding

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
    guard input.isReal else {
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
