import QMTensor

// Tensors made of few numbers: ranges, one-hot rows, triangles.

/// `start, start + delta, start + 2 · delta, …` as long as it is before `limit`.
/// Inputs: three scalars of one type: float32, int32 or int64.
///
/// It is ONNX's Range. There are `max(⌈(limit − start) / delta⌉, 0)` elements; in float32 the
/// quotient is computed in binary64. Element i is `start + Float(i) · delta`, two roundings; integers wrap.
public struct Progression: OperationProtocol {
  public static let name = "Range"
  public init() {}
  public static let placeholder = Progression()
  public func visitAttributes<V: AttributeVisitor>(_: inout V) {}

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(3...3, operands)
    let type = try required(0, of: operands).type
    var constants: [Tensor] = []
    for index in 0..<3 {
      let operand = try required(index, of: operands)
      guard operand.type.elementType == type.elementType, operand.type.quantization == .none,
        Shape.product(of: try operand.type.checked().shape.axes).extent ?? 1 == 1
      else {
        throw .malformed("a range of \(type) and \(operand.type); expected scalars of one type")
      }
      if let constant = operand.constant { constants.append(constant) }
    }
    guard [.float32, .int32, .int64].contains(type.elementType) else {
      throw .unsupported("a range of \(type); expected float32, int32 or int64")
    }
    guard constants.count == 3 else { return [ValueType(type.elementType, [.free("")])] }
    let count = try Self.count(constants)
    return [try ValueType(type.elementType, [.fixed(count)]).checked()]
  }

  private static func count(_ scalars: [Tensor]) throws(QMError) -> Int {
    if scalars[0].elementType == .float32 {
      let numbers = scalars.map { Double($0.elements(as: Float.self)[0]) }
      let count = ((numbers[1] - numbers[0]) / numbers[2]).rounded(.up)
      guard count.magnitude < Double(ValueLimits.byteCount) else {
        throw .malformed("a range from \(numbers[0]) to \(numbers[1]) by \(numbers[2])")
      }
      return max(Int(count), 0)
    }
    let numbers = scalars.map { $0.integers()[0] }
    let (distance, overflow) = numbers[1].subtractingReportingOverflow(numbers[0])
    guard numbers[2] != 0, !overflow, distance.magnitude <= ValueLimits.byteCount else {
      throw .malformed("a range from \(numbers[0]) to \(numbers[1]) by \(numbers[2])")
    }
    let step = numbers[2]
    if distance == 0 || (distance < 0) != (step < 0) { return 0 }
    return Int((distance.magnitude - 1) / step.magnitude) + 1
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    func fill<Element: TensorElement>(
      _: Element.Type, _ element: (_ start: Element, _ delta: Element, _ index: Int) -> Element
    ) {
      let start = inputs[0]!.elements(as: Element.self)[0]
      let delta = inputs[2]!.elements(as: Element.self)[0]
      let output = outputs[0].elements(as: Element.self)
      for index in output.indices { output[index] = element(start, delta, index) }
    }
    switch outputs[0].elementType {
    case .int32: fill(Int32.self) { $0 &+ Int32(truncatingIfNeeded: $2) &* $1 }
    case .int64: fill(Int64.self) { $0 &+ Int64($2) &* $1 }
    default:
      fill(Float.self) {
        let product = Float($2) * $1
        return canonical($0 + product)
      }
    }
  }
}

/// A new axis of `depth` elements at place `axis`: the second of `values` where the index says,
/// the first elsewhere.
///
/// Inputs: int64 indices, negative ones from the end, none set where one is outside; depth, int64
/// scalar or `[1]`; values, two of any element type, off and on.
public struct OneHot: OperationProtocol {
  public static let name = "OneHot"
  /// Place in the result, counted from the front.
  public var axis: Int
  public init(axis: Int) { self.axis = axis }

  public static let placeholder = OneHot(axis: 0)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("axis", &axis)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(3...3, operands)
    let indices = try required(0, of: operands).type.checked()
    var type = try movable(2, of: operands)
    let depth = try integers(1, of: operands, "the depth")
    guard indices.elementType == .int64, indices.quantization == .none else {
      throw .malformed("indices of type \(indices); expected int64")
    }
    guard type.shape.rank == 1, type.shape[0].extent ?? 2 == 2 else {
      throw .malformed("values \(type); expected two, off and on")
    }
    try expectAxis(axis, rank: indices.shape.rank + 1)
    if let values = depth.values {
      guard values.count == 1, values[0] >= 0 else { throw .malformed("a depth of \(values)") }
    }
    type.shape = indices.shape
    type.shape.axes.insert(depth.values.map { .fixed($0[0]) } ?? .free(""), at: axis)
    return [try type.checked()]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let indices = inputs[0]!.integers()
    let depth = outputs[0].shape[axis]
    guard inputs[1]!.integers() == [depth] else {
      throw .invalidInput("a depth of \(inputs[1]!.integers()); the run expects \(depth)")
    }
    let size = outputs[0].elementType.byteCount
    try outputs[0].forEachLine(along: axis) { (line, number) throws(QMError) in
      let index = indices[number] < 0 ? indices[number] &+ depth : indices[number]
      for position in 0..<depth {
        (outputs[0].base + line.place(position) * size).copyMemory(
          from: inputs[2]!.base + (position == index ? size : 0), byteCount: size)
      }
    }
  }
}

/// The upper or lower triangle of the last two axes; elsewhere the number 0.
/// Inputs: x of any element type; the diagonal (optional, int64 scalar or `[1]`, 0 without): an
/// element stays where `column − row` is at least (upper) or at most (lower) the diagonal.
public struct Triangle: OperationProtocol {
  public static let name = "Triangle"
  public var isUpper: Bool
  public init(isUpper: Bool) { self.isUpper = isUpper }

  public static let placeholder = Triangle(isUpper: false)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("is upper", &isUpper)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...2, operands)
    let type = try movable(0, of: operands)
    guard type.shape.rank >= 2 else {
      throw .malformed("a triangle of \(type); expected two axes or more")
    }
    if optional(1, of: operands) != nil {
      guard try integers(1, of: operands, "the diagonal").count ?? 1 == 1 else {
        throw .malformed("several diagonals")
      }
    }
    return [type]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!
    let diagonal = inputs.count > 1 ? inputs[1]?.integers()[0] ?? 0 : 0
    let size = input.elementType.byteCount
    let rank = input.shape.count
    var position = 0
    try forEachIndex(of: input.shape) { (index) throws(QMError) in
      let distance = index[rank - 1] - index[rank - 2]
      if isUpper ? distance >= diagonal : distance <= diagonal {
        (outputs[0].base + position * size).copyMemory(
          from: input.base + position * size, byteCount: size)
      } else if case .fixed(_, let zeroPoint) = input.quantization {
        outputs[0].setCode(zeroPoint, at: position)
      } else {
        (outputs[0].base + position * size).initializeMemory(
          as: UInt8.self, repeating: 0, count: size)
      }
      position += 1
    }
  }
}
