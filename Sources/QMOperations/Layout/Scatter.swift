import QMTensor

// Operations that read or write elements by index. Indices are int32 or int64; negative ones count
// from the end.

/// `output[…, i, …] = x[…, indices[…, i, …], …]` along `axis`; the output has the indices' shape.
public struct GatherElements: FirstOperandMovement {
  public static let name = "GatherElements"
  /// Counted from the front.
  public var axis: Int
  /// - Parameter axis: counted from the front.
  public init(axis: Int) { self.axis = axis }

  public static let placeholder = GatherElements(axis: 0)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("axis", &axis)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(2...2, operands)
    var type = try movable(0, of: operands)
    let indices = try indexType(1, of: operands)
    try expectAxis(axis, rank: type.shape.rank)
    try expectWithin(indices.shape, type.shape, except: axis)
    type.shape = indices.shape
    return [try type.checked()]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let (data, indices) = (inputs[0]!, inputs[1]!.integers())
    var position = 0
    try forEachIndex(of: outputs[0].shape) { (index) throws(QMError) in
      var place = index
      place[axis] = try placed(indices[position], extent: data.shape[axis])
      outputs[0].copyElement(at: index, from: data, at: place)
      position += 1
    }
  }
}

extension GatherElements {
  public var keepsName: Bool { false }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
}

/// Looks up elements or slices of x: each row of the indices' last axis is the index of one. The
/// first `batchAxes` axes of x and of the indices are the same batch axes.
public struct GatherND: FirstOperandMovement {
  public static let name = "GatherND"
  /// Number of leading axes that x and the indices have in common.
  public var batchAxes: Int
  /// - Parameter batchAxes: number of leading axes that x and the indices have in common.
  public init(batchAxes: Int) { self.batchAxes = batchAxes }

  public static let placeholder = GatherND(batchAxes: 0)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("batch axes", &batchAxes)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(2...2, operands)
    var type = try movable(0, of: operands)
    let indices = try indexType(1, of: operands)
    guard let depth = indices.shape.axes.last?.extent, depth >= 1, batchAxes >= 0,
      batchAxes < indices.shape.rank, batchAxes + depth <= type.shape.rank
    else {
      throw .malformed("indices \(indices) do not fit \(type) with \(batchAxes) batch axes")
    }
    for axis in 0..<batchAxes {
      _ = try unified(type.shape[axis], indices.shape[axis], "axis \(axis) of data and indices")
    }
    type.shape = Shape(
      Array(indices.shape.axes.dropLast() + type.shape.axes[(batchAxes + depth)...]))
    return [try type.checked()]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let (data, indices) = (inputs[0]!, inputs[1]!)
    let depth = indices.shape[indices.shape.count - 1]
    let numbers = indices.integers()
    let outer = indices.shape.dropLast()
    let block = data.shape[(batchAxes + depth)...].reduce(data.elementType.byteCount, *)
    var position = 0
    try forEachIndex(of: Array(outer)) { (index) throws(QMError) in
      var place = 0
      for axis in 0..<batchAxes { place = place * data.shape[axis] + index[axis] }
      for axis in 0..<depth {
        let extent = data.shape[batchAxes + axis]
        place = place * extent + (try placed(numbers[position * depth + axis], extent: extent))
      }
      (outputs[0].base + position * block).copyMemory(
        from: data.base + place * block, byteCount: block)
      position += 1
    }
  }
}

extension GatherND {
  public var keepsName: Bool { false }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
}

/// How an update is combined with the element at its position. Raw values are written in files.
public enum ScatterReduction: UInt8, Hashable, Sendable, CaseIterable {
  /// The update replaces the element; the last of several updates counts.
  case replace = 0
  case add = 1
  case multiply = 2
  case minimum = 3
  case maximum = 4
}

/// x with updates written at `…, indices[…, i, …], …` along `axis`, one after the other.
/// Inputs: x; indices; updates, with the indices' shape. Reductions other than `replace` take
/// float32, int32 or int64 and compute as ``Binary``.
public struct ScatterElements: ConditionalMovement {
  public static let name = "ScatterElements"
  /// Counted from the front.
  public var axis: Int
  /// How an update is combined with the element at its position.
  public var reduction: ScatterReduction
  /// - Parameter axis: counted from the front.
  public init(axis: Int, _ reduction: ScatterReduction) {
    self.axis = axis
    self.reduction = reduction
  }

  public static let placeholder = ScatterElements(axis: 0, .replace)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("axis", &axis)
    try visitor.visit("reduction", &reduction)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    let (type, indices, updates) = try scatterTypes(operands, reduction)
    try expectAxis(axis, rank: type.shape.rank)
    try expectWithin(indices.shape, type.shape, except: axis)
    guard updates.shape.rank == indices.shape.rank else {
      throw .malformed("updates must have the shape of the indices \(indices), found \(updates)")
    }
    for position in indices.shape.axes.indices {
      _ = try unified(
        indices.shape[position], updates.shape[position], "axis \(position) of indices and updates")
    }
    return [type]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let (data, updates) = (inputs[0]!, inputs[2]!)
    let indices = inputs[1]!.integers()
    try outputs[0].copyBytes(from: data)
    var position = 0
    try forEachIndex(of: updates.shape) { (index) throws(QMError) in
      var place = index
      place[axis] = try placed(indices[position], extent: data.shape[axis])
      let flat = zip(place, data.shape).reduce(0) { $0 * $1.1 + $1.0 }
      outputs[0].put(updates, at: position, to: flat, reduction)
      position += 1
    }
  }
}

extension ScatterElements {
  /// Elements of x and the updates, unless they are combined.
  public func elementSource(operandCount: Int) -> ElementSource {
    reduction == .replace ? .moved(from: [0, 2]) : .computed
  }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
}

/// x with updates written one after the other: each row of the indices' last axis is the index of
/// an element or slice. Inputs and `reduction` as in ``ScatterElements``.
public struct ScatterND: ConditionalMovement {
  public static let name = "ScatterND"
  /// How an update is combined with the element at its position.
  public var reduction: ScatterReduction
  /// - Parameter reduction: how an update is combined with the element at its position.
  public init(_ reduction: ScatterReduction) { self.reduction = reduction }

  public static let placeholder = ScatterND(.replace)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("reduction", &reduction)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    let (type, indices, updates) = try scatterTypes(operands, reduction)
    guard let depth = indices.shape.axes.last?.extent, depth <= type.shape.rank else {
      throw .malformed("indices \(indices) do not fit \(type)")
    }
    let expected = Shape(Array(indices.shape.axes.dropLast() + type.shape.axes[depth...]))
    guard expected.rank == updates.shape.rank else {
      throw .malformed("updates must have shape \(expected), found \(updates)")
    }
    for position in expected.axes.indices {
      _ = try unified(
        expected[position], updates.shape[position], "axis \(position) of the updates")
    }
    return [type]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let (data, indices, updates) = (inputs[0]!, inputs[1]!, inputs[2]!)
    let depth = indices.shape[indices.shape.count - 1]
    let numbers = indices.integers()
    let block = data.shape[depth...].reduce(1, *)
    try outputs[0].copyBytes(from: data)
    for row in 0..<indices.shape.dropLast().reduce(1, *) {
      var place = 0
      for axis in 0..<depth {
        let extent = data.shape[axis]
        place = place * extent + (try placed(numbers[row * depth + axis], extent: extent))
      }
      for element in 0..<block {
        outputs[0].put(updates, at: row * block + element, to: place * block + element, reduction)
      }
    }
  }
}

extension ScatterND {
  /// Elements of x and the updates, unless they are combined.
  public func elementSource(operandCount: Int) -> ElementSource {
    reduction == .replace ? .moved(from: [0, 2]) : .computed
  }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
}

/// The indices of the elements that are not 0, int64 `[rank, count]`, in row-major order. The count
/// must be known before a run, so the input must be a constant.
public struct NonZero: PositionOperation {
  public static let name = "NonZero"
  /// It has no attributes.
  public init() {}
  public static let placeholder = NonZero()
  public func visitAttributes<V: AttributeVisitor>(_: inout V) {}

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    let operand = try required(0, of: operands)
    let type = try operand.type.checked()
    guard type.quantization == .none else {
      throw .unsupported("\(Self.name) takes no codes, found \(type)")
    }
    let count: Shape.Axis
    if let constant = operand.constant {
      let view = TensorView(
        constant.elementType, constant.shape, base: constant.buffer.base + constant.byteOffset)
      count = .fixed((0..<constant.elementCount).count { view.isNonZero($0) })
    } else {
      count = .free("")
    }
    return [ValueType(.int64, [.fixed(type.shape.rank), count])]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!
    let output = outputs[0].elements(as: Int64.self)
    let count = outputs[0].shape[1]
    var (position, found) = (0, 0)
    try forEachIndex(of: input.shape) { (index) throws(QMError) in
      if input.isNonZero(position) {
        guard found < count else {
          throw .invalidInput("the run expects \(count) elements that are not 0, found more")
        }
        for (axis, place) in index.enumerated() { output[axis * count + found] = Int64(place) }
        found += 1
      }
      position += 1
    }
  }
}

extension TensorView {
  /// Whether an element of any type differs from 0; −0 does not.
  fileprivate func isNonZero(_ index: Int) -> Bool {
    let size = elementType.byteCount
    let bytes = UnsafeRawBufferPointer(start: base + index * size, count: size)
    guard elementType.isFloatingPoint else { return bytes.contains { $0 != 0 } }
    return bytes.dropLast().contains { $0 != 0 } || bytes[size - 1] & 0x7F != 0
  }

  /// Combines element `index` of `source` with element `place` of this tensor.
  fileprivate func put(
    _ source: TensorView, at index: Int, to place: Int, _ reduction: ScatterReduction
  ) {
    let size = elementType.byteCount
    let function: BinaryFunction
    switch reduction {
    case .replace:
      return (base + place * size).copyMemory(from: source.base + index * size, byteCount: size)
    case .add: function = .add
    case .multiply: function = .multiply
    case .minimum: function = .minimum
    case .maximum: function = .maximum
    }
    func combine<Integer: FixedWidthInteger & TensorElement>(_: Integer.Type) {
      let own = elements(as: Integer.self)
      let other = source.elements(as: Integer.self)[index]
      switch function {
      case .add: own[place] = own[place] &+ other
      case .multiply: own[place] = own[place] &* other
      case .minimum: own[place] = min(own[place], other)
      default: own[place] = max(own[place], other)
      }
    }
    switch elementType {
    case .int32: combine(Int32.self)
    case .int64: combine(Int64.self)
    default:
      let own = elements(as: Float.self)
      own[place] = function(own[place], source.elements(as: Float.self)[index])
    }
  }
}

extension OperationProtocol {
  fileprivate func indexType(_ index: Int, of operands: [Operand?]) throws(QMError) -> ValueType {
    let type = try required(index, of: operands).type.checked()
    guard type.elementType == .int64 || type.elementType == .int32, type.quantization == .none,
      type.shape.rank >= 1
    else { throw .malformed("indices must be int32 or int64 of rank 1 or more, found \(type)") }
    return type
  }

  /// - Throws: `malformed` if the ranks differ, or an axis of the indices exceeds the data's.
  fileprivate func expectWithin(
    _ indices: Shape, _ data: Shape, except axis: Int
  ) throws(QMError) {
    guard indices.rank == data.rank else {
      throw .malformed("indices must have the rank of \(data), found \(indices)")
    }
    for position in data.axes.indices where position != axis {
      guard indices[position].extent ?? 0 <= data[position].extent ?? .max else {
        throw .malformed("indices \(indices) are longer than \(data) along axis \(position)")
      }
    }
  }

  fileprivate func scatterTypes(
    _ operands: [Operand?], _ reduction: ScatterReduction
  ) throws(QMError) -> (data: ValueType, indices: ValueType, updates: ValueType) {
    try expect(3...3, operands)
    let data = try movable(0, of: operands)
    let indices = try indexType(1, of: operands)
    let updates = try movable(2, of: operands)
    guard data.elementType == updates.elementType, data.quantization == updates.quantization else {
      throw .malformed("updates must have the element type of \(data), found \(updates)")
    }
    if reduction != .replace {
      guard data.quantization == .none, [.float32, .int32, .int64].contains(data.elementType) else {
        throw .unsupported(
          "\(Self.name) \(reduction) takes float32, int32 or int64, found \(data)")
      }
    }
    return (data, indices, updates)
  }

  /// The index counted from the front.
  /// - Throws: `invalidInput` if the index is outside the axis.
  fileprivate func placed(_ index: Int, extent: Int) throws(QMError) -> Int {
    guard (-extent..<extent).contains(index) else {
      throw .invalidInput("index \(index) is outside an axis of \(extent) elements")
    }
    return index < 0 ? index + extent : index
  }
}
