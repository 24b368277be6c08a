import QMTensor

/// Inputs: int32 or int64 extents; a single element that fills them.
public struct Fill: PositionOperation {
  public static let name = "Fill"
  public init() {}
  public static let placeholder = Fill()
  public func visitAttributes<V: AttributeVisitor>(_: inout V) {}

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(2...2, operands)
    let target = try integers(0, of: operands, "extents")
    var type = try movable(1, of: operands)
    guard Shape.product(of: type.shape.axes).extent ?? 1 == 1 else {
      throw .malformed("extents filled with \(type); expected one element")
    }
    let rank = try target.requiredCount("extents")
    if let extents = target.values {
      type.shape = Shape(extents)
    } else {
      type.shape = .unknown(rank: rank)
    }
    return [try type.checked()]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let element = inputs[1]!
    try forEachIndex(of: outputs[0].shape) { (index) throws(QMError) in
      outputs[0].copyElement(at: index, from: element, at: element.shape.map { _ in 0 })
    }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let extents = try outputs[0].concreteExtents()
    let size = outputs[0].elementType.byteCount
    let copy = StridedCopy(
      elementByteCount: size, extents: extents,
      outStrides: StridedCopy.strides(of: extents, elementByteCount: size),
      inStrides: extents.map { _ in 0 })
    return .moving(Self.name, kernels, [(.input(1), copy)])
  }
}
