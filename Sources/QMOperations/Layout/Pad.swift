import QMTensor

/// Inputs: data; int64 `[2·k]` elements to add before (first half) and after (negative: to crop);
/// the constant (optional scalar, 0 without; `constant` only); int64 `[k]` axes (optional).
/// On codes the constant is a real number, float32, rounded to the input's grid.
///
/// An axis is cropped first; what is left is then repeated: `reflect` mirrors it without repeating
/// its outermost element, `edge` repeats that element, `wrap` goes round.
public struct Pad: OperationProtocol {
  public static let name = "Pad"
  public enum Mode: UInt8, Hashable, Sendable {
    case constant = 0
    case reflect = 1
    case edge = 2
    case wrap = 3
  }
  public var mode: Mode
  public init(_ mode: Mode) { self.mode = mode }

  /// What happens to one axis.
  struct Amount: Hashable {
    var before: Int
    var after: Int

    /// Extent of the output.
    /// - Throws: `malformed` if more is cropped than there is, or if the mode cannot make the
    ///   elements that are added.
    func extent(of extent: Int, mode: Mode) throws(QMError) -> Int {
      let limit = ValueLimits.byteCount
      guard (-limit...limit).contains(before), (-limit...limit).contains(after) else {
        throw .malformed("\(before) and \(after) elements added to an axis")
      }
      let kept = extent + min(before, 0) + min(after, 0)
      guard kept >= 0 else {
        throw .malformed("\(before) and \(after) elements cropped from an axis of \(extent)")
      }
      let added = max(before, after, 0)
      let possible: Bool
      switch mode {
      case .constant: possible = true
      case .reflect: possible = added == 0 || added < kept
      case .edge, .wrap: possible = added == 0 || kept > 0
      }
      guard possible else {
        throw .malformed("\(mode) cannot add \(before) and \(after) elements to an axis of \(kept)")
      }
      return kept + max(before, 0) + max(after, 0)
    }
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(2...4, operands)
    var type = try movable(0, of: operands)
    try checkConstant(optional(2, of: operands)?.type, data: type)
    let pads = try integers(1, of: operands, "pads")
    let axes = try optional(3, of: operands) == nil ? nil : integers(3, of: operands, "axes")
    guard let values = pads.values, axes == nil || axes?.values != nil else {
      type.shape = .unknown(rank: type.shape.rank)
      return [type]
    }
    for (axis, amount) in try Self.amounts(values, axes: axes?.values, rank: type.shape.rank) {
      if let extent = type.shape[axis].extent {
        type.shape[axis] = .fixed(try amount.extent(of: extent, mode: mode))
      } else if amount != Amount(before: 0, after: 0) {
        type.shape[axis] = .free("")
      }
    }
    return [try type.checked()]
  }

  /// The amount of each padded axis.
  static func amounts(
    _ pads: [Int], axes: [Int]?, rank: Int
  ) throws(QMError) -> [(axis: Int, amount: Amount)] {
    let places = try axes.map { (axes) throws(QMError) in try Slice.places(axes, rank: rank) }
      ?? Array(0..<rank)
    guard pads.count == 2 * places.count else {
      throw .malformed("\(pads.count) pads for \(places.count) axes; each has two")
    }
    return places.enumerated().map { position, axis in
      (axis, Amount(before: pads[position], after: pads[position + places.count]))
    }
  }

  private func checkConstant(_ constant: ValueType?, data: ValueType) throws(QMError) {
    guard let constant else { return }
    let expected: ElementType
    if case .fixed = data.quantization { expected = .float32 } else { expected = data.elementType }
    guard constant.elementType == expected, constant.quantization == .none,
      Shape.product(of: constant.shape.axes).extent ?? 1 == 1
    else { throw .malformed("\(data) padded with \(constant); expected one \(expected)") }
  }
}
