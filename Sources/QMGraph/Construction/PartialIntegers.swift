import QMOperations
import QMTensor

/// The elements of a small integer value as far as they are known before the run: the result of
/// shape arithmetic on values with dynamic axes.
public struct PartialIntegers: Sendable {
  /// What is known of one element.
  public enum Element: Hashable, Sendable {
    /// Its value.
    case known(Int)
    /// It is the extent of the dynamic axis of this name.
    case axis(String)
    /// Nothing.
    case unknown
  }

  /// Largest number of elements; shapes are small.
  static let limit = 64

  /// In row-major order.
  public private(set) var elements: [Element]

  /// The elements of a constant; nil if there are more than ``limit`` or they are not integers.
  init?(_ tensor: Tensor) {
    guard tensor.elementCount <= Self.limit else { return nil }
    switch tensor.elementType {
    case .int32: elements = tensor.elements(as: Int32.self).map { .known(Int($0)) }
    case .int64: elements = tensor.elements(as: Int64.self).map { .known(Int($0)) }
    case .bool: elements = tensor.elements(as: Bool.self).map { .known($0 ? 1 : 0) }
    default: return nil
    }
  }

  init(_ shape: Shape) {
    elements = shape.axes.map {
      switch $0 {
      case .fixed(let extent): .known(extent)
      case .free(""): .unknown
      case .free(let name): .axis(name)
      }
    }
  }

  /// All elements; nil unless each is known.
  var values: [Int]? {
    var values: [Int] = []
    for element in elements {
      guard case .known(let value) = element else { return nil }
      values.append(value)
    }
    return values
  }

  /// The elements as a constant; nil unless each is known and representable in the type.
  func tensor(_ type: ElementType, _ shape: [Int]) throws(QMError) -> Tensor? {
    guard let values, values.count == Shape.elementCount(of: shape) else { return nil }
    switch type {
    case .int64: return try Tensor(shape, values.map(Int64.init))
    case .int32:
      let converted = values.compactMap(Int32.init(exactly:))
      return converted.count == values.count ? try Tensor(shape, converted) : nil
    case .bool: return try Tensor(shape, values.map { $0 != 0 })
    default: return nil
    }
  }

  /// An operand of an operation, with what is known of its elements.
  struct Operand {
    let type: ValueType
    let constant: Tensor?
    let partial: PartialIntegers?

    /// One entry per element; nil if their number is unknown or above ``PartialIntegers/limit``.
    var elements: [Element]? {
      if let partial { return partial.elements }
      guard type.elementType == .int32 || type.elementType == .int64 || type.elementType == .bool,
        let extents = type.shape.extents, let count = Shape.elementCount(of: extents),
        count <= PartialIntegers.limit
      else { return nil }
      return Array(repeating: .unknown, count: count)
    }
  }

  /// The result of an operation with one output; nil if nothing is known or it is too large.
  init?(
    _ operation: Operation, _ operands: [Operand?], result: ValueType
  ) throws(QMError) {
    guard
      result.elementType == .int32 || result.elementType == .int64
        || result.elementType == .bool, let extents = result.shape.extents,
      let count = Shape.elementCount(of: extents), count <= Self.limit
    else { return nil }
    let partials = operands.map { $0?.partial?.elements }
    switch operation {
    case .shape(let shapeOperation):
      guard let shape = operands[0]?.type.shape else { return nil }
      // The operation selects axes: applied to the shape [0, 1, 2, …] it returns their indices.
      let numbers = Shape(Array(shape.axes.indices))
      guard let places = try shapeOperation.value(for: numbers) else { return nil }
      let axes = PartialIntegers(shape).elements
      elements = places.elements(as: Int64.self).map { axes[Int($0)] }
    case .cast(let cast):
      guard let input = partials[0] else { return nil }
      elements = input.map { element in
        switch (cast.elementType, element) {
        case (.bool, .known(let value)): .known(value == 0 ? 0 : 1)
        case (.bool, _): .unknown
        // The cast would wrap around; no shape depends on such numbers.
        case (.int32, .known(let value)) where Int32(exactly: value) == nil: .unknown
        default: element
        }
      }
    case .identity, .reshape, .squeeze, .unsqueeze, .flatten:
      guard let input = partials[0] else { return nil }
      elements = input
    case .gather, .slice, .concatenate, .transpose, .expand, .tile:
      guard let moved = try Self.moved(operation, operands, count: count) else { return nil }
      elements = moved
    case .binary(let binary):
      guard binary.secondFunction == nil, let left = try Self.broadcast(operands[0], to: extents),
        let right = try Self.broadcast(operands[1], to: extents)
      else { return nil }
      elements = zip(left, right).map { Self.combined(binary.function, $0, $1) }
    case .comparison(let comparison) where comparison.function == .equal:
      guard let left = try Self.broadcast(operands[0], to: extents),
        let right = try Self.broadcast(operands[1], to: extents)
      else { return nil }
      elements = zip(left, right).map(Self.equality)
    case .select:
      guard let condition = try Self.broadcast(operands[0], to: extents),
        let left = try Self.broadcast(operands[1], to: extents),
        let right = try Self.broadcast(operands[2], to: extents)
      else { return nil }
      elements = condition.indices.map { index in
        switch condition[index] {
        case .known(let value): value != 0 ? left[index] : right[index]
        default: left[index] == right[index] ? left[index] : .unknown
        }
      }
    case .if:
      guard let condition = operands[0]?.partial?.elements.first, let left = operands[1]?.elements,
        let right = operands[2]?.elements, left.count == count, right.count == count
      else { return nil }
      elements = zip(left, right).map { left, right in
        switch condition {
        case .known(let value): value != 0 ? left : right
        default: left == right ? left : .unknown
        }
      }
    default: return nil
    }
    guard elements.count == count, elements.contains(where: { $0 != .unknown }) else { return nil }
  }

  /// The result of data movement. The operation runs on element indices instead of elements, which
  /// tells the source of each element of the result.
  private static func moved(
    _ operation: Operation, _ operands: [Operand?], count: Int
  ) throws(QMError) -> [Element]? {
    let isJoined = if case .concatenate = operation { true } else { false }
    var sources: [Element] = []
    var inputs: [Tensor?] = []
    for (index, operand) in operands.enumerated() {
      guard let operand else {
        inputs.append(nil)
        continue
      }
      guard index == 0 || isJoined else {
        guard let constant = operand.constant else { return nil }
        inputs.append(constant)
        continue
      }
      guard let extents = operand.type.shape.extents, let own = operand.elements else {
        return nil
      }
      let numbers = own.indices.map { Int64(sources.count + $0) }
      sources += own
      inputs.append(try Tensor(extents, numbers))
    }
    let places = try operation.evaluate(inputs)[0].elements(as: Int64.self)
    guard places.count == count,
      places.allSatisfy({ sources.indices.contains(Int($0)) })
    else { return nil }
    return places.map { sources[Int($0)] }
  }

  /// The elements of an operand, broadcast to a shape.
  private static func broadcast(
    _ operand: Operand?, to shape: [Int]
  ) throws(QMError) -> [Element]? {
    guard let operand, let elements = operand.elements, let own = operand.type.shape.extents else {
      return nil
    }
    if own == shape { return elements }
    let numbers = try Tensor(own, elements.indices.map(Int64.init))
    let target = try Tensor([shape.count], shape.map(Int64.init))
    let places = try Operation.expand(Expand()).evaluate([numbers, target])[0]
    return places.elements(as: Int64.self).map { elements[Int($0)] }
  }

  private static func combined(
    _ function: BinaryFunction, _ left: Element, _ right: Element
  ) -> Element {
    switch (function, left, right) {
    case (.multiply, .known(1), let other), (.multiply, let other, .known(1)),
      (.add, .known(0), let other), (.add, let other, .known(0)),
      (.subtract, let other, .known(0)), (.divide, let other, .known(1)):
      return other
    case (.multiply, .known(0), _), (.multiply, _, .known(0)): return .known(0)
    // An extent is never negative.
    case (.maximum, .axis(let name), .known(...0)), (.maximum, .known(...0), .axis(let name)):
      return .axis(name)
    case (.add, .known(let left), .known(let right)):
      return exact(left.addingReportingOverflow(right))
    case (.subtract, .known(let left), .known(let right)):
      return exact(left.subtractingReportingOverflow(right))
    case (.multiply, .known(let left), .known(let right)):
      return exact(left.multipliedReportingOverflow(by: right))
    case (.divide, .known(let left), .known(let right)) where right != 0:
      return exact(left.dividedReportingOverflow(by: right))
    case (.minimum, .known(let left), .known(let right)): return .known(min(left, right))
    case (.maximum, .known(let left), .known(let right)): return .known(max(left, right))
    default: return .unknown
    }
  }

  private static func exact(_ result: (partialValue: Int, overflow: Bool)) -> Element {
    // An int32 result would wrap around here; that case stays unknown.
    guard !result.overflow, Int32(exactly: result.partialValue) != nil else { return .unknown }
    return .known(result.partialValue)
  }

  private static func equality(_ left: Element, _ right: Element) -> Element {
    switch (left, right) {
    case (.known(let left), .known(let right)): .known(left == right ? 1 : 0)
    case (.axis(let left), .axis(let right)) where left == right: .known(1)
    // An extent is never negative.
    case (.axis, .known(..<0)), (.known(..<0), .axis): .known(0)
    default: .unknown
    }
  }

  // MARK: Shapes for Reshape and Expand

  /// These elements as the constant shape of a Reshape of `input`: 0 where a dynamic axis is
  /// copied, −1 for one extent that only the run knows. nil if more than one extent is unknown.
  func reshaping(_ input: Shape, zeroIsZero: Bool) -> [Int]? {
    var extents: [Int] = []
    var openCount = 0
    for (place, element) in elements.enumerated() {
      switch element {
      case .known(let extent):
        openCount += extent == -1 ? 1 : 0
        extents.append(extent)
      case .axis(let name) where !zeroIsZero && place < input.rank && input[place] == .free(name):
        extents.append(0)
      default:
        openCount += 1
        extents.append(-1)
      }
    }
    guard openCount <= 1, !(zeroIsZero && openCount == 1 && extents.contains(0)) else { return nil }
    return extents
  }

  /// These elements as the constant shape of an Expand of `input`: 1 where a dynamic axis is kept.
  /// nil if another extent is unknown.
  func expanding(_ input: Shape) -> [Int]? {
    var extents: [Int] = []
    for (place, element) in elements.enumerated() {
      let axis = place - elements.count + input.rank
      switch element {
      case .known(let extent): extents.append(extent)
      case .axis(let name) where axis >= 0 && input[axis] == .free(name): extents.append(1)
      default: return nil
      }
    }
    return extents
  }
}
