import CQMKernels
import QMTensor

/// int8 codes → int8 codes by look-up: `output[i] = table[input[i] + 128]`.
/// Inputs: codes with fixed quantization; 256 int8 entries, that of code −128 first.
public struct Table: NonAccumulatingOperation {
  public static let name = "Table"
  /// Scale of the output's codes.
  public var scale: Float
  /// Zero point of the output's codes.
  public var zeroPoint: Int32

  /// The functions that gave the entries, in order; empty if codes are only rounded anew, nil if they
  /// are not known. No attribute: no run needs them, and a program keeps them in its metadata.
  public var functions: [UnaryFunction]?

  /// Scale and zero point are those of the output's codes.
  public init(scale: Float, zeroPoint: Int32, functions: [UnaryFunction]? = nil) {
    self.scale = scale
    self.zeroPoint = zeroPoint
    self.functions = functions
  }

  public static let placeholder = Table(scale: 1, zeroPoint: 0)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("scale", &scale)
    try visitor.visit("zero point", &zeroPoint)
  }
}

extension Table {
  /// Always nil: lowering makes tables from Unary operations; a table has no float32 form.
  public func integerForm(of operands: [Operand?]) -> IntegerForm? { nil }
  public var keepsName: Bool { false }
  public var analyticRange: ClosedRange<Float>? { nil }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
}

extension Table {
  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    let input = try required(0, of: operands).type
    let table = try required(1, of: operands).type
    guard case .fixed = input.quantization, input.elementType == .int8 else {
      throw .malformed("a table takes int8 codes with fixed quantization, found \(input)")
    }
    try input.checkParametersIfFixed()
    guard table.elementType == .int8, table.shape.extents == [256] else {
      throw .malformed("a table has 256 int8 entries, found \(table)")
    }
    try QuantizationParameters(.int8, scale: scale, zeroPoint: zeroPoint).check()
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
    let count = try outputs[0].concreteShape().reduce(1, *)
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
