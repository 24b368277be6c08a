import QMTensor

// Operations that change the shape and leave every byte in place: identity, reshape, flatten,
// squeeze, unsqueeze. They take every element type, and codes keep their quantization.
// Axes are counted from the front.

/// The input itself, of any type and quantization.
public struct Identity: ShapeChange {
  public static let name = "Identity"
  /// It has no attributes.
  public init() {}
  public static let placeholder = Identity()
  public func visitAttributes<V: AttributeVisitor>(_: inout V) {}

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    return [try required(0, of: operands).type.checked()]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    try outputs[0].copyBytes(from: inputs[0]!)
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    try .copyingBytes(of: outputs[0], Self.name, kernels)
  }
}

extension Identity {
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    ReorderedForm(.identity(self), [.reordered], of: operands)
  }
}

/// The elements of the input in another shape.
///
/// Inputs: data; the shape, int32 or int64. An entry of −1 is computed from the other entries; an
/// entry of 0 copies the input's extent (unless `zeroIsZero`).
public struct Reshape: ShapeChange {
  public static let name = "Reshape"
  /// Whether an entry of 0 is an extent of 0 (ONNX's `allowzero`).
  public var zeroIsZero: Bool
  /// - Parameter zeroIsZero: whether an entry of 0 is an extent of 0.
  public init(zeroIsZero: Bool = false) { self.zeroIsZero = zeroIsZero }

  public static let placeholder = Reshape()

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("zero is zero", &zeroIsZero)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(2...2, operands)
    var type = try movable(0, of: operands)
    let target = try integers(1, of: operands, "the shape")
    let rank = try target.requiredCount("the shape")
    if let entries = target.values {
      type.shape = try shape(type.shape, as: entries)
    } else {
      type.shape = .unknown(rank: rank)
    }
    return [try type.checked()]
  }

  /// The output's shape from the entries of the second input.
  ///
  /// A dynamic axis that 0 copies is on both sides and cancels. If no other dynamic axes are left,
  /// −1 is a known extent. If one is left and the known extents agree, −1 is that axis. Otherwise
  /// −1 is a dynamic axis whose name is the formula of the product, so that axes with the same
  /// formula are known to be equal.
  private func shape(_ input: Shape, as entries: [Int]) throws(QMError) -> Shape {
    var axes: [Shape.Axis] = []
    var copied: Set<Int> = []
    var unknown: Int?
    for (position, entry) in entries.enumerated() {
      switch entry {
      case -1:
        guard unknown == nil else { throw .malformed("shape \(entries) has −1 twice") }
        unknown = position
        axes.append(1)
      case 0 where !zeroIsZero:
        guard position < input.rank else {
          throw .malformed(
            "entry \(position) of shape \(entries) copies an axis that \(input) does not have")
        }
        copied.insert(position)
        axes.append(input[position])
      case 0...: axes.append(.fixed(entry))
      default: throw .malformed("shape \(entries) has the negative entry \(entry)")
      }
    }
    if unknown != nil, zeroIsZero, entries.contains(0) {
      throw .malformed("shape \(entries) has both −1 and 0, so that −1 could be any extent")
    }
    // Bounds the products below.
    _ = try ValueType(.int8, Shape(axes)).checked()

    let inputCount = Shape.fixedElementCount(of: input.axes)
    let outputCount = Shape.fixedElementCount(of: axes)
    let remaining = input.axes.indices.filter { input[$0].extent == nil && !copied.contains($0) }
    guard let unknown else {
      if remaining.isEmpty, inputCount != outputCount {
        throw .malformed("shape \(entries) has another element count than \(input)")
      }
      return Shape(axes)
    }
    if remaining.isEmpty {
      guard outputCount > 0, inputCount % outputCount == 0 else {
        throw .malformed("the elements of \(input) do not divide into shape \(entries)")
      }
      axes[unknown] = .fixed(inputCount / outputCount)
    } else if remaining.count == 1, inputCount == outputCount, inputCount > 0 {
      axes[unknown] = input[remaining[0]]
    } else {
      let names = remaining.compactMap { axis in
        if case .free(let name) = input[axis], !name.isEmpty { name } else { nil }
      }
      if names.count == remaining.count, outputCount > 0, inputCount % outputCount == 0 {
        let factor = inputCount / outputCount
        axes[unknown] = .derived(
          "(\(names.joined(separator: "*"))\(factor == 1 ? "" : "*\(factor)"))")
      } else {
        axes[unknown] = .free("")
      }
    }
    return Shape(axes)
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    try outputs[0].copyBytes(from: inputs[0]!)
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    try .copyingBytes(of: outputs[0], Self.name, kernels)
  }
}

extension Reshape {
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
}

extension Shape {
  /// Product of the known extents, which must be within ``ValueLimits``.
  static func fixedElementCount(of axes: [Axis]) -> Int {
    axes.reduce(1) { $0 * ($1.extent ?? 1) }
  }

  /// The product of axes within ``ValueLimits``, as far as it is known.
  static func product(of axes: some Collection<Axis>) -> Axis {
    if axes.contains(0) { return 0 }
    let count = fixedElementCount(of: Array(axes))
    let free = axes.filter { $0.extent == nil }
    if free.isEmpty { return .fixed(count) }
    return free.count == 1 && count == 1 ? free[0] : .free("")
  }
}

/// The elements of the input in two axes: the product of the axes before `axis`, and of the rest.
public struct Flatten: ShapeChange {
  public static let name = "Flatten"
  /// The first axis of the second product, from 0 to the rank.
  public var axis: Int
  /// - Parameter axis: the first axis of the second product.
  public init(axis: Int) { self.axis = axis }

  public static let placeholder = Flatten(axis: 0)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("axis", &axis)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    var type = try movable(0, of: operands)
    // The axis may equal the rank: then the second product is 1.
    try expectAxis(axis, rank: type.shape.rank + 1)
    let axes = type.shape.axes
    type.shape = Shape([Shape.product(of: axes[..<axis]), Shape.product(of: axes[axis...])])
    return [try type.checked()]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    try outputs[0].copyBytes(from: inputs[0]!)
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    try .copyingBytes(of: outputs[0], Self.name, kernels)
  }
}

extension Flatten {
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    // Only axes of extent 1 may be reordered, and no axis may change from one product to the other.
    guard let shape = operands.first??.type.shape, shape.rank == order.rank,
      order.keepsOrder(without: shape.axes.indices.filter { shape[$0] == 1 }),
      order.sources.prefix(axis).allSatisfy({ $0 < axis })
    else { return nil }
    return ReorderedForm(.flatten(self), [.reordered], of: operands, reordersOutput: false)
  }
}

/// Drops axes of extent 1.
public struct Squeeze: ShapeChange {
  public static let name = "Squeeze"
  /// The dropped axes, ascending; nil for all fixed axes of extent 1, where a dynamic axis must have
  /// another extent in the run.
  public var axes: [Int]?
  /// - Parameter axes: ascending; nil for all fixed axes of extent 1.
  public init(axes: [Int]?) { self.axes = axes }

  public static let placeholder = Squeeze(axes: nil)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("axes", &axes)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    var type = try movable(0, of: operands)
    let dropped: [Int]
    if let axes {
      try expectAxes(axes, rank: type.shape.rank)
      for axis in axes {
        // A dynamic axis must be 1 in the run; the rule is checked again when it is known.
        guard type.shape[axis].extent ?? 1 == 1 else {
          throw .malformed("a dropped axis must have extent 1, found axis \(axis) of \(type.shape)")
        }
      }
      dropped = axes
    } else {
      // A dynamic axis is taken as another extent than 1. In the run the rule is applied to the
      // extents, and a result of another rank is refused there.
      dropped = type.shape.axes.indices.filter { type.shape[$0] == 1 }
    }
    let kept = type.shape.axes.indices.filter { !dropped.contains($0) }
    type.shape = Shape(kept.map { type.shape[$0] })
    return [type]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    try outputs[0].copyBytes(from: inputs[0]!)
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    try .copyingBytes(of: outputs[0], Self.name, kernels)
  }
}

extension Squeeze {
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    guard let axes, axes.allSatisfy(order.places.indices.contains),
      order.keepsOrder(without: axes)
    else { return nil }
    let places = axes.map { order.places[$0] }.sorted()
    return ReorderedForm(
      .squeeze(Squeeze(axes: places)), [.reordered], of: operands, reordersOutput: false)
  }
}

/// Adds axes of extent 1.
public struct Unsqueeze: ShapeChange {
  public static let name = "Unsqueeze"
  /// The added axes, as axes of the output, ascending.
  public var axes: [Int]
  /// - Parameter axes: as axes of the output, ascending.
  public init(axes: [Int]) { self.axes = axes }

  public static let placeholder = Unsqueeze(axes: [])

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("axes", &axes)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    var type = try movable(0, of: operands)
    try expectAxes(axes, rank: type.shape.rank + axes.count)
    // The axes ascend, so that each keeps its position once it is inserted.
    for axis in axes { type.shape.axes.insert(1, at: axis) }
    return [try type.checked()]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    try outputs[0].copyBytes(from: inputs[0]!)
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    try .copyingBytes(of: outputs[0], Self.name, kernels)
  }
}

extension Unsqueeze {
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
}
