import QMGraph
import QMOperations
import QMTensor

// QuantizeLinear and DequantizeLinear of already quantized models (QDQ).

/// The integers that a QuantizeLinear gives.
private struct CodeType {
  let type: ElementType
  let bounds: ClosedRange<Int32>
  /// nil for integers of 8 bits or more.
  let packed: PackedIntegers?

  /// - Throws: `unsupported` for types that are not integers of 2 to 16 bits.
  init(_ type: ElementType, packed: PackedIntegers?) throws(QMError) {
    self.type = type
    self.packed = packed
    switch type {
    case .int8: bounds = packed?.bounds ?? -128...127
    case .uint8: bounds = packed?.bounds ?? 0...255
    case .int16: bounds = -32768...32767
    case .uint16: bounds = 0...65535
    default: throw .unsupported("codes of type \(type); expected integers of 2 to 16 bits")
    }
  }

  /// The type of the codes of a Quantize; unsigned codes are kept half the range lower.
  var stored: ElementType { type == .int8 || type == .uint8 ? .int8 : .int16 }
  var shift: Int32 { type == .uint8 ? 128 : type == .uint16 ? 32768 : 0 }
  /// Whether the integers have fewer bits than the stored codes.
  var isNarrow: Bool { bounds.count < (stored == .int8 ? 256 : 65536) }
}

extension NodeReader {
  /// QuantizeLinear. With one constant scale it becomes a Quantize. uint8 codes become int8 codes:
  /// code and zero point are both 128 lower, which stands for the same float32 number; in the same
  /// way uint16 codes become int16 codes. With several or computed scales it becomes integers.
  func quantizeLinear() throws(QMError) {
    let input = try float(0)
    let scale = try float(1)
    let codes = try codeType()
    guard let number = constantScalar(scale), shape(scale).rank <= 1 else {
      return try quantizeToIntegers(input, scale, codes)
    }
    guard number > 0, number.isFinite else {
      throw .malformed("the scale is \(number); expected a positive number")
    }
    guard constant(input) == nil, number.isNormal, let zeroPoint = try zeroPointNumber() else {
      return try quantizeToIntegers(input, scale, codes)
    }
    var source = input
    if codes.isNarrow {
      // The stored type has a wider range than the integers.
      source = try append(
        .unary(
          Unary(
            .clip(
              minimum: Float(codes.bounds.lowerBound - zeroPoint) * number,
              maximum: Float(codes.bounds.upperBound - zeroPoint) * number))),
        [input], as: input.type, "clamped")
    }
    try finish(
      .quantize(Quantize(codes.stored, scale: number, zeroPoint: zeroPoint - codes.shift)),
      [source], as: codes.type, packed: codes.packed)
  }

  /// The type of the zero point, or the attribute output_dtype; uint8 without both.
  private func codeType() throws(QMError) -> CodeType {
    if let zeroPoint = try optional(2) {
      return try CodeType(zeroPoint.type, packed: builder.packedType(of: zeroPoint))
    }
    guard let given = try integer("output_dtype").flatMap(Int32.init(exactly:)), given != 0 else {
      return try CodeType(.uint8, packed: nil)
    }
    guard let packed = PackedIntegers(onnx: given) else {
      return try CodeType(ElementType(onnx: given), packed: nil)
    }
    return try CodeType(packed.stored, packed: packed)
  }

  /// clamp(round(x / scale) + zero point), as integers without quantization parameters.
  private func quantizeToIntegers(
    _ input: Value, _ scale: Value, _ codes: CodeType
  ) throws(QMError) {
    let axis = try scaleAxis(of: input)
    let quotient = try append(
      .binary(Binary(.divide)), [input, alongAxis(scale, axis: axis, of: input)], as: input.type,
      "quotient")
    func step(
      _ function: BinaryFunction, _ left: Value, _ right: Value, _ suffix: String
    ) throws(QMError) -> Value {
      try append(.binary(Binary(function)), [left, right], as: .int32, suffix)
    }
    func bound(_ number: Int32, _ suffix: String) throws(QMError) -> Value {
      try addConstant(Tensor([], [number]), suffix)
    }
    /// The quotient rounded to one of 65,536 integers: those from −32768 − `above` on.
    func rounded(above: Int32, _ suffix: String) throws(QMError) -> Value {
      let quantized = try append(
        .quantize(Quantize(.int16, scale: 1, zeroPoint: above)), [quotient], as: .int16, suffix)
      let wide = try append(.cast(Cast(to: .int32)), [quantized], as: .int32, suffix + "Wide")
      return try step(.subtract, wide, bound(above, suffix + "Above"), suffix + "Integers")
    }
    // Integers of 8 bits, without their zero points, are among those of 16 bits. Integers of 16
    // bits are within ±65535: the sum of a part that is not positive and one that is not negative.
    var number =
      codes.stored == .int8
      ? try rounded(above: 0, "rounded")
      : try step(.add, rounded(above: 32767, "low"), rounded(above: -32768, "high"), "rounded")
    if let zeroPoint = try optional(2) {
      let wide = try append(.cast(Cast(to: .int32)), [zeroPoint], as: .int32, "zero")
      number = try step(.add, number, alongAxis(wide, axis: axis, of: input), "shifted")
    }
    number = try step(.maximum, number, bound(codes.bounds.lowerBound, "least"), "bounded")
    number = try step(.minimum, number, bound(codes.bounds.upperBound, "largest"), "clamped")
    try finish(.cast(Cast(to: codes.type)), [number], as: codes.type, packed: codes.packed)
  }

  /// The zero point as a number, 0 if it is absent; nil unless it is one constant of 8 or 16 bits.
  private func zeroPointNumber() throws(QMError) -> Int32? {
    guard let value = try optional(2) else { return 0 }
    guard let tensor = constant(value), tensor.elementCount == 1 else { return nil }
    switch tensor.elementType {
    case .int8: return Int32(tensor.elements(as: Int8.self)[0])
    case .uint8: return Int32(tensor.elements(as: UInt8.self)[0])
    case .int16: return Int32(tensor.elements(as: Int16.self)[0])
    case .uint16: return Int32(tensor.elements(as: UInt16.self)[0])
    default: return nil
    }
  }

  /// The axis along which scales differ.
  private func scaleAxis(of value: Value) throws(QMError) -> Int {
    let rank = shape(value).rank
    return rank == 0 ? 0 : try axis(integer("axis") ?? 1, rank: max(rank, 2)) % max(rank, 1)
  }

  /// Codes of a Quantize between two integers, as codes with the same scale and zero point: clamping
  /// the numbers that they stand for gives the same codes.
  /// - Returns: false for values that are not codes.
  func finishClampedCodes(
    _ codes: Value, _ low: Int32?, _ high: Int32?
  ) throws(QMError) -> Bool {
    let type = builder.construction.type(of: codes)
    guard case .fixed(let scale, let zeroPoint) = type.quantization else { return false }
    let zero = try zeroPoint + CodeType(codes.type, packed: nil).shift
    func number(_ code: Int32?, else largest: Float) -> Float {
      code.map { Float($0 - zero) * scale } ?? largest
    }
    let least = number(low, else: -.greatestFiniteMagnitude)
    let largest = number(high, else: .greatestFiniteMagnitude)
    let numbers = try append(.dequantize(Dequantize()), [codes], as: .float32, "numbers")
    let clamped = try append(
      .unary(Unary(.clip(minimum: min(least, largest), maximum: largest))), [numbers],
      as: .float32, "clamped")
    try finish(
      .quantize(Quantize(type.elementType, scale: scale, zeroPoint: zeroPoint)), [clamped],
      as: codes.type)
    return true
  }

  /// DequantizeLinear. Codes of a Quantize become a Dequantize, other integers float arithmetic. A
  /// constant is folded, and keeps its codes.
  func dequantizeLinear() throws(QMError) {
    var codes = try raw(0)
    if builder.isFloat8(codes) { return try dequantizeFloat8(codes) }
    guard codes.type.isInteger else {
      throw .malformed("codes of type \(codes.type), expected integers")
    }
    let scale = try float(1)
    try requireSameType(codes, optional(2))
    if let numbers = try dequantizedDynamically(codes, scale, optional(2)) {
      return try finish([numbers])
    }
    if case .fixed(let given, let zeroPoint) = builder.construction.type(of: codes).quantization {
      let shift = try CodeType(codes.type, packed: nil).shift
      if constantScalar(scale) == given, try zeroPointNumber() == zeroPoint + shift {
        return try finish(.dequantize(Dequantize()), [codes], as: scale.type)
      }
      codes = try builder.construction.integers(codes)
    }
    // (codes − zero point) · scale, with zero point and scale broadcast along `axis`.
    let axis = try scaleAxis(of: codes)
    var integers = codes
    if let zeroPoint = try optional(2) {
      let widen = Operation.cast(Cast(to: .int32))
      let shift = try append(widen, [zeroPoint], as: .int32, "zero")
      integers = try append(
        .binary(Binary(.subtract)),
        [append(widen, [codes], as: .int32, "codes"), alongAxis(shift, axis: axis, of: codes)],
        as: .int32, "shifted")
    }
    let number = try append(.cast(Cast(to: .float32)), [integers], as: .float32, "numbers")
    let wide = try alongAxis(scale, axis: axis, of: codes)
    guard let numbers = constant(number), let scales = constant(scale) else {
      return try finish(.binary(Binary(.multiply)), [number, wide], as: scale.type)
    }
    let product = try append(
      .binary(Binary(.multiply)), [number, wide], as: scale.type, "dequantized")
    builder.construction.attach(
      try StoredCodes(numbers, scales, axis: axis, blockSize: integer("block_size") ?? 0),
      to: product)
    try finish([product])
  }

  /// DequantizeLinear of floating-point numbers of 8 bits, whose zero point is 0. No codes hold
  /// them, so the products are not rounded again.
  private func dequantizeFloat8(_ numbers: Value) throws(QMError) {
    let scale = try float(1)
    if let zeroPoint = try optional(2) {
      guard let tensor = constant(zeroPoint), tensor.elementType == .float32,
        tensor.elements(as: Float.self).allSatisfy({ $0 == 0 })
      else { throw .malformed("a zero point of numbers of 8 bits that is not 0") }
    }
    let wide = try alongAxis(scale, axis: scaleAxis(of: numbers), of: numbers)
    let product = try append(
      .binary(Binary(.multiply)), [numbers, wide], as: scale.type, "dequantized")
    builder.construction.attach(.elements, to: product)
    try finish([product])
  }

  /// Scales or zero points in a shape that broadcasts with `value`: one number, one per index of
  /// `axis`, or one per block of indices.
  private func alongAxis(_ parameter: Value, axis: Int, of value: Value) throws(QMError) -> Value {
    let rank = shape(value).rank
    if try integer("block_size") ?? 0 > 0, shape(parameter).rank == rank {
      return try alongBlocks(parameter, axis: axis, of: value)
    }
    switch shape(parameter).rank {
    case 0: return parameter
    case 1 where shape(parameter)[0] == 1 && rank == 0:
      return try append(.squeeze(Squeeze(axes: [0])), [parameter], as: parameter.type, "scalar")
    case 1 where shape(parameter)[0] == 1: return parameter
    case 1:
      guard rank > 0 else {
        throw .malformed("scales \(shape(parameter)) for a scalar; expected one")
      }
      // Broadcasting would repeat an axis of one element.
      guard agree(shape(parameter)[0], shape(value)[axis]) else {
        throw .malformed("scales \(shape(parameter)) for axis \(axis) of \(shape(value))")
      }
      let added = (0..<rank).filter { $0 != axis }
      return try append(
        .unsqueeze(Unsqueeze(axes: added)), [parameter], as: parameter.type, "along\(axis)")
    default:
      throw .malformed(
        "scales \(shape(parameter)) for \(shape(value)); expected one, one per channel or one per block"
      )
    }
  }

  /// Whether two axes may have the same extent.
  private func agree(_ left: Shape.Axis, _ right: Shape.Axis) -> Bool {
    guard let left = left.extent, let right = right.extent else { return true }
    return left == right
  }

  /// Each number repeated for every index of its block.
  private func alongBlocks(
    _ parameter: Value, axis: Int, of value: Value
  ) throws(QMError) -> Value {
    guard let given = try integer("block_size"), given > 0, var extents = shape(parameter).extents,
      let count = shape(value)[axis].extent, count > 0,
      (count - 1) / given + 1 == extents[axis],
      extents.indices.allSatisfy({ $0 == axis || agree(shape(parameter)[$0], shape(value)[$0]) })
    else {
      throw .unsupported(
        "scales \(shape(parameter)) for \(shape(value)); expected fixed axes and a fitting block_size"
      )
    }
    // A block may be longer than the axis.
    let size = min(given, count)
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
