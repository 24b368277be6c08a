import QMTensor

/// Looks up elements along `axis` by index.
///
/// Inputs: data; int32 or int64 indices, of which negative ones count from the end. In the output,
/// the axes of the indices replace `axis`.
///
/// Rows of weights with one scale per row (`axis` 0) stay codes: the output has dynamic
/// quantization over the axes of the indices. Another Gather with the same indices looks up its
/// parameters in the table of the rows' scales and zero points.
public struct Gather: FirstOperandMovement {
  public static let name = "Gather"
  /// Counted from the front.
  public var axis: Int
  /// - Parameter axis: counted from the front.
  public init(axis: Int) { self.axis = axis }

  public static let placeholder = Gather(axis: 0)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("axis", &axis)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(2...2, operands)
    var type = try required(0, of: operands).type
    let isTable: Bool
    if case .weights(_, .perChannel(0)) = type.quantization, axis == 0, type.elementType == .int8 {
      isTable = true
    } else {
      isTable = false
      type = try movable(0, of: operands)
    }
    let indices = try required(1, of: operands).type.checked()
    guard indices.elementType == .int64 || indices.elementType == .int32,
      indices.quantization == .none
    else { throw .malformed("indices must be int32 or int64, found \(indices)") }
    try expectAxis(axis, rank: type.shape.rank)
    if let extent = type.shape[axis].extent,
      let values = try required(1, of: operands).constant?.integers()
    {
      do { _ = try Self.places(values, extent: extent) } catch { throw .malformed(error.message) }
    }
    type.shape.axes.replaceSubrange(axis...axis, with: indices.shape.axes)
    if isTable { type.quantization = .dynamic(axes: indices.shape.rank) }
    return [try type.checked()]
  }

  /// The indices counted from the front of an axis of `extent` elements.
  /// - Throws: `invalidInput` if an index is outside the axis.
  private static func places(_ indices: [Int], extent: Int) throws(QMError) -> [Int] {
    var places: [Int] = []
    places.reserveCapacity(indices.count)
    for index in indices {
      guard (-extent..<extent).contains(index) else {
        throw .invalidInput("index \(index) is outside an axis of \(extent) elements")
      }
      places.append(index < 0 ? index + extent : index)
    }
    return places
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let (data, indices) = (inputs[0]!, inputs[1]!)
    let places = try Self.places(indices.integers(), extent: data.shape[axis])
    let rank = indices.shape.count
    try forEachIndex(of: outputs[0].shape) { (index) throws(QMError) in
      let position = zip(index[axis..<axis + rank], indices.shape).reduce(0) { $0 * $1.1 + $1.0 }
      var place = index
      place.replaceSubrange(axis..<axis + rank, with: [places[position]])
      outputs[0].copyElement(at: index, from: data, at: place)
    }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    guard kernels != .reference else { return nil }
    let data = try required(0, of: operands).type
    let indices = try required(1, of: operands).type
    let shape = try data.concreteShape()
    let indexShape = try indices.concreteShape()
    let blockByteCount = shape[(axis + 1)...].reduce(data.elementType.byteCount, &*)
    let outerCount = shape[..<axis].reduce(1, &*)
    let extent = shape[axis]
    let outputCount = Shape.elementCount(of: try outputs[0].concreteShape()) ?? 0
    return Kernel(name: "\(Self.name) \(kernels.rawValue)") { (memory) throws(QMError) in
      let view = TensorView(indices.elementType, indexShape, base: memory.inputs[1]!)
      let places = try Self.places(view.integers(), extent: extent)
      guard outputCount > 0 else { return }
      let input = UnsafeRawPointer(memory.inputs[0]!)
      let output = memory.outputs[0]!
      let blockCount = outerCount * places.count
      memory.threads.run(forRangesOf: blockCount, byteCount: blockByteCount) { range, _ in
        for block in range {
          let (outer, position) = block.quotientAndRemainder(dividingBy: places.count)
          (output + block * blockByteCount).copyMemory(
            from: input + (outer * extent + places[position]) * blockByteCount,
            byteCount: blockByteCount)
        }
      }
    }
  }
}

extension Gather {
  public var keepsName: Bool { false }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
  /// A table whose rows are looked up.
  public func weightOperands(of operands: [Operand?]) -> [WeightOperand] {
    [WeightOperand(0, channelAxis: axis, use: .table)]
  }
}
