import QMTensor

// Shared by the type rules of data movement, pooling, reductions and normalizations.

/// Bounds of one value. Within them no product of extents, strides and element sizes overflows.
enum ValueLimits {
  /// 2^40 bytes: more than the memory of any machine that runs this.
  static let byteCount = 1 << 40
  /// Kernels keep one index per axis on the stack.
  static let rank = 32
}

extension ValueType {
  /// This type, checked.
  /// - Throws: `malformed` if its rank or the product of its known extents exceeds ``ValueLimits``.
  ///   An extent of 0 counts as 1, so that strides stay within the bounds too.
  func checked() throws(QMError) -> ValueType {
    guard shape.rank <= ValueLimits.rank else {
      throw .malformed("a value has at most rank \(ValueLimits.rank), found \(shape.rank)")
    }
    var byteCount = elementType.byteCount
    for axis in shape.axes {
      guard let extent = axis.extent else { continue }
      guard extent >= 0 else { throw .malformed("shape \(shape) has the extent \(extent)") }
      let (product, overflow) = byteCount.multipliedReportingOverflow(by: max(extent, 1))
      guard !overflow, product <= ValueLimits.byteCount else {
        throw .malformed("\(elementType)\(shape) takes more than 2^40 bytes")
      }
      byteCount = product
    }
    return self
  }
}

extension ValueType {
  /// A value of this shape whose elements are stored in the encoding `output`.
  /// - Throws: `malformed` as ``checked()``, or if the scale or zero point is invalid.
  func stored(as output: OutputEncoding) throws(QMError) -> ValueType {
    try output.check()
    return try ValueType(output.elementType, shape, output.quantization).checked()
  }
}

extension OperationProtocol {
  /// - Throws: `malformed` if there are fewer or more operands than `count`.
  func expect(_ count: ClosedRange<Int>, _ operands: [Operand?]) throws(QMError) {
    guard count.contains(operands.count) else {
      let expected =
        count.count == 1 ? "\(count.lowerBound)" : "\(count.lowerBound) to \(count.upperBound)"
      throw .malformed("\(Self.name) takes \(expected) inputs, found \(operands.count)")
    }
  }

  /// Input `index`; nil if it is absent.
  func optional(_ index: Int, of operands: [Operand?]) -> Operand? {
    index < operands.count ? operands[index] : nil
  }

  /// The type of input `index`, whose elements are to be moved.
  /// - Throws: `unsupported` if its scales are in another tensor, which would have to move too.
  /// - Parameter permutes: whether the elements only change places, so that codes that share one scale of
  ///   the run may move.
  func movable(
    _ index: Int, of operands: [Operand?], permutes: Bool = false
  ) throws(QMError) -> ValueType {
    let type = try required(index, of: operands).type
    switch type.quantization {
    case .none, .fixed: return try type.checked()
    case .dynamic(axes: 0) where permutes: return try type.checked()
    case .dynamic, .weights:
      throw .unsupported("\(Self.name) does not take \(type); dequantize it first")
    }
  }

  /// - Throws: `unsupported` unless the elements are float32, or codes with fixed quantization.
  func expectFloatOrCodes(_ type: ValueType) throws(QMError) {
    switch (type.elementType, type.quantization) {
    case (.float32, .none): break
    case (_, .fixed(let scale, let zeroPoint)):
      try QuantizationParameters(type.elementType, scale: scale, zeroPoint: zeroPoint).check()
    default:
      throw .unsupported(
        "\(Self.name) takes float32 or codes with fixed quantization, found \(type)")
    }
  }

  /// An operand of integers, such as a shape, positions or counts.
  /// - Parameter meaning: what the integers are, for messages.
  func integers(
    _ index: Int, of operands: [Operand?], _ meaning: String
  ) throws(QMError) -> IntegerOperand {
    let operand = try required(index, of: operands)
    let type = operand.type
    guard type.elementType == .int64 || type.elementType == .int32, type.quantization == .none,
      type.shape.rank <= 1
    else {
      throw .malformed("\(Self.name) takes \(meaning) as int32[k] or int64[k], found \(type)")
    }
    let values = operand.constant.map { $0.integers() }
    let count = values?.count ?? (type.shape.rank == 0 ? 1 : type.shape[0].extent)
    return IntegerOperand(values: values, count: count)
  }

  /// - Throws: `malformed` if a tensor of the rank has no such axis.
  func expectAxis(_ axis: Int, rank: Int) throws(QMError) {
    guard (0..<rank).contains(axis) else {
      throw .malformed("\(Self.name) needs an axis within rank \(rank), found axis \(axis)")
    }
  }

  /// - Throws: `malformed` unless the axes ascend, each once, within the rank.
  func expectAxes(_ axes: [Int], rank: Int) throws(QMError) {
    for (position, axis) in axes.enumerated() {
      try expectAxis(axis, rank: rank)
      guard position == 0 || axes[position - 1] < axis else {
        throw .malformed("axes must ascend, found \(axes)")
      }
    }
  }

  /// `type` with the number of its channels, as far as it or its parameters, the inputs from 1 on,
  /// have it.
  /// - Throws: `malformed` unless each parameter is float32 with one number per channel.
  func unified(
    _ type: ValueType, withChannelsOf parameters: [String], along axis: Int, _ operands: [Operand?]
  ) throws(QMError) -> ValueType {
    var type = type
    for (index, meaning) in parameters.enumerated() {
      let parameter = try required(index + 1, of: operands).type
      guard parameter.elementType == .float32, parameter.quantization == .none,
        parameter.shape.rank == 1
      else {
        throw .malformed("\(Self.name) takes \(meaning) as float32[channels], found \(parameter)")
      }
      type.shape[axis] = try unified(
        type.shape[axis], parameter.shape[0], "the channels of \(type) and its \(meaning)")
    }
    return type
  }

  /// One axis from two that must be equal: the known extent, or else a name.
  /// - Throws: `malformed` if both extents are known and differ.
  func unified(
    _ left: Shape.Axis, _ right: Shape.Axis, _ place: @autoclosure () -> String
  ) throws(QMError) -> Shape.Axis {
    switch (left, right) {
    case (.fixed(let first), .fixed(let second)):
      guard first == second else {
        throw .malformed("\(place()): extents \(first) and \(second) differ")
      }
      return left
    case (.fixed, .free): return left
    case (.free, .fixed): return right
    case (.free(let name), .free): return name.isEmpty ? right : left
    }
  }
}

/// What is known of an operand of integers before a run.
struct IntegerOperand {
  /// The integers; nil unless the operand is a constant.
  let values: [Int]?
  /// Number of integers; nil if it is not known.
  let count: Int?

  /// The number of integers, which is the rank of a result.
  /// - Throws: `unsupported` if it is not known; `malformed` if it exceeds ``ValueLimits``.
  func requiredCount(_ meaning: String) throws(QMError) -> Int {
    guard let count else {
      throw .unsupported("the length of \(meaning) is not known before the run")
    }
    guard count <= ValueLimits.rank else {
      throw .malformed("\(meaning) has at most \(ValueLimits.rank) entries, found \(count)")
    }
    return count
  }
}

extension Shape {
  /// `count` dynamic axes without names.
  static func unknown(rank count: Int) -> Shape { Shape(Array(repeating: .free(""), count: count)) }
}
