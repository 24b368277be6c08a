import QMTensor

// Operations that compare or sum the elements along one axis.

/// The position of the largest or smallest element along `axis`, int64.
///
/// Input: float32, codes with fixed quantization, int32 or int64. Of equal elements the first is
/// taken, or the last with `takesLast`. NaN is larger than any number.
public struct ArgMinMax: NonAccumulatingOperation {
  public static let name = "ArgMinMax"

  /// The element that is looked for. Raw values are written in files.
  public enum Kind: UInt8, Hashable, Sendable, CaseIterable {
    case maximum = 0
    case minimum = 1
  }

  /// The element that is looked for.
  public var kind: Kind
  /// Counted from the front.
  public var axis: Int
  /// Whether the output keeps the axis, with extent 1.
  public var keepsAxis: Bool
  /// Whether the last of equal elements is taken instead of the first.
  public var takesLast: Bool

  /// - Parameter axis: counted from the front.
  public init(_ kind: Kind, axis: Int, keepsAxis: Bool, takesLast: Bool = false) {
    self.kind = kind
    self.axis = axis
    self.keepsAxis = keepsAxis
    self.takesLast = takesLast
  }

  public static let placeholder = ArgMinMax(.maximum, axis: 0, keepsAxis: false)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("kind", &kind)
    try visitor.visit("axis", &axis)
    try visitor.visit("keeps axis", &keepsAxis)
    try visitor.visit("takes last", &takesLast)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    let input = try required(0, of: operands).type.checked()
    try expectAxis(axis, rank: input.shape.rank)
    try expectOrdered(input)
    guard input.shape[axis] != 0 else {
      throw .malformed("\(Self.name) needs elements along axis \(axis), found \(input)")
    }
    var shape = input.shape
    if keepsAxis { shape[axis] = 1 } else { shape.axes.remove(at: axis) }
    return [ValueType(.int64, shape)]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!
    let output = outputs[0].elements(as: Int64.self)
    try input.forEachLine(along: axis) { (line, number) throws(QMError) in
      func isBetter(_ place: Int, _ best: Int) -> Bool {
        let (new, old) = (line.place(place), line.place(best))
        if takesLast, !input.isLess(new, old), !input.isLess(old, new) { return true }
        return kind == .maximum ? input.isLess(old, new) : input.isLess(new, old)
      }
      var best = 0
      for place in 0..<line.count where isBetter(place, best) { best = place }
      output[number] = Int64(best)
    }
  }
}

extension ArgMinMax {
  public func integerForm(of operands: [Operand?]) -> IntegerForm? {
    IntegerForm(operands: [0], result: .noNumbers, asksForCodes: false)
  }
  public var keepsName: Bool { false }
  public var analyticRange: ClosedRange<Float>? { nil }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
}

/// The `k` largest or smallest elements along `axis`, in order, and their positions (int64).
///
/// Inputs: x, of a type that ``ArgMinMax`` takes; k, int64, a scalar or `[1]`. Equal elements keep
/// their order; NaN is larger than any number.
public struct TopK: FloatOperation {
  public static let name = "TopK"
  /// Counted from the front.
  public var axis: Int
  /// Whether the largest elements are taken, not the smallest.
  public var takesLargest: Bool

  /// - Parameter axis: counted from the front.
  public init(axis: Int, takesLargest: Bool) {
    self.axis = axis
    self.takesLargest = takesLargest
  }

  public static let placeholder = TopK(axis: 0, takesLargest: true)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("axis", &axis)
    try visitor.visit("takes largest", &takesLargest)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(2...2, operands)
    var type = try required(0, of: operands).type.checked()
    try expectAxis(axis, rank: type.shape.rank)
    try expectOrdered(type)
    let count = try integers(1, of: operands, "the number of elements")
    if let values = count.values {
      guard values.count == 1, values[0] >= 0, values[0] <= type.shape[axis].extent ?? .max else {
        throw .malformed(
          "\(Self.name) needs one k up to the extent of axis \(axis), found \(values) for \(type)")
      }
      type.shape[axis] = .fixed(values[0])
    } else {
      type.shape[axis] = .free("")
    }
    return [try type.checked(), ValueType(.int64, type.shape)]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!
    let count = outputs[0].shape[axis]
    guard inputs[1]!.integers() == [count] else {
      throw .invalidInput("k is \(inputs[1]!.integers()), but the run expects \(count)")
    }
    let size = input.elementType.byteCount
    let positions = outputs[1].elements(as: Int64.self)
    let inner = input.shape[(axis + 1)...].reduce(1, *)
    try input.forEachLine(along: axis) { (line, number) throws(QMError) in
      let order = (0..<line.count).sorted {
        let (left, right) = (line.place($0), line.place($1))
        if input.isLess(left, right) { return !takesLargest }
        if input.isLess(right, left) { return takesLargest }
        return $0 < $1
      }
      for (rank, position) in order.prefix(count).enumerated() {
        let place = (number / inner * count + rank) * inner + number % inner
        positions[place] = Int64(position)
        (outputs[0].base + place * size).copyMemory(
          from: input.base + line.place(position) * size, byteCount: size)
      }
    }
  }
}

extension TopK {
  public var keepsName: Bool { false }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
}

/// Cumulative sums along `axis`: `output[i] = x[0] + … + x[i]`, added in order, starting with +0.
///
/// Input: float32, each step rounded; or int32 or int64, with two's complement wrapping.
public struct CumulativeSum: FloatOperation {
  public static let name = "CumulativeSum"
  /// Counted from the front.
  public var axis: Int
  /// Whether each sum leaves out the element at its own position.
  public var excludesOwn: Bool
  /// Whether sums start at the end of the axis.
  public var fromEnd: Bool

  /// - Parameter axis: counted from the front.
  public init(axis: Int, excludesOwn: Bool, fromEnd: Bool) {
    self.axis = axis
    self.excludesOwn = excludesOwn
    self.fromEnd = fromEnd
  }

  public static let placeholder = CumulativeSum(axis: 0, excludesOwn: false, fromEnd: false)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("axis", &axis)
    try visitor.visit("excludes own", &excludesOwn)
    try visitor.visit("from end", &fromEnd)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    let type = try required(0, of: operands).type.checked()
    try expectAxis(axis, rank: type.shape.rank)
    guard type.quantization == .none, [.float32, .int32, .int64].contains(type.elementType) else {
      throw .unsupported("\(Self.name) takes float32, int32 or int64, found \(type)")
    }
    return [type]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    func sum<Element: TensorElement>(
      _: Element.Type, _ zero: Element, _ add: (Element, Element) -> Element
    ) throws(QMError) {
      let input = inputs[0]!.elements(as: Element.self)
      let output = outputs[0].elements(as: Element.self)
      try inputs[0]!.forEachLine(along: axis) { (line, _) throws(QMError) in
        var sum = zero
        for step in 0..<line.count {
          let place = line.place(fromEnd ? line.count - 1 - step : step)
          let next = add(sum, input[place])
          output[place] = excludesOwn ? sum : next
          sum = next
        }
      }
    }
    switch inputs[0]!.elementType {
    case .int32: try sum(Int32.self, 0, &+)
    case .int64: try sum(Int64.self, 0, &+)
    default: try sum(Float.self, 0) { canonical($0 + $1) }
    }
  }
}

extension CumulativeSum {
  public var keepsName: Bool { false }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
}

extension OperationProtocol {
  /// - Throws: `unsupported` unless the elements are float32, codes with fixed quantization, int32
  ///   or int64.
  fileprivate func expectOrdered(_ type: ValueType) throws(QMError) {
    guard !type.isFloatOrCodes else { return try type.checkParametersIfFixed() }
    guard type.quantization == .none, type.elementType == .int32 || type.elementType == .int64
    else {
      throw .unsupported(
        "\(Self.name) takes float32, codes with fixed quantization, int32 or int64, found \(type)")
    }
  }
}

/// The positions of the elements along one axis, for one index of the others.
struct Line {
  let start: Int
  let step: Int
  let count: Int
  func place(_ index: Int) -> Int { start + index * step }
}

extension TensorView {
  /// Calls `body` for each line along `axis`, in row-major order of the other axes.
  func forEachLine(
    along axis: Int, _ body: (_ line: Line, _ number: Int) throws(QMError) -> Void
  ) throws(QMError) {
    let count = shape[axis]
    let inner = shape[(axis + 1)...].reduce(1, *)
    for number in 0..<shape[..<axis].reduce(1, *) * inner {
      let start = number / inner * count * inner + number % inner
      try body(Line(start: start, step: inner, count: count), number)
    }
  }

  /// Whether one element is less than another. Codes are compared as codes; NaN is larger than any
  /// number and equal to NaN.
  fileprivate func isLess(_ left: Int, _ right: Int) -> Bool {
    switch (elementType, quantization) {
    case (.int32, _):
      let elements = elements(as: Int32.self)
      return elements[left] < elements[right]
    case (.int64, _):
      let elements = elements(as: Int64.self)
      return elements[left] < elements[right]
    case (_, .fixed): return code(at: left) < code(at: right)
    default:
      let elements = elements(as: Float.self)
      let (x, y) = (elements[left], elements[right])
      return x < y || (y.isNaN && !x.isNaN)
    }
  }
}
