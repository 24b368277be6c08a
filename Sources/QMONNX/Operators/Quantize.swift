import QMGraph
import QMOperations
import QMTensor

// QuantizeLinear and DequantizeLinear of already quantized models (QDQ).

extension NodeReader {
  /// QuantizeLinear. With one constant scale it becomes a Quantize. uint8 codes become int8 codes:
  /// code and zero point are both 128 lower, which stands for the same float32 number. With several
  /// or computed scales it becomes float arithmetic.
  func quantizeLinear() throws(QMError) {
    let input = try float(0)
    let scale = try float(1)
    guard let number = constantScalar(scale), shape(scale).rank <= 1,
      try optional(2).map({ constant($0)?.elementCount == 1 }) ?? true
    else { return try quantizeByArithmetic(input, scale) }
    guard number > 0, number.isFinite else {
      throw .malformed("the scale is \(number); expected a positive number")
    }
    let (type, zeroPoint) = try zeroPoint()
    switch type {
    case .int8 where constant(input) == nil:
      try finish(
        .quantize(Quantize(.int8, scale: number, zeroPoint: zeroPoint)), [input], as: .int8)
    case .uint8 where constant(input) == nil:
      try finish(
        .quantize(Quantize(.int8, scale: number, zeroPoint: zeroPoint - 128)), [input], as: .uint8)
    case .int16 where constant(input) == nil:
      try finish(
        .quantize(Quantize(.int16, scale: number, zeroPoint: zeroPoint)), [input], as: .int16)
    default: try quantizeByArithmetic(input, scale)
    }
  }

  /// clamp(round(x / scale) + zero point), as plain integers without quantization parameters.
  private func quantizeByArithmetic(_ input: Value, _ scale: Value) throws(QMError) {
    let rank = shape(input).rank
    var type = ElementType.uint8
    let zeroPoint = try optional(2)
    if let zeroPoint {
      type = zeroPoint.type
    } else if let given = try integer("output_dtype").flatMap(Int32.init(exactly:)), given != 0 {
      type = try ElementType(onnx: given)
    }
    let bounds: (Float, Float)
    switch type {
    case .int8: bounds = (-128, 127)
    case .uint8: bounds = (0, 255)
    case .int16: bounds = (-32768, 32767)
    case .uint16: bounds = (0, 65535)
    default: throw .unsupported("codes of type \(type); expected 8 or 16 bits")
    }
    let axis = rank == 0 ? 0 : try axis(integer("axis") ?? 1, rank: max(rank, 2)) % max(rank, 1)
    var number = try append(
      .binary(Binary(.divide)), [input, alongAxis(scale, axis: axis, of: input)], as: input.type,
      "quotient")
    number = try append(.unary(Unary(.round)), [number], as: input.type, "rounded")
    if let zeroPoint {
      let shift = try append(.cast(Cast(to: .float32)), [zeroPoint], as: .float32, "zero")
      number = try append(
        .binary(Binary(.add)), [number, alongAxis(shift, axis: axis, of: input)], as: .float32,
        "shifted")
    }
    number = try append(
      .unary(Unary(.clip(minimum: bounds.0, maximum: bounds.1))), [number], as: .float32, "clamped")
    try finish(.cast(Cast(to: type)), [number], as: type)
  }

  /// Element type and value of the zero point: input 2, or uint8 and 0.
  private func zeroPoint() throws(QMError) -> (ElementType, Int32) {
    guard let value = try optional(2) else {
      let type = try integer("output_dtype").flatMap { Int32(exactly: $0) } ?? 0
      return (type == 0 ? .uint8 : try ElementType(onnx: type), 0)
    }
    guard let tensor = constant(value), tensor.elementCount == 1 else {
      throw .unsupported("the zero point is computed or not a single number; expected one constant")
    }
    switch tensor.elementType {
    case .int8: return (.int8, Int32(tensor.elements(as: Int8.self)[0]))
    case .uint8: return (.uint8, Int32(tensor.elements(as: UInt8.self)[0]))
    case .int16: return (.int16, Int32(tensor.elements(as: Int16.self)[0]))
    case let type: return (type, 0)
    }
  }

  /// DequantizeLinear. Codes of a Quantize become a Dequantize, other integers float arithmetic. A
  /// constant is folded, and keeps its codes.
  func dequantizeLinear() throws(QMError) {
    let codes = try raw(0)
    guard codes.type.isInteger else {
      throw .malformed("codes of type \(codes.type), expected integers")
    }
    let scale = try float(1)
    if case .fixed(let given, let zeroPoint) = builder.construction.type(of: codes).quantization {
      let (type, expected) = try self.zeroPoint()
      let shifted = type == .uint8 ? expected - 128 : expected
      guard constantScalar(scale) == given, shifted == zeroPoint, type == codes.type else {
        throw .unsupported(
          "scale or zero point differ from those of the QuantizeLinear that computes its input")
      }
      return try finish(.dequantize(Dequantize()), [codes], as: scale.type)
    }
    // (codes − zero point) · scale, with zero point and scale broadcast along `axis`.
    let rank = shape(codes).rank
    let axis = rank == 0 ? 0 : try axis(integer("axis") ?? 1, rank: max(rank, 2)) % max(rank, 1)
    var number = try append(.cast(Cast(to: .float32)), [codes], as: .float32, "codes")
    if let zeroPoint = try optional(2) {
      try requireSameType(codes, zeroPoint)
      let shift = try append(.cast(Cast(to: .float32)), [zeroPoint], as: .float32, "zero")
      number = try append(
        .binary(Binary(.subtract)), [number, alongAxis(shift, axis: axis, of: codes)],
        as: .float32, "shifted")
    }
    let wide = try alongAxis(scale, axis: axis, of: codes)
    guard let numbers = constant(number), let scales = constant(scale),
      let weights = try weights(numbers, scales, axis: axis)
    else { return try finish(.binary(Binary(.multiply)), [number, wide], as: scale.type) }
    let product = try append(
      .binary(Binary(.multiply)), [number, wide], as: scale.type, "dequantized")
    builder.construction.attach(weights, to: product)
    try finish([product])
  }

  /// Codes with zero point 0 and their scales; nil if they do not fit int8 or have scales per
  /// block.
  private func weights(
    _ numbers: Tensor, _ scales: Tensor, axis: Int
  ) throws(QMError) -> QuantizedTensor? {
    guard scales.shape.count <= 1, scales.elementType == .float32, numbers.elementCount > 0,
      scales.elements(as: Float.self).allSatisfy({ $0.isNormal && $0 > 0 })
    else { return nil }
    let numbers = numbers.elements(as: Float.self)
    let range = numbers.reduce(into: (low: Float(0), high: Float(0))) {
      $0 = (min($0.low, $1), max($0.high, $1))
    }
    guard range.low >= -128, range.high <= 127 else { return nil }
    let codes = try Tensor(self.shapeOfCodes(), numbers.map { Int8($0) })
    let isOne = scales.elementCount == 1
    return QuantizedTensor(
      codes: codes, scales: try scales.reshaped([scales.elementCount]),
      granularity: isOne ? .perTensor : .perChannel(axis: axis),
      codeRange: Int32(range.low)...Int32(range.high))
  }

  private func shapeOfCodes() throws(QMError) -> [Int] {
    try shape(raw(0)).extents ?? []
  }

  /// Scales or zero points in a shape that broadcasts with `value`: one number, one per index of
  /// `axis`, or one per block of indices.
  private func alongAxis(_ parameter: Value, axis: Int, of value: Value) throws(QMError) -> Value {
    let rank = shape(value).rank
    switch shape(parameter).rank {
    case 0: return parameter
    case 1 where shape(parameter)[0] == 1 && rank == 0:
      return try append(.squeeze(Squeeze(axes: [0])), [parameter], as: parameter.type, "scalar")
    case 1 where shape(parameter)[0] == 1: return parameter
    case 1:
      guard rank > 0 else {
        throw .malformed("scales \(shape(parameter)) for a scalar; expected one")
      }
      let added = (0..<rank).filter { $0 != axis }
      return try append(
        .unsqueeze(Unsqueeze(axes: added)), [parameter], as: parameter.type, "along\(axis)")
    case rank: return try alongBlocks(parameter, axis: axis, of: value)
    default:
      throw .malformed(
        "scales \(shape(parameter)) for \(shape(value)); expected one, one per channel or one per block"
      )
    }
  }

  /// Each number repeated for every index of its block.
  private func alongBlocks(
    _ parameter: Value, axis: Int, of value: Value
  ) throws(QMError) -> Value {
    guard let size = try integer("block_size"), size > 0, var extents = shape(parameter).extents,
      let count = shape(value)[axis].extent, size <= count,
      (count + size - 1) / size == extents[axis]
    else {
      throw .unsupported(
        "scales \(shape(parameter)) for \(shape(value)); expected fixed axes and a fitting block_size"
      )
    }
    let column = try append(
      .unsqueeze(Unsqueeze(axes: [axis + 1])), [parameter], as: parameter.type, "block")
    var wide = extents
    wide.insert(size, at: axis + 1)
    extents[axis] *= size
    let repeated = try append(
      .expand(Expand()), [column, addConstant(wide, "blocks")], as: parameter.type, "repeated")
    let flat = try append(
      .reshape(Reshape()), [repeated, addConstant(extents, "extents")], as: parameter.type, "flat")
    guard extents[axis] > count else { return flat }
    return try append(
      .slice(Slice()),
      [
        flat, addConstant([0], "start"), addConstant([count], "end"), addConstant([axis], "axis"),
        addConstant([1], "step"),
      ], as: parameter.type, "cut")
  }
}
