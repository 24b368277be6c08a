import QMTensor

/// Joins any number of inputs of one element type and quantization along `axis`.
public struct Concatenate: DataMovement {
  public static let name = "Concatenate"
  /// Counted from the front.
  public var axis: Int
  /// - Parameter axis: counted from the front.
  public init(axis: Int) { self.axis = axis }

  public static let placeholder = Concatenate(axis: 0)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("axis", &axis)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    var result = try movable(0, of: operands)
    try expectAxis(axis, rank: result.shape.rank)
    for index in operands.indices.dropFirst() {
      let next = try movable(index, of: operands)
      guard next.elementType == result.elementType, next.quantization == result.quantization,
        next.shape.rank == result.shape.rank
      else {
        throw .malformed(
          "\(Self.name) joins inputs of one element type, quantization and rank, found \(result) "
            + "and \(next)")
      }
      for position in next.shape.axes.indices {
        if position == axis {
          result.shape[axis] = Self.sum(result.shape[axis], next.shape[axis])
        } else {
          result.shape[position] = try unified(
            result.shape[position], next.shape[position],
            "axis \(position) of \(result.shape) and \(next.shape), joined along axis \(axis)")
        }
      }
      result = try result.checked()
    }
    return [result]
  }

  /// The sum of two extents within ``ValueLimits``.
  private static func sum(_ left: Shape.Axis, _ right: Shape.Axis) -> Shape.Axis {
    guard left != 0 else { return right }
    guard right != 0 else { return left }
    guard let left = left.extent, let right = right.extent else { return .free("") }
    return .fixed(left + right)
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    var start = 0
    for input in inputs.compactMap({ $0 }) {
      try forEachIndex(of: input.shape) { (index) throws(QMError) in
        var place = index
        place[axis] += start
        outputs[0].copyElement(at: place, from: input, at: index)
      }
      start += input.shape[axis]
    }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let size = outputs[0].elementType.byteCount
    let outStrides = StridedCopy.strides(
      of: try outputs[0].concreteShape(), elementByteCount: size)
    var steps: [(source: Kernel.MoveSource, copy: StridedCopy)] = []
    var start = 0
    for index in operands.indices {
      let shape = try required(index, of: operands).type.concreteShape()
      let copy = StridedCopy(
        elementByteCount: size, extents: shape, outStrides: outStrides,
        inStrides: StridedCopy.strides(of: shape, elementByteCount: size),
        outOffset: start * outStrides[axis])
      start += shape[axis]
      if !copy.isEmpty { steps.append((.input(index), copy)) }
    }
    return .moving(Self.name, kernels, steps)
  }
}

extension Concatenate {
  public func movedOperands(of operandCount: Int) -> [Int] { Array(0..<operandCount) }
  public var keepsBytes: Bool { false }
  public var keepsName: Bool { false }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    guard order.places.indices.contains(axis) else { return nil }
    var result = self
    result.axis = order.places[axis]
    return ReorderedForm(
      .concatenate(result), operands.map { _ in .reordered }, of: operands)
  }
}

/// Divides the input into consecutive parts along `axis`, one output per part.
public struct Split: FirstOperandMovement {
  public static let name = "Split"

  /// Extents of the parts along the axis.
  public enum Sizes: Hashable, Sendable {
    /// The extent of each part.
    case explicit([Int])
    /// Equal parts; the last is smaller if the extent does not divide evenly.
    case equal(parts: Int)

    private enum Kind: UInt8, CaseIterable {
      case explicit = 0
      case equal = 1
    }

    mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
      var (kind, sizes, parts): (Kind, [Int], Int) =
        switch self {
        case .explicit(let sizes): (.explicit, sizes, 0)
        case .equal(let parts): (.equal, [], parts)
        }
      try visitor.visit("sizes", &kind)
      switch kind {
      case .explicit:
        try visitor.visit("sizes of parts", &sizes)
        self = .explicit(sizes)
      case .equal:
        try visitor.visit("parts", &parts)
        self = .equal(parts: parts)
      }
    }
  }
  /// Counted from the front.
  public var axis: Int
  /// Extents of the parts along the axis.
  public var sizes: Sizes
  /// - Parameter axis: counted from the front.
  public init(axis: Int, sizes: Sizes) {
    self.axis = axis
    self.sizes = sizes
  }

  public static let placeholder = Split(axis: 0, sizes: .explicit([]))

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("axis", &axis)
    try sizes.visitAttributes(&visitor)
  }

  /// Largest number of outputs of a node.
  private static let largestPartCount = 1 << 16

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    let type = try movable(0, of: operands)
    try expectAxis(axis, rank: type.shape.rank)
    var results: [ValueType] = []
    for extent in try parts(of: type.shape[axis]) {
      var part = type
      part.shape[axis] = extent
      results.append(try part.checked())
    }
    return results
  }

  private func parts(of axis: Shape.Axis) throws(QMError) -> [Shape.Axis] {
    switch sizes {
    case .explicit(let sizes):
      guard (1...Self.largestPartCount).contains(sizes.count) else {
        throw .malformed(Self.countMessage(sizes.count))
      }
      var sum = 0
      for size in sizes {
        let (next, overflow) = sum.addingReportingOverflow(size)
        guard size >= 0, !overflow else {
          throw .malformed("\(Self.name) cannot make a part of \(size) elements")
        }
        sum = next
      }
      guard axis.extent ?? sum == sum else {
        throw .malformed("the parts have \(sum) elements, but the axis has \(axis)")
      }
      return sizes.map { .fixed($0) }
    case .equal(let parts):
      guard (1...Self.largestPartCount).contains(parts) else {
        throw .malformed(Self.countMessage(parts))
      }
      guard parts > 1 else { return [axis] }
      guard let extent = axis.extent else {
        return Array(repeating: .free(""), count: parts)
      }
      let size = extent / parts + (extent % parts == 0 ? 0 : 1)
      let last = extent - size * (parts - 1)
      guard last >= 0 else {
        throw .malformed("\(extent) elements do not fill \(parts) parts of \(size) elements")
      }
      return Array(repeating: .fixed(size), count: parts - 1) + [.fixed(last)]
    }
  }

  private static func countMessage(_ count: Int) -> String {
    "\(name) makes 1 to \(largestPartCount) parts, found \(count)"
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    var start = 0
    for output in outputs {
      try forEachIndex(of: output.shape) { (index) throws(QMError) in
        var place = index
        place[axis] += start
        output.copyElement(at: index, from: inputs[0]!, at: place)
      }
      start += output.shape[axis]
    }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    guard let set = kernels.number else { return nil }
    let input = try required(0, of: operands).type
    let size = input.elementType.byteCount
    let inStrides = StridedCopy.strides(of: try input.concreteShape(), elementByteCount: size)
    var copies: [StridedCopy] = []
    var start = 0
    for output in outputs {
      let shape = try output.concreteShape()
      copies.append(
        StridedCopy(
          elementByteCount: size, extents: shape,
          outStrides: StridedCopy.strides(of: shape, elementByteCount: size),
          inStrides: inStrides, inOffset: start &* inStrides[axis]))
      start += shape[axis]
    }
    return Kernel(name: "\(Self.name) \(kernels.rawValue)") { [copies] (memory) throws(QMError) in
      for (index, copy) in copies.enumerated() {
        copy.run(from: memory.inputs[0]!, to: memory.outputs[index]!, set, memory.threads)
      }
    }
  }
}

extension Split {
  public var keepsName: Bool { false }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    guard order.places.indices.contains(axis) else { return nil }
    var result = self
    result.axis = order.places[axis]
    return ReorderedForm(.split(result), [.reordered], of: operands)
  }
}
