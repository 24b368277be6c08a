import QMTensor

/// A new axis of `depth` elements at place `axis`: the second of `values` where the index says,
/// the first elsewhere.
///
/// Inputs: int64 indices, negative ones from the end, none set where one is outside; depth, int64
/// scalar or `[1]`; values, two of any element type, off and on.
public struct OneHot: PositionOperation {
  public static let name = "OneHot"
  /// Place in the result, counted from the front.
  public var axis: Int
  public init(axis: Int) { self.axis = axis }

  public static let placeholder = OneHot(axis: 0)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("axis", &axis)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(3...3, operands)
    let indices = try required(0, of: operands).type.checked()
    var type = try movable(2, of: operands)
    let depth = try integers(1, of: operands, "the depth")
    guard indices.elementType == .int64, indices.quantization == .none else {
      throw .malformed("indices of type \(indices); expected int64")
    }
    guard type.shape.rank == 1, type.shape[0].extent ?? 2 == 2 else {
      throw .malformed("values \(type); expected two, off and on")
    }
    try expectAxis(axis, rank: indices.shape.rank + 1)
    if let values = depth.values {
      guard values.count == 1, values[0] >= 0 else { throw .malformed("a depth of \(values)") }
    }
    type.shape = indices.shape
    type.shape.axes.insert(depth.values.map { .fixed($0[0]) } ?? .free(""), at: axis)
    return [try type.checked()]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let indices = inputs[0]!.integers()
    let depth = outputs[0].shape[axis]
    guard inputs[1]!.integers() == [depth] else {
      throw .invalidInput("a depth of \(inputs[1]!.integers()); the run expects \(depth)")
    }
    let size = outputs[0].elementType.byteCount
    try outputs[0].forEachLine(along: axis) { (line, number) throws(QMError) in
      let index = indices[number] < 0 ? indices[number] &+ depth : indices[number]
      for position in 0..<depth {
        (outputs[0].base + line.place(position) * size).copyMemory(
          from: inputs[2]!.base + (position == index ? size : 0), byteCount: size)
      }
    }
  }
}
