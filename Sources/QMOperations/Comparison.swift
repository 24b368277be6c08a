import QMTensor

// Element-wise operations that compute or take bool.

/// `output[i] = left[i] function right[i]`, bool, with NumPy broadcasting. Each operand is float32
/// or codes with fixed quantization; or both are integers of the same type. NaN is unequal to
/// everything. Two bool operands can only be compared by `equal`.
public struct Compare: NonAccumulatingOperation {
  public static let name = "Compare"

  /// The relation between left and right. Raw values are written in files.
  public enum Function: UInt8, Hashable, Sendable, CaseIterable {
    case equal = 0
    case less = 1
    case lessOrEqual = 2
    case greater = 3
    case greaterOrEqual = 4
  }

  /// The relation that is tested.
  public var function: Function
  /// - Parameter function: the relation that is tested.
  public init(_ function: Function) { self.function = function }

  public static let placeholder = Compare(.equal)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("function", &function)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(2...2, operands)
    let left = try required(0, of: operands).type.checked()
    let right = try required(1, of: operands).type.checked()
    let shape = try Shape.broadcast(left.shape, right.shape)
    if !(left.isFloatOrCodes && right.isFloatOrCodes) {
      guard left.elementType == right.elementType, left.quantization == .none,
        right.quantization == .none,
        left.elementType.isInteger || left.elementType == .bool && function == .equal
      else {
        throw .malformed(
          "\(function) compares operands of one numeric type, found \(left) and \(right)")
      }
    }
    try left.checkParametersIfFixed()
    try right.checkParametersIfFixed()
    return [try ValueType(.bool, shape).checked()]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let (left, right) = (inputs[0]!, inputs[1]!)
    let output = outputs[0].elements(as: Bool.self)
    let broadcasting = Broadcasting(left: left.shape, right: right.shape, output: outputs[0].shape)
    func compare<Element: TensorElement & Comparable>(_: Element.Type) {
      let (left, right) = (left.elements(as: Element.self), right.elements(as: Element.self))
      broadcasting.forEach { output[$0] = function(left[$1], right[$2]) }
    }
    if left.isFloatOrCodes && right.isFloatOrCodes {
      broadcasting.forEach { output[$0] = function(left.number(at: $1), right.number(at: $2)) }
      return
    }
    switch left.elementType {
    case .int8: compare(Int8.self)
    case .uint8: compare(UInt8.self)
    case .int16: compare(Int16.self)
    case .uint16: compare(UInt16.self)
    case .int32: compare(Int32.self)
    case .uint32: compare(UInt32.self)
    case .int64: compare(Int64.self)
    case .uint64: compare(UInt64.self)
    case .bool:
      let (left, right) = (left.elements(as: Bool.self), right.elements(as: Bool.self))
      broadcasting.forEach { output[$0] = left[$1] == right[$2] }
    case .float32, .float16, .bfloat16, .float64:
      throw .internalFault("elements of type \(left.elementType) cannot be compared")
    }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let left = try required(0, of: operands).type
    let right = try required(1, of: operands).type
    guard kernels != .reference, left.elementType == right.elementType,
      left.quantization == .none, right.quantization == .none
    else { return nil }
    let pairs = try BroadcastPairs(left, right, outputs[0])
    func kernel<Element: Comparable & BitwiseCopyable & Sendable>(_: Element.Type) -> Kernel {
      Kernel(name: Self.name) { (memory) throws(QMError) in
        switch function {
        case .equal: pairs.run(memory) { (a: Element, b: Element) in a == b }
        case .less: pairs.run(memory) { (a: Element, b: Element) in a < b }
        case .lessOrEqual: pairs.run(memory) { (a: Element, b: Element) in a <= b }
        case .greater: pairs.run(memory) { (a: Element, b: Element) in a > b }
        case .greaterOrEqual: pairs.run(memory) { (a: Element, b: Element) in a >= b }
        }
      }
    }
    switch left.elementType {
    case .float32: return kernel(Float.self)
    case .int8: return kernel(Int8.self)
    case .uint8: return kernel(UInt8.self)
    case .int16: return kernel(Int16.self)
    case .uint16: return kernel(UInt16.self)
    case .int32: return kernel(Int32.self)
    case .uint32: return kernel(UInt32.self)
    case .int64: return kernel(Int64.self)
    case .uint64: return kernel(UInt64.self)
    case .bool, .float16, .bfloat16, .float64: return nil
    }
  }
}

extension Compare {
  public func integerForm(of operands: [Operand?]) -> IntegerForm? {
    IntegerForm(operands: [0, 1], result: .noNumbers, asksForCodes: false)
  }
  public var keepsName: Bool { false }
  public var analyticRange: ClosedRange<Float>? { nil }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
}

extension Compare.Function {
  fileprivate func callAsFunction<Element: Comparable>(_ left: Element, _ right: Element) -> Bool {
    switch self {
    case .equal: left == right
    case .less: left < right
    case .lessOrEqual: left <= right
    case .greater: left > right
    case .greaterOrEqual: left >= right
    }
  }
}

extension TensorView {
  /// Whether the elements are float32, or codes with fixed quantization.
  fileprivate var isFloatOrCodes: Bool {
    ValueType(elementType, Shape(shape), quantization).isFloatOrCodes
  }
}

/// `output[i] = left[i] function right[i]` for two bool operands, with NumPy broadcasting.
public struct Logic: FloatOperation {
  public static let name = "Logic"

  /// The Boolean function of left and right. Raw values are written in files.
  public enum Function: UInt8, Hashable, Sendable, CaseIterable {
    case and = 0
    case or = 1
    case exclusiveOr = 2
  }

  /// Applied to each pair of elements.
  public var function: Function
  /// - Parameter function: applied to each pair of elements.
  public init(_ function: Function) { self.function = function }

  public static let placeholder = Logic(.and)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("function", &function)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(2...2, operands)
    let left = try required(0, of: operands).type.checked()
    let right = try required(1, of: operands).type.checked()
    guard left.elementType == .bool, right.elementType == .bool else {
      throw .malformed("\(function) takes two bool operands, found \(left) and \(right)")
    }
    return [try ValueType(.bool, Shape.broadcast(left.shape, right.shape)).checked()]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let left = inputs[0]!.elements(as: Bool.self)
    let right = inputs[1]!.elements(as: Bool.self)
    let output = outputs[0].elements(as: Bool.self)
    let broadcasting = Broadcasting(
      left: inputs[0]!.shape, right: inputs[1]!.shape, output: outputs[0].shape)
    broadcasting.forEach { index, leftIndex, rightIndex in
      switch function {
      case .and: output[index] = left[leftIndex] && right[rightIndex]
      case .or: output[index] = left[leftIndex] || right[rightIndex]
      case .exclusiveOr: output[index] = left[leftIndex] != right[rightIndex]
      }
    }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    guard kernels != .reference else { return nil }
    let pairs = try BroadcastPairs(
      required(0, of: operands).type, required(1, of: operands).type, outputs[0])
    return Kernel(name: Self.name) { (memory) throws(QMError) in
      switch function {
      case .and: pairs.run(memory) { (a: Bool, b: Bool) in a && b }
      case .or: pairs.run(memory) { (a: Bool, b: Bool) in a || b }
      case .exclusiveOr: pairs.run(memory) { (a: Bool, b: Bool) in a != b }
      }
    }
  }
}

extension Logic {
  public var keepsName: Bool { false }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
}

/// Whether each float32 element is NaN, or infinite: bool.
public struct IsNaNOrInf: FloatOperation {
  public static let name = "IsNaNOrInf"

  /// The numbers for which the output is true. Raw values are written in files.
  public enum Kind: UInt8, Hashable, Sendable, CaseIterable {
    case notANumber = 0
    case infinite = 1
    case positiveInfinite = 2
    case negativeInfinite = 3
  }

  /// The numbers for which the output is true.
  public var kind: Kind
  /// - Parameter kind: the numbers for which the output is true.
  public init(_ kind: Kind) { self.kind = kind }

  public static let placeholder = IsNaNOrInf(.notANumber)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("kind", &kind)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    let input = try required(0, of: operands).type.checked()
    guard input.elementType == .float32, input.quantization == .none else {
      throw .malformed("\(Self.name) takes float32, found \(input)")
    }
    return [ValueType(.bool, input.shape)]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!.elements(as: Float.self)
    let output = outputs[0].elements(as: Bool.self)
    for (index, number) in input.enumerated() {
      switch kind {
      case .notANumber: output[index] = number.isNaN
      case .infinite: output[index] = number.isInfinite
      case .positiveInfinite: output[index] = number == .infinity
      case .negativeInfinite: output[index] = number == -.infinity
      }
    }
  }
}

extension IsNaNOrInf {
  public var keepsName: Bool { false }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
}

/// `output[i] = condition[i] ? whenTrue[i] : whenFalse[i]`, with NumPy broadcasting.
/// Inputs: condition, bool; two operands with the same element type and quantization, whose
/// elements are moved.
public struct Select: DataMovement {
  public static let name = "Select"
  /// It has no attributes.
  public init() {}
  public static let placeholder = Select()
  public func visitAttributes<V: AttributeVisitor>(_: inout V) {}

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(3...3, operands)
    let condition = try required(0, of: operands).type.checked()
    var type = try movable(1, of: operands)
    let other = try movable(2, of: operands)
    guard condition.elementType == .bool else {
      throw .malformed("\(Self.name) takes a bool condition, found \(condition)")
    }
    guard type.elementType == other.elementType, type.quantization == other.quantization else {
      throw .malformed("\(Self.name) takes two operands of one type, found \(type) and \(other)")
    }
    type.shape = try Shape.broadcast(
      condition.shape, Shape.broadcast(type.shape, other.shape))
    return [try type.checked()]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let condition = inputs[0]!.elements(as: Bool.self)
    let output = outputs[0]
    let strides = inputs.map { Broadcasting.strides(of: $0!.shape, within: output.shape) }
    func place(_ index: [Int], _ operand: Int) -> Int {
      zip(index, strides[operand]).reduce(0) { $0 + $1.0 * $1.1 }
    }
    let size = output.elementType.byteCount
    var position = 0
    try forEachIndex(of: output.shape) { (index) throws(QMError) in
      let operand = condition[place(index, 0)] ? 1 : 2
      (output.base + position * size).copyMemory(
        from: inputs[operand]!.base + place(index, operand) * size, byteCount: size)
      position += 1
    }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    guard kernels != .reference else { return nil }
    let shape = try outputs[0].concreteShape()
    var strides: [[Int]] = []
    for index in 0..<3 {
      strides.append(
        Broadcasting.strides(
          of: try required(index, of: operands).type.concreteShape(), within: shape))
    }
    let rows = SelectRows(shape: shape, strides: strides)
    switch outputs[0].elementType.byteCount {
    case 1: return rows.kernel(UInt8.self)
    case 2: return rows.kernel(UInt16.self)
    case 4: return rows.kernel(UInt32.self)
    default: return rows.kernel(UInt64.self)
    }
  }
}

extension Select {
  public func movedOperands(of operandCount: Int) -> [Int] { [1, 2] }
  public var keepsBytes: Bool { false }
  public var keepsName: Bool { false }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
}

/// Selects along the last axis, row by row.
private struct SelectRows: Sendable {
  let outer: [Int]
  let count: Int
  let outerStrides: [[Int]]
  let steps: [Int]

  init(shape: [Int], strides: [[Int]]) {
    outer = Array(shape.dropLast())
    count = shape.last ?? 1
    outerStrides = strides.map { Array($0.dropLast()) }
    steps = strides.map { $0.last ?? 0 }
  }

  func kernel<Element: BitwiseCopyable & Sendable>(_: Element.Type) -> Kernel {
    let rowCount = outer.contains(0) ? 0 : outer.reduce(1, *)
    return Kernel(name: Select.name) { (memory) throws(QMError) in
      let condition = memory.inputs[0]!.assumingMemoryBound(to: UInt8.self)
      let whenTrue = memory.inputs[1]!.assumingMemoryBound(to: Element.self)
      let whenFalse = memory.inputs[2]!.assumingMemoryBound(to: Element.self)
      let output = memory.outputs[0]!.assumingMemoryBound(to: Element.self)
      let byteCount = count * MemoryLayout<Element>.stride
      memory.threads.run(forRangesOf: rowCount, byteCount: byteCount) { range, _ in
        for row in range {
          var starts = (0, 0, 0)
          var rest = row
          for axis in outer.indices.reversed() {
            let index = rest % outer[axis]
            rest /= outer[axis]
            starts.0 += index * outerStrides[0][axis]
            starts.1 += index * outerStrides[1][axis]
            starts.2 += index * outerStrides[2][axis]
          }
          let target = output + row * count
          for index in 0..<count {
            target[index] =
              condition[starts.0 + index * steps[0]] != 0
              ? whenTrue[starts.1 + index * steps[1]] : whenFalse[starts.2 + index * steps[2]]
          }
        }
      }
    }
  }
}
