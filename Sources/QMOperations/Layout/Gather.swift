import QMTensor

/// Inputs: data; int32 or int64 indices, negative ones from the end. The indices' axes stand in
/// the place of `axis`.
public struct Gather: OperationProtocol {
  public static let name = "Gather"
  /// Counted from the front.
  public var axis: Int
  public init(axis: Int) { self.axis = axis }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(2...2, operands)
    var type = try movable(0, of: operands)
    let indices = try required(1, of: operands).type.checked()
    guard indices.elementType == .int64 || indices.elementType == .int32,
      indices.quantization == .none
    else { throw .malformed("indices of type \(indices); expected int32 or int64") }
    try expectAxis(axis, rank: type.shape.rank)
    type.shape.axes.replaceSubrange(axis...axis, with: indices.shape.axes)
    return [try type.checked()]
  }
}
