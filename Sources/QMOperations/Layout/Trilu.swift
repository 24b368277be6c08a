import QMTensor

/// The upper or lower triangle of the matrices in the last two axes; other elements become 0.
/// Inputs: x of any element type; the diagonal (optional, an int64 scalar or `[1]`, 0 if absent).
/// An element stays if `column − row` is at least (upper) or at most (lower) the diagonal.
public struct Trilu: FirstOperandMovement {
  public static let name = "Trilu"
  /// Whether the upper triangle stays, not the lower.
  public var isUpper: Bool
  /// - Parameter isUpper: whether the upper triangle stays, not the lower.
  public init(isUpper: Bool) { self.isUpper = isUpper }

  public static let placeholder = Trilu(isUpper: false)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("is upper", &isUpper)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...2, operands)
    let type = try movable(0, of: operands)
    guard type.shape.rank >= 2 else {
      throw .malformed("\(Self.name) takes two axes or more, found \(type)")
    }
    if optional(1, of: operands) != nil {
      guard try integers(1, of: operands, "the diagonal").count ?? 1 == 1 else {
        throw .malformed("\(Self.name) takes one diagonal, found several")
      }
    }
    return [type]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!
    let diagonal = inputs.count > 1 ? inputs[1]?.integers()[0] ?? 0 : 0
    let size = input.elementType.byteCount
    let rank = input.shape.count
    var position = 0
    try forEachIndex(of: input.shape) { (index) throws(QMError) in
      let distance = index[rank - 1] - index[rank - 2]
      if isUpper ? distance >= diagonal : distance <= diagonal {
        (outputs[0].base + position * size).copyMemory(
          from: input.base + position * size, byteCount: size)
      } else if case .fixed(_, let zeroPoint) = input.quantization {
        outputs[0].setCode(zeroPoint, at: position)
      } else {
        (outputs[0].base + position * size).initializeMemory(
          as: UInt8.self, repeating: 0, count: size)
      }
      position += 1
    }
  }
}

extension Trilu {
  public var keepsName: Bool { false }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
}
