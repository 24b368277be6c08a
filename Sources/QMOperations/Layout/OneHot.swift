import QMTensor

/// Adds an axis of `depth` elements: the second of `values` at the index, the first elsewhere.
///
/// Inputs: int64 indices, of which negative ones count from the end, and one outside the axis sets
/// nothing; depth, an int64 scalar or `[1]`; values, off and on, two elements of any type.
public struct OneHot: PositionOperation {
  public static let name = "OneHot"
  /// The added axis, as an axis of the output, counted from the front.
  public var axis: Int
  /// - Parameter axis: as an axis of the output, counted from the front.
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
      throw .malformed("\(Self.name) takes int64 indices, found \(indices)")
    }
    guard type.shape.rank == 1, type.shape[0].extent ?? 2 == 2 else {
      throw .malformed("\(Self.name) takes two values, off and on, found \(type)")
    }
    try expectAxis(axis, rank: indices.shape.rank + 1)
    if let values = depth.values {
      guard values.count == 1, values[0] >= 0 else {
        throw .malformed("\(Self.name) takes one depth of 0 or more, found \(values)")
      }
    }
    type.shape = indices.shape
    type.shape.axes.insert(depth.values.map { .fixed($0[0]) } ?? .free(""), at: axis)
    return [try type.checked()]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let indices = inputs[0]!.integers()
    let depth = outputs[0].shape[axis]
    guard inputs[1]!.integers() == [depth] else {
      throw .invalidInput("depth is \(inputs[1]!.integers()), but the run expects \(depth)")
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
