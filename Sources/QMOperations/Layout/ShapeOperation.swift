import QMTensor

/// The extents of the input's axes `start..<end`, int64. Negative bounds count from the end; bounds
/// are clamped to 0…rank.
public struct ShapeOperation: PositionOperation {
  public static let name = "Shape"
  /// The first axis.
  public var start: Int
  /// The end of the axes; nil for the rank.
  public var end: Int?
  /// All axes, unless stated otherwise.
  public init(start: Int = 0, end: Int? = nil) {
    self.start = start
    self.end = end
  }

  public static let placeholder = ShapeOperation()

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("start", &start)
    try visitor.visit("end", &end)
  }

  /// The axes `start..<end`.
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

  /// The output for an input of this shape; nil if one of the axes is dynamic.
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
    let extents = selected(try required(0, of: operands).type.concreteShape()).map { Int64($0) }
    return Kernel(name: Self.name) { (memory) throws(QMError) in
      let output = memory.outputs[0]!
      for (index, extent) in extents.enumerated() {
        output.storeBytes(of: extent, toByteOffset: 8 * index, as: Int64.self)
      }
    }
  }
}
