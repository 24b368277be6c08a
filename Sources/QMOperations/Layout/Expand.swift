import QMTensor

/// Broadcasts the input with a shape. Inputs: data; the shape, int32 or int64.
public struct Expand: FirstOperandMovement {
  public static let name = "Expand"
  /// It has no attributes.
  public init() {}
  public static let placeholder = Expand()
  public func visitAttributes<V: AttributeVisitor>(_: inout V) {}

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(2...2, operands)
    var type = try movable(0, of: operands)
    let target = try integers(1, of: operands, "the shape")
    let rank = max(try target.requiredCount("the shape"), type.shape.rank)
    guard let shape = target.values else {
      type.shape = .unknown(rank: rank)
      return [type]
    }
    let input: [Shape.Axis] = Array(repeating: 1, count: rank - type.shape.rank) + type.shape.axes
    let wanted = Array(repeating: 1, count: rank - shape.count) + shape
    var axes: [Shape.Axis] = []
    for (axis, extent) in zip(input, wanted) {
      switch axis {
      case _ where extent == 1: axes.append(axis)
      case .fixed(1), .fixed(extent): axes.append(.fixed(extent))
      // The axis must be 1 or `extent` in the run; the rule is checked again when it is known.
      case .free: axes.append(.fixed(extent))
      case .fixed: throw .malformed("\(type.shape) does not broadcast with shape \(shape)")
      }
    }
    type.shape = Shape(axes)
    return [try type.checked()]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!
    let added = outputs[0].shape.count - input.shape.count
    try forEachIndex(of: outputs[0].shape) { (index) throws(QMError) in
      let place = zip(index.dropFirst(added), input.shape).map { $1 == 1 ? 0 : $0 }
      outputs[0].copyElement(at: index, from: input, at: place)
    }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let input = try required(0, of: operands).type
    let size = input.elementType.byteCount
    let inShape = try input.concreteShape()
    let outShape = try outputs[0].concreteShape()
    var inStrides = StridedCopy.strides(of: inShape, elementByteCount: size)
    for axis in inShape.indices where inShape[axis] == 1 { inStrides[axis] = 0 }
    let copy = StridedCopy(
      elementByteCount: size, extents: outShape,
      outStrides: StridedCopy.strides(of: outShape, elementByteCount: size),
      inStrides: Array(repeating: 0, count: outShape.count - inShape.count) + inStrides)
    return .moving(Self.name, kernels, [(.input(0), copy)])
  }
}

extension Expand {
  public var keepsName: Bool { true }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
}

/// Repeats the input along its axes. Inputs: data; the repeats, int32 or int64, one per axis.
public struct Tile: FirstOperandMovement {
  public static let name = "Tile"
  /// It has no attributes.
  public init() {}
  public static let placeholder = Tile()
  public func visitAttributes<V: AttributeVisitor>(_: inout V) {}

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(2...2, operands)
    var type = try movable(0, of: operands)
    let repeats = try integers(1, of: operands, "repeats")
    guard repeats.count ?? type.shape.rank == type.shape.rank else {
      throw .malformed(
        "\(Self.name) needs one repeat per axis of \(type.shape), found \(repeats.count ?? 0)")
    }
    guard let values = repeats.values else {
      type.shape = .unknown(rank: type.shape.rank)
      return [type]
    }
    for (axis, count) in values.enumerated() {
      guard (0...ValueLimits.byteCount).contains(count) else {
        throw .malformed("axis \(axis) cannot be repeated \(count) times")
      }
      if let extent = type.shape[axis].extent {
        let (product, overflow) = extent.multipliedReportingOverflow(by: count)
        guard !overflow else {
          throw .malformed("axis \(axis) of \(extent) elements cannot be repeated \(count) times")
        }
        type.shape[axis] = .fixed(product)
      } else if count != 1 {
        type.shape[axis] = count == 0 ? 0 : .free("")
      }
    }
    return [try type.checked()]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!
    try forEachIndex(of: outputs[0].shape) { (index) throws(QMError) in
      let place = zip(index, input.shape).map { $0 % $1 }
      outputs[0].copyElement(at: index, from: input, at: place)
    }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let input = try required(0, of: operands).type
    let size = input.elementType.byteCount
    let inShape = try input.concreteShape()
    let outShape = try outputs[0].concreteShape()
    let inStrides = StridedCopy.strides(of: inShape, elementByteCount: size)
    // Each axis becomes two: the repeat, and the element of the input.
    let pairs = zip(inShape, outShape).flatMap { $0 == 0 ? [0, 0] : [$1 / $0, $0] }
    let copy = StridedCopy(
      elementByteCount: size, extents: pairs,
      outStrides: StridedCopy.strides(of: pairs, elementByteCount: size),
      inStrides: inStrides.flatMap { [0, $0] })
    return .moving(Self.name, kernels, [(.input(0), copy)])
  }
}

extension Tile {
  public var keepsName: Bool { false }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
}
