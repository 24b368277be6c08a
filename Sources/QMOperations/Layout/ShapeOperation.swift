import QMTensor

/// The extents `start..<end` of the input, int64. Negative bounds count from the end and are
/// clamped to the rank.
public struct ShapeOperation: PositionOperation {
  public static let name = "Shape"
  public var start: Int
  /// nil: all.
  public var end: Int?
  public init(start: Int = 0, end: Int? = nil) {
    self.start = start
    self.end = end
  }

  public static let placeholder = ShapeOperation()

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("start", &start)
    try visitor.visit("end", &end)
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

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    for (index, extent) in selected(inputs[0]!.shape).enumerated() {
      outputs[0].elements(as: Int64.self)[index] = Int64(extent)
    }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    guard kernels != .reference else { return nil }
    let extents = selected(try required(0, of: operands).type.concreteExtents()).map { Int64($0) }
    return Kernel(name: Self.name) { (memory) throws(QMError) in
      let output = memory.outputs[0]!
      for (index, extent) in extents.enumerated() {
        output.storeBytes(of: extent, toByteOffset: 8 * index, as: Int64.self)
      }
    }
  }
}
