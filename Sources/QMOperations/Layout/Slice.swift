import QMTensor

/// Selects ranges along axes.
///
/// Inputs: data; starts, ends, axes (optional) and steps (optional), each int32 or int64 `[k]`,
/// clamped as in ONNX. Negative starts, ends and axes count from the end.
public struct Slice: FirstOperandMovement {
  public static let name = "Slice"
  /// It has no attributes.
  public init() {}
  public static let placeholder = Slice()
  public func visitAttributes<V: AttributeVisitor>(_: inout V) {}

  /// The selected indices of one axis: `start`, `start + step`, …
  struct Range: Hashable {
    var start: Int
    var step: Int
    var count: Int

    /// ONNX's rule: negative bounds count from the end; then bounds are clamped to the axis.
    /// - Throws: `malformed` if the step is 0.
    init(start: Int, end: Int, step: Int, extent: Int) throws(QMError) {
      guard step != 0 else { throw .malformed(Slice.stepMessage) }
      // Any longer step selects the first element only, like this one. The bound prevents overflow.
      let step = min(max(step, -extent - 1), extent + 1)
      let fromFront = (start < 0 ? start + extent : start, end < 0 ? end + extent : end)
      let limits = step > 0 ? (0, extent) : (-1, extent - 1)
      let first = min(max(fromFront.0, step > 0 ? 0 : min(0, extent - 1)), limits.1)
      let last = min(max(fromFront.1, limits.0), limits.1)
      let distance = step > 0 ? last - first : first - last
      self.start = first
      self.step = step
      self.count = distance <= 0 ? 0 : (distance - 1) / abs(step) + 1
    }

    /// The whole axis.
    init(extent: Int) {
      start = 0
      step = 1
      count = extent
    }
  }

  private static let stepMessage = "a slice needs a step other than 0"

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(3...5, operands)
    var type = try movable(0, of: operands)
    let starts = try integers(1, of: operands, "starts")
    let ends = try integers(2, of: operands, "ends")
    let axes = try optional(3, of: operands) == nil ? nil : integers(3, of: operands, "axes")
    let steps = try optional(4, of: operands) == nil ? nil : integers(4, of: operands, "steps")

    let counts = [starts.count, ends.count, axes?.count, steps?.count].compactMap { $0 }
    if let count = counts.first {
      guard counts.allSatisfy({ $0 == count }), count <= type.shape.rank else {
        throw .malformed(
          "starts, ends, axes and steps need one count up to \(type.shape.rank), found \(counts)"
        )
      }
    }
    // Unless the sliced axes are known, nothing is known of any axis.
    let places: [Int]
    if let axes {
      guard let values = axes.values else {
        type.shape = .unknown(rank: type.shape.rank)
        return [type]
      }
      places = try Self.places(values, rank: type.shape.rank)
    } else if let count = counts.first {
      places = Array(0..<count)
    } else {
      type.shape = .unknown(rank: type.shape.rank)
      return [type]
    }

    guard let first = starts.values, let last = ends.values, steps == nil || steps?.values != nil
    else {
      for axis in places { type.shape[axis] = .free("") }
      return [type]
    }
    let stride = steps?.values ?? Array(repeating: 1, count: places.count)
    for (position, axis) in places.enumerated() {
      type.shape[axis] = try Self.extent(
        of: type.shape[axis], start: first[position], end: last[position], step: stride[position])
    }
    return [type]
  }

  /// The axes counted from the front.
  /// - Throws: `malformed` if an axis is outside the rank, or is there twice.
  static func places(_ axes: [Int], rank: Int) throws(QMError) -> [Int] {
    var places: [Int] = []
    for axis in axes {
      let place = axis < 0 ? axis &+ rank : axis
      guard (0..<rank).contains(place), !places.contains(place) else {
        throw .malformed("axes of a value of rank \(rank) must be distinct, found \(axes)")
      }
      places.append(place)
    }
    return places
  }

  private static func extent(
    of axis: Shape.Axis, start: Int, end: Int, step: Int
  ) throws(QMError) -> Shape.Axis {
    if let extent = axis.extent {
      return .fixed(try Range(start: start, end: end, step: step, extent: extent).count)
    }
    guard step != 0 else { throw .malformed(stepMessage) }
    // ONNX writes "to the end" as a very large number of 32 or 64 bits.
    let isWhole = start == 0 && end >= Int(Int32.max) && step == 1
    let isReversal = start == -1 && end <= Int(Int32.min) && step == -1
    return isWhole || isReversal ? axis : .free("")
  }

  /// The selected range of every axis of an input of this shape.
  private func ranges(
    of shape: [Int], starts: [Int], ends: [Int], axes: [Int]?, steps: [Int]?
  ) throws(QMError) -> [Range] {
    var ranges = shape.map { Range(extent: $0) }
    let places = try Self.places(axes ?? Array(starts.indices), rank: shape.count)
    guard ends.count == starts.count, places.count == starts.count,
      steps?.count ?? starts.count == starts.count
    else { throw .invalidInput("starts, ends, axes and steps need one count") }
    for (position, axis) in places.enumerated() {
      ranges[axis] = try Range(
        start: starts[position], end: ends[position], step: steps?[position] ?? 1,
        extent: shape[axis])
    }
    return ranges
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!
    func values(_ index: Int) -> [Int]? { index < inputs.count ? inputs[index]?.integers() : nil }
    let ranges = try ranges(
      of: input.shape, starts: values(1)!, ends: values(2)!, axes: values(3), steps: values(4))
    try expectShape(ranges.map(\.count), of: outputs[0])
    try forEachIndex(of: outputs[0].shape) { (index) throws(QMError) in
      let place = zip(index, ranges).map { $1.start + $0 * $1.step }
      outputs[0].copyElement(at: index, from: input, at: place)
    }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let input = try required(0, of: operands).type
    var values: [[Int]?] = []
    for index in 1...4 {
      guard optional(index, of: operands) != nil else {
        values.append(nil)
        continue
      }
      // The reference loops read bounds that are computed during the run.
      guard let known = try integers(index, of: operands, "bounds").values else { return nil }
      values.append(known)
    }
    guard let starts = values[0], let ends = values[1] else { return nil }
    let shape = try input.concreteShape()
    let ranges = try ranges(
      of: shape, starts: starts, ends: ends, axes: values[2], steps: values[3])
    let size = input.elementType.byteCount
    let inStrides = StridedCopy.strides(of: shape, elementByteCount: size)
    let counts = ranges.map(\.count)
    let offset = zip(ranges, inStrides).reduce(0) { $0 &+ $1.0.start &* $1.1 }
    let copy = StridedCopy(
      elementByteCount: size, extents: counts,
      outStrides: StridedCopy.strides(of: counts, elementByteCount: size),
      inStrides: zip(ranges, inStrides).map { $0.step &* $1 }, inOffset: offset)
    return .moving(Self.name, kernels, [(.input(0), copy)])
  }
}

extension Slice {
  public var keepsName: Bool { false }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    guard let axes = Self.integers(operands, 3), axes.allSatisfy(order.places.indices.contains)
    else { return nil }
    return ReorderedForm(
      .slice(self),
      [.reordered, .unchanged, .unchanged, .replaced(axes.map { order.places[$0] })], of: operands)
  }
}
