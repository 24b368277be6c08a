import QMTensor

// Operations that change the extents and leave every byte where it is: identity, reshape, flatten,
// squeeze, unsqueeze. They take every element type, and codes keep their quantization.
// Axes are counted from the front.

public struct Identity: ShapeChange {
  public static let name = "Identity"
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

/// Inputs: data; int32 or int64 extents, where −1 is what is left and 0 the input's extent
/// (unless `zeroIsZero`).
public struct Reshape: ShapeChange {
  public static let name = "Reshape"
  /// ONNX's `allowzero`.
  public var zeroIsZero: Bool
  public init(zeroIsZero: Bool = false) { self.zeroIsZero = zeroIsZero }

  public static let placeholder = Reshape()

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("zero is zero", &zeroIsZero)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(2...2, operands)
    var type = try movable(0, of: operands)
    let target = try integers(1, of: operands, "extents")
    let rank = try target.requiredCount("extents")
    if let extents = target.values {
      type.shape = try shape(type.shape, as: extents)
    } else {
      type.shape = .unknown(rank: rank)
    }
    return [try type.checked()]
  }

  /// The shape that `extents` ask for.
  ///
  /// With free axes, −1 is solved where they cancel: an axis that 0 copies stands on both sides.
  /// If one free axis is left on the input's side and the fixed extents agree, −1 is that axis;
  /// otherwise its name says which product it is, so that equal ones stay known to be equal.
  private func shape(_ input: Shape, as extents: [Int]) throws(QMError) -> Shape {
    var axes: [Shape.Axis] = []
    var copied: Set<Int> = []
    var unknown: Int?
    for (position, extent) in extents.enumerated() {
      switch extent {
      case -1:
        guard unknown == nil else { throw .malformed("extents \(extents) hold −1 twice") }
        unknown = position
        axes.append(1)
      case 0 where !zeroIsZero:
        guard position < input.rank else {
          throw .malformed(
            "extent 0 at place \(position) copies an axis that \(input) does not have")
        }
        copied.insert(position)
        axes.append(input[position])
      case 0...: axes.append(.fixed(extent))
      default: throw .malformed("extent \(extent) in \(extents)")
      }
    }
    if unknown != nil, zeroIsZero, extents.contains(0) {
      throw .malformed("extents \(extents) hold both −1 and 0, which leaves −1 open")
    }
    // Bounds the products below.
    _ = try ValueType(.int8, Shape(axes)).checked()

    let inputCount = Shape.fixedElementCount(of: input.axes)
    let outputCount = Shape.fixedElementCount(of: axes)
    let remaining = input.axes.indices.filter { input[$0].extent == nil && !copied.contains($0) }
    guard let unknown else {
      if remaining.isEmpty, inputCount != outputCount {
        throw .malformed("\(input) does not have the elements of extents \(extents)")
      }
      return Shape(axes)
    }
    if remaining.isEmpty {
      guard outputCount > 0, inputCount % outputCount == 0 else {
        throw .malformed("\(input) does not divide into extents \(extents)")
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
  /// Product of the fixed extents, which must have been checked against ``ValueLimits``.
  static func fixedElementCount(of axes: [Axis]) -> Int {
    axes.reduce(1) { $0 * ($1.extent ?? 1) }
  }

  /// What is known of the product of extents that have been checked against ``ValueLimits``.
  static func product(of axes: some Collection<Axis>) -> Axis {
    if axes.contains(0) { return 0 }
    let count = fixedElementCount(of: Array(axes))
    let free = axes.filter { $0.extent == nil }
    if free.isEmpty { return .fixed(count) }
    return free.count == 1 && count == 1 ? free[0] : .free("")
  }
}

/// Two axes: the product of those before `axis`, and of the rest.
public struct Flatten: ShapeChange {
  public static let name = "Flatten"
  public var axis: Int
  public init(axis: Int) { self.axis = axis }

  public static let placeholder = Flatten(axis: 0)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("axis", &axis)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    var type = try movable(0, of: operands)
    // The end of the axes is a place to cut at, too.
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
    // Two axes of one element each may change places, and rows stay rows.
    guard let shape = operands.first??.type.shape, shape.rank == order.rank,
      order.keepsOrder(without: shape.axes.indices.filter { shape[$0] == 1 }),
      order.sources.prefix(axis).allSatisfy({ $0 < axis })
    else { return nil }
    return ReorderedForm(.flatten(self), [.reordered], of: operands, reordersOutput: false)
  }
}

/// Drops axes of extent 1; nil: all of them.
public struct Squeeze: ShapeChange {
  public static let name = "Squeeze"
  public var axes: [Int]?
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
        // A free axis must turn out to be 1; the rule is asked again when it is known.
        guard type.shape[axis].extent ?? 1 == 1 else {
          throw .malformed("axis \(axis) of \(type.shape) is dropped; its extent must be 1")
        }
      }
      dropped = axes
    } else {
      guard type.shape.extents != nil else {
        throw .unsupported("Squeeze of \(type.shape) without axes: the rank depends on the run")
      }
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

/// Adds axes of extent 1 at these places of the result, ascending.
public struct Unsqueeze: ShapeChange {
  public static let name = "Unsqueeze"
  public var axes: [Int]
  public init(axes: [Int]) { self.axes = axes }

  public static let placeholder = Unsqueeze(axes: [])

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("axes", &axes)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    var type = try movable(0, of: operands)
    try expectAxes(axes, rank: type.shape.rank + axes.count)
    // Ascending places: each is final when it is inserted.
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
