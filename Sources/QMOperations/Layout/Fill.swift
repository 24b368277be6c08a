import QMTensor

/// A tensor with one value. Inputs: its shape, int32 or int64; the value, a single element.
public struct Fill: PositionOperation {
  public static let name = "Fill"
  /// It has no attributes.
  public init() {}
  public static let placeholder = Fill()
  public func visitAttributes<V: AttributeVisitor>(_: inout V) {}

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(2...2, operands)
    let target = try integers(0, of: operands, "the shape")
    var type = try movable(1, of: operands)
    guard Shape.product(of: type.shape.axes).extent ?? 1 == 1 else {
      throw .malformed("\(Self.name) takes one element, found \(type)")
    }
    let rank = try target.requiredCount("the shape")
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
    let shape = try outputs[0].concreteShape()
    let size = outputs[0].elementType.byteCount
    let copy = StridedCopy(
      elementByteCount: size, extents: shape,
      outStrides: StridedCopy.strides(of: shape, elementByteCount: size),
      inStrides: shape.map { _ in 0 })
    return .moving(Self.name, kernels, [(.input(1), copy)])
  }
}
