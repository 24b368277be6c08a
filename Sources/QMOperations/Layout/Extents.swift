import QMTensor

// From extents to values and back.

/// The extents `start..<end` of the input, int64. Negative bounds count from the end and are
/// clamped to the rank.
public struct ShapeOf: OperationProtocol {
  public static let name = "ShapeOf"
  public var start: Int
  /// nil: all.
  public var end: Int?
  public init(start: Int = 0, end: Int? = nil) {
    self.start = start
    self.end = end
  }

  /// The axes that are asked for.
  private func selected<Element>(_ axes: [Element]) -> ArraySlice<Element> {
    func place(_ bound: Int) -> Int {
      min(max(bound < 0 ? bound + axes.count : bound, 0), axes.count)
    }
    let first = place(start)
    return axes[first..<max(first, place(end ?? axes.count))]
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    let shape = try required(0, of: operands).type.checked().shape
    return [ValueType(.int64, [.fixed(selected(shape.axes).count)])]
  }

  /// The output for an input of this shape, where the axes asked for are fixed; nil where one is
  /// free.
  public func value(for shape: Shape) throws(QMError) -> Tensor? {
    guard let extents = Shape(Array(selected(shape.axes))).extents else { return nil }
    return try Tensor([extents.count], extents.map { Int64($0) })
  }
}

/// Inputs: int64 extents; a scalar that fills them.
public struct Fill: OperationProtocol {
  public static let name = "Fill"
  public init() {}

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
}
