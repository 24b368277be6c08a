import QMTensor

/// `start, start + delta, start + 2 · delta, …` up to, but not including, `limit`.
/// Inputs: start, limit and delta, scalars of one type: float32, int32 or int64.
///
/// It is ONNX's Range. There are `max(⌈(limit − start) / delta⌉, 0)` elements; for float32 the
/// difference and the quotient are computed in double. Element i is `start + Float(i) · delta`,
/// with two roundings; integers wrap.
public struct RangeOperation: PositionOperation {
  public static let name = "Range"
  /// It has no attributes.
  public init() {}
  public static let placeholder = RangeOperation()
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
        throw .malformed(
          "\(Self.name) takes scalars of one type, found \(type) and \(operand.type)")
      }
      if let constant = operand.constant { constants.append(constant) }
    }
    guard [.float32, .int32, .int64].contains(type.elementType) else {
      throw .unsupported("\(Self.name) takes float32, int32 or int64, found \(type)")
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
        throw .malformed(Self.countMessage(numbers))
      }
      return max(Int(count), 0)
    }
    let numbers = scalars.map { $0.integers()[0] }
    let (distance, overflow) = numbers[1].subtractingReportingOverflow(numbers[0])
    guard numbers[2] != 0, !overflow, distance.magnitude <= ValueLimits.byteCount else {
      throw .malformed(Self.countMessage(numbers))
    }
    let step = numbers[2]
    if distance == 0 || (distance < 0) != (step < 0) { return 0 }
    return Int((distance.magnitude - 1) / step.magnitude) + 1
  }

  private static func countMessage<Number>(_ numbers: [Number]) -> String {
    "a range from \(numbers[0]) to \(numbers[1]) by \(numbers[2]) has no count of elements within "
      + "\(ValueLimits.byteCount)"
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
