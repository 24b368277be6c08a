import QMTensor

// What the type rules of moves, pooling, reductions and normalizations share.

/// Bounds of one value. Within them no product of extents, strides and element sizes overflows.
enum ValueLimits {
  /// 2^40 bytes: more than the memory of the machines that run this.
  static let byteCount = 1 << 40
  /// Kernels keep one index per axis on the stack.
  static let rank = 32
}

extension ValueType {
  /// This type.
  /// - Throws: `malformed` if its rank or the product of its fixed extents is beyond
  ///   ``ValueLimits``. An extent of 0 counts as 1, so that strides stay within the bounds too.
  func checked() throws(QMError) -> ValueType {
    guard shape.rank <= ValueLimits.rank else {
      throw .malformed("a value of rank \(shape.rank); at most \(ValueLimits.rank) is possible")
    }
    var byteCount = elementType.byteCount
    for axis in shape.axes {
      guard let extent = axis.extent else { continue }
      guard extent >= 0 else { throw .malformed("extent \(extent) in \(shape)") }
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
  /// A value of these extents whose elements an operation stores as `output` says.
  /// - Throws: `malformed` as ``checked()``, or if the scale or zero point breaks its rules.
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
      throw .malformed("\(operands.count) inputs; \(Self.name) has \(expected)")
    }
  }

  /// Input `index`, or nil where it is optional and absent.
  func optional(_ index: Int, of operands: [Operand?]) -> Operand? {
    index < operands.count ? operands[index] : nil
  }

  /// The type of input `index`, whose elements are to be moved.
  /// - Throws: `unsupported` if its scales are tensors of their own, which would have to move too.
  func movable(_ index: Int, of operands: [Operand?]) throws(QMError) -> ValueType {
    let type = try required(index, of: operands).type
    switch type.quantization {
    case .none, .fixed: return try type.checked()
    case .dynamic, .weights:
      throw .unsupported("\(Self.name) of \(type); dequantize it first")
    }
  }

  /// - Throws: `unsupported` unless the type holds real numbers: float32, or codes with fixed
  ///   quantization.
  func expectReal(_ type: ValueType) throws(QMError) {
    switch (type.elementType, type.quantization) {
    case (.float32, .none): break
    case (_, .fixed(let scale, let zeroPoint)):
      try QuantizationParameters(type.elementType, scale: scale, zeroPoint: zeroPoint).check()
    default:
      throw .unsupported(
        "\(Self.name) of \(type); expected float32, or codes with fixed quantization")
    }
  }

  /// Extents, positions or counts: an operand of integers.
  func integers(
    _ index: Int, of operands: [Operand?], _ meaning: String
  ) throws(QMError) -> IntegerOperand {
    let operand = try required(index, of: operands)
    let type = operand.type
    guard type.elementType == .int64 || type.elementType == .int32, type.quantization == .none,
      type.shape.rank <= 1
    else { throw .malformed("\(meaning) of type \(type); expected int64[k]") }
    let values = operand.constant.map { $0.integers() }
    let count = values?.count ?? (type.shape.rank == 0 ? 1 : type.shape[0].extent)
    return IntegerOperand(values: values, count: count)
  }

  /// - Throws: `malformed` if a tensor of the rank has no such axis.
  func expectAxis(_ axis: Int, rank: Int) throws(QMError) {
    guard (0..<rank).contains(axis) else {
      throw .malformed("axis \(axis) of a value of rank \(rank)")
    }
  }

  /// - Throws: `malformed` unless the axes ascend, each once, within the rank.
  func expectAxes(_ axes: [Int], rank: Int) throws(QMError) {
    for (position, axis) in axes.enumerated() {
      try expectAxis(axis, rank: rank)
      guard position == 0 || axes[position - 1] < axis else {
        throw .malformed("axes \(axes) do not ascend")
      }
    }
  }

  /// `type` with what its parameters, the inputs from 1 on, tell of the number of its channels.
  /// - Throws: `malformed` unless each parameter is float32 with one number a channel.
  func unified(
    _ type: ValueType, withChannelsOf parameters: [String], along axis: Int, _ operands: [Operand?]
  ) throws(QMError) -> ValueType {
    var type = type
    for (index, meaning) in parameters.enumerated() {
      let parameter = try required(index + 1, of: operands).type
      guard parameter.elementType == .float32, parameter.quantization == .none,
        parameter.shape.rank == 1
      else { throw .malformed("\(meaning) of type \(parameter); expected float32[channels]") }
      type.shape[axis] = try unified(
        type.shape[axis], parameter.shape[0], "the channels of \(type) and its \(meaning)")
    }
    return type
  }

  /// What is known of an extent that both sides must have.
  /// - Throws: `malformed` if both are known and differ.
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

/// What is known before a run of an operand that holds integers.
struct IntegerOperand {
  /// The integers, where the operand is a constant.
  let values: [Int]?
  /// Their number, where it is known.
  let count: Int?

  /// - Throws: `unsupported` where the number is not known, and with it the rank of a result.
  func requiredCount(_ meaning: String) throws(QMError) -> Int {
    guard let count else {
      throw .unsupported("the number of \(meaning) is not known before the run")
    }
    guard count <= ValueLimits.rank else {
      throw .malformed("\(count) \(meaning); at most \(ValueLimits.rank) are possible")
    }
    return count
  }
}

extension Shape {
  /// `count` axes of which nothing is known.
  static func unknown(rank count: Int) -> Shape { Shape(Array(repeating: .free(""), count: count)) }
}
