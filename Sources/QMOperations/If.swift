import QMTensor

/// One of two values, chosen as a whole by a condition: the result of a branch of the network.
///
/// Inputs: condition, bool, one element; two operands with the same element type, quantization and
/// rank, whose elements are moved. If the condition is known before the run, only the chosen side
/// is computed, and the output has its shape. If the run computes the condition, both sides are
/// computed, and their shapes must be equal.
public struct If: DataMovement {
  public static let name = "If"
  /// It has no attributes.
  public init() {}
  public static let placeholder = If()
  public func visitAttributes<V: AttributeVisitor>(_: inout V) {}

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(3...3, operands)
    let condition = try required(0, of: operands)
    let whenTrue = try movable(1, of: operands)
    let whenFalse = try movable(2, of: operands)
    try checkCondition(condition.type)
    guard whenTrue.elementType == whenFalse.elementType,
      whenTrue.quantization == whenFalse.quantization,
      whenTrue.shape.rank == whenFalse.shape.rank
    else {
      throw .malformed(
        "\(Self.name) takes two sides of one type, found \(whenTrue) and \(whenFalse)")
    }
    if let constant = condition.constant, constant.elementCount == 1 {
      return [constant.elements(as: Bool.self)[0] ? whenTrue : whenFalse]
    }
    var type = whenTrue
    for (axis, other) in whenFalse.shape.axes.enumerated() where type.shape[axis] != other {
      type.shape[axis] = .free("")
    }
    return [try type.checked()]
  }

  private func checkCondition(_ type: ValueType) throws(QMError) {
    guard try type.checked().elementType == .bool,
      type.shape.axes.allSatisfy({ ($0.extent ?? 1) == 1 })
    else { throw .malformed("\(Self.name) takes a condition of one bool, found \(type)") }
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let isTrue = inputs[0]!.elements(as: Bool.self)[0]
    let (chosen, output) = (inputs[isTrue ? 1 : 2]!, outputs[0])
    guard chosen.shape == output.shape else {
      throw .invalidInput("the chosen side has shape \(chosen.shape), expected \(output.shape)")
    }
    output.base.copyMemory(from: chosen.base, byteCount: output.byteCount)
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let shape = try outputs[0].concreteShape()
    for index in 1...2 {
      let type = try required(index, of: operands).type
      guard try type.concreteShape() == shape else { return nil }
    }
    let byteCount = try Tensor.byteCount(of: outputs[0].elementType, shape)
    return Kernel(name: Self.name) { (memory) throws(QMError) in
      let isTrue = memory.inputs[0]!.load(as: UInt8.self) != 0
      memory.outputs[0]!.copyMemory(from: memory.inputs[isTrue ? 1 : 2]!, byteCount: byteCount)
    }
  }
}

extension If {
  public func movedOperands(of operandCount: Int) -> [Int] { Array(1..<max(operandCount, 1)) }
  public var keepsBytes: Bool { false }
  public var keepsName: Bool { false }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
}
