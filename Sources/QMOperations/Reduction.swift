import QMTensor

/// Combines the elements along some axes into one.
///
/// Input: float32; int8, uint8 or int16 codes with fixed quantization; or int32 or int64. Integers
/// allow mean, sum, product, maximum and minimum, with two's complement wrapping, and ignore
/// `output`; their mean is the wrapped sum, divided and truncated toward zero.
///
/// *The tree* of an operation combines n elements, in row-major order of the reduced axes. It has
/// 16 lanes, which start with the operation's neutral element. Lane i takes the elements i, i + 16,
/// i + 32, … in order. Then lane i takes lane i + 8 for i < 8, lane i + 4 for i < 4, lane i + 2 for
/// i < 2, and lane 0 takes lane 1. The result is lane 0. Each step is one float32 operation:
///
/// - sum: `lane + x`, starting with +0; sum of magnitudes: of |x|; sum of squares: of the rounded
///   x · x;
/// - mean: sum / Float(n); norm: √(sum of squares); logarithm of sum: log(sum);
/// - maximum: `x > lane ? x : lane`, starting with −∞, so that NaN is skipped; minimum: with < and
///   +∞;
/// - product: `lane · x`, starting with 1;
/// - logarithm of sum of exponentials: log(sum of exp(x − m)) + m, where m is the maximum if that
///   is finite, else 0.
///
/// For codes, maximum and minimum are the largest and smallest code; the output has the input's
/// quantization, and `output` is ignored. Sum and mean add `code − zeroPoint` exactly in integers;
/// the results are `Float(sum) · scale` and `Float(sum) · (scale / Float(n))`. All other kinds
/// compute on the numbers that the codes represent.
public struct Reduction: IntegerOperation, EncodedOutput {
  public static let name = "Reduction"

  /// What is computed from the elements. Raw values are written in files.
  public enum Kind: UInt8, Hashable, Sendable, CaseIterable {
    case mean = 0
    case sum = 1
    case maximum = 2
    case minimum = 3
    case product = 4
    case sumOfMagnitudes = 5
    case norm = 6
    case sumOfSquares = 7
    case logarithmOfSum = 8
    case logarithmOfSumOfExponentials = 9
  }

  /// What is computed from the elements.
  public var kind: Kind
  /// The reduced axes, ascending, each once, counted from the front. Without axes, every element is
  /// reduced by itself.
  public var axes: [Int]
  /// Whether the output keeps the reduced axes, with extent 1.
  public var keepsAxes: Bool
  /// How results are stored.
  public var output: OutputEncoding

  /// - Parameter axes: ascending, each once, counted from the front.
  public init(
    _ kind: Kind, axes: [Int], keepsAxes: Bool, output: OutputEncoding = .float32
  ) {
    self.kind = kind
    self.axes = axes
    self.keepsAxes = keepsAxes
    self.output = output
  }

  public static let placeholder = Reduction(.mean, axes: [], keepsAxes: false)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("kind", &kind)
    try visitor.visit("axes", &axes)
    try visitor.visit("keeps axes", &keepsAxes)
    try visitor.visit("output", &output)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    let input = try required(0, of: operands).type.checked()
    try expectAxes(axes, rank: input.shape.rank)
    var result = input
    if keepsAxes {
      for axis in axes { result.shape[axis] = 1 }
    } else {
      let kept = input.shape.axes.indices.filter { !axes.contains($0) }
      result.shape = Shape(kept.map { input.shape[$0] })
    }
    if input.elementType == .int32 || input.elementType == .int64 {
      switch kind {
      case .mean:
        if axes.contains(where: { input.shape[$0] == 0 }) {
          throw .malformed("an integer mean needs elements along axes \(axes), found \(input)")
        }
      case .sum, .product, .maximum, .minimum: break
      default: throw .unsupported("\(kind) takes no integers, found \(input); cast it to float32")
      }
      guard input.quantization == .none else {
        throw .unsupported("\(kind) takes codes of at most 16 bits, found \(input)")
      }
      return [result]
    }
    try expectFloatOrCodes(input)
    let keepsCodes = input.quantization != .none && (kind == .maximum || kind == .minimum)
    return [try keepsCodes ? result.checked() : result.stored(as: output)]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!
    var strides = Array(repeating: 1, count: input.shape.count)
    for axis in strides.indices.dropLast().reversed() {
      strides[axis] = strides[axis + 1] &* input.shape[axis + 1]
    }
    func offset(_ index: [Int], _ axes: [Int]) -> Int {
      zip(index, axes).reduce(0) { $0 + $1.0 * strides[$1.1] }
    }
    // Offsets of the elements of one reduction from its first.
    var elements: [Int] = []
    try forEachIndex(of: axes.map { input.shape[$0] }) { (index) throws(QMError) in
      elements.append(offset(index, axes))
    }
    let kept = input.shape.indices.filter { !axes.contains($0) }
    var position = 0
    try forEachIndex(of: kept.map { input.shape[$0] }) { (index) throws(QMError) in
      let start = offset(index, kept)
      reduce(input, start, elements, to: outputs[0], position)
      position += 1
    }
  }

  /// Reduces the elements at `start + elements[…]`.
  private func reduce(
    _ input: TensorView, _ start: Int, _ elements: [Int], to output: TensorView, _ position: Int
  ) {
    func storeFloat() {
      let value = float(elements.count) { input.number(at: start + elements[$0]) }
      output.store(canonical(value), at: position)
    }
    switch (input.elementType, input.quantization) {
    case (.int32, _):
      let values = elements.map { input.elements(as: Int32.self)[start + $0] }
      output.elements(as: Int32.self)[position] = integer(values)
    case (.int64, _):
      let values = elements.map { input.elements(as: Int64.self)[start + $0] }
      output.elements(as: Int64.self)[position] = integer(values)
    case (_, .fixed(let scale, let zeroPoint)):
      let codes = elements.lazy.map { input.code(at: start + $0) }
      switch kind {
      case .maximum, .minimum:
        let range = input.elementType.codes!
        let best =
          kind == .maximum ? codes.max() ?? range.lowerBound : codes.min() ?? range.upperBound
        output.setCode(best, at: position)
      case .sum, .mean:
        let sum = codes.reduce(0) { $0 + Int($1 - zeroPoint) }
        output.store(
          canonical(Self.number(sum: sum, count: elements.count, scale: scale, kind)), at: position)
      default: storeFloat()
      }
    default: storeFloat()
    }
  }

  /// The sum or mean of the numbers that codes represent, from the exact sum of `code − zeroPoint`.
  static func number(sum: Int, count: Int, scale: Float, _ kind: Kind) -> Float {
    Float(sum) * (kind == .mean ? scale / Float(count) : scale)
  }

  private func integer<Element: FixedWidthInteger>(_ values: [Element]) -> Element {
    switch kind {
    case .maximum: values.max() ?? .min
    case .minimum: values.min() ?? .max
    case .product: values.reduce(1, &*)
    case .mean: Element(truncatingIfNeeded: Int(values.reduce(0, &+)) / values.count)
    default: values.reduce(0, &+)
    }
  }

  private func float(_ count: Int, of element: (_ index: Int) -> Float) -> Float {
    switch kind {
    case .sum: return Lanes.sum(count, of: element)
    case .mean: return Lanes.sum(count, of: element) / Float(count)
    case .maximum: return Lanes.maximum(count, of: element)
    case .minimum: return Lanes.minimum(count, of: element)
    case .product: return Lanes.product(count, of: element)
    case .sumOfMagnitudes: return Lanes.sum(count) { element($0).magnitude }
    case .sumOfSquares: return Lanes.sum(count) { element($0) * element($0) }
    case .norm: return Lanes.sum(count) { element($0) * element($0) }.squareRoot()
    case .logarithmOfSum: return UnaryFunction.logarithm(Lanes.sum(count, of: element))
    case .logarithmOfSumOfExponentials:
      let maximum = Lanes.maximum(count, of: element)
      let shift = maximum.isFinite ? maximum : 0
      let sum = Lanes.sum(count) { UnaryFunction.exponential(element($0) - shift) }
      return UnaryFunction.logarithm(sum) + shift
    }
  }
}

extension Reduction {
  public func elementSource(operandCount: Int) -> ElementSource {
    kind == .maximum || kind == .minimum ? .picked : .computed
  }
  public func integerForm(of operands: [Operand?]) -> IntegerForm? {
    switch kind {
    case .maximum, .minimum: IntegerForm(operands: [0], result: .codesOfInput)
    case .mean, .sum: IntegerForm(operands: [0], result: encoded(as: Operation.reduction))
    case .product, .sumOfMagnitudes, .norm, .sumOfSquares, .logarithmOfSum,
      .logarithmOfSumOfExponentials:
      nil
    }
  }
  public var accumulators: Accumulators { .wide }
  public var prefersChannelsLast: Bool { false }
  public var keepsName: Bool { false }
  public var analyticRange: ClosedRange<Float>? { nil }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    guard axes.allSatisfy(order.places.indices.contains) else { return nil }
    // If the reduced axes are dropped, the others must keep their relative order.
    guard keepsAxes || order.keepsOrder(without: axes) else { return nil }
    var result = self
    result.axes = axes.map { order.places[$0] }.sorted()
    return ReorderedForm(
      .reduction(result), [.reordered], of: operands, reordersOutput: keepsAxes)
  }
}
