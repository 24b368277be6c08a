import QMOperations
import QMTensor

// The pairs of QuantizeLinear and DequantizeLinear that an already quantized model holds.

extension NodeReader {
  /// QuantizeLinear with one scale. uint8 codes become int8 codes, 128 lower, with the zero point
  /// moved likewise: the same real numbers.
  func quantizeLinear() throws(QMError) {
    let input = try float(0)
    guard let scale = try constantScalar(float(1)), scale > 0, scale.isFinite else {
      throw .unsupported(
        "the scale is not one positive constant; only one scale per tensor is read")
    }
    let (type, zeroPoint) = try zeroPoint()
    switch type {
    case .int8:
      try finish(
        .quantize(Quantize(.int8, scale: scale, zeroPoint: zeroPoint)), [input], as: .int8)
    case .uint8:
      try finish(
        .quantize(Quantize(.int8, scale: scale, zeroPoint: zeroPoint - 128)), [input], as: .uint8)
    case .int16:
      try finish(
        .quantize(Quantize(.int16, scale: scale, zeroPoint: zeroPoint)), [input], as: .int16)
    default: throw .unsupported("codes of type \(type); expected int8, uint8 or int16")
    }
  }

  /// Type and number of the zero point of QuantizeLinear: input 2, or uint8 and 0.
  private func zeroPoint() throws(QMError) -> (ElementType, Int32) {
    guard let value = try optional(2) else {
      let type = try integer("output_dtype").flatMap { Int32(exactly: $0) } ?? 0
      return (type == 0 ? .uint8 : try ElementType(onnx: type), 0)
    }
    guard let tensor = constant(value), tensor.elementCount == 1 else {
      throw .unsupported("the zero point is not one constant; only one per tensor is read")
    }
    switch tensor.elementType {
    case .int8: return (.int8, Int32(tensor.elements(as: Int8.self)[0]))
    case .uint8: return (.uint8, Int32(tensor.elements(as: UInt8.self)[0]))
    case .int16: return (.int16, Int32(tensor.elements(as: Int16.self)[0]))
    case let type: return (type, 0)
    }
  }

  /// DequantizeLinear of a constant becomes a float constant; of codes, a Dequantize.
  func dequantizeLinear() throws(QMError) {
    let codes = try raw(0)
    let scale = try float(1)
    if case .fixed(let given, let zeroPoint) = builder.type(of: codes).quantization {
      let (type, expected) = try self.zeroPoint()
      let shifted = type == .uint8 ? expected - 128 : expected
      guard constantScalar(scale) == given, shifted == zeroPoint, type == codes.type else {
        throw .unsupported("scale or zero point differ from those of the QuantizeLinear before it")
      }
      return try finish(.dequantize(Dequantize()), [codes], as: scale.type)
    }
    guard constant(codes) != nil else {
      throw .unsupported("codes that are neither constant nor the result of QuantizeLinear")
    }
    guard try integer("block_size") ?? 0 == 0 else {
      throw .unsupported("scales per block")
    }
    // (codes − zero point) · scale, each broadcast along `axis`.
    let rank = shape(codes).rank
    var real = try append(.cast(Cast(to: .float32)), [codes], as: .float32, "codes")
    if let zeroPoint = try optional(2) {
      try requireSameType(codes, zeroPoint)
      let shift = try append(.cast(Cast(to: .float32)), [zeroPoint], as: .float32, "zero")
      real = try append(
        .binary(Binary(.subtract)), [real, alongAxis(shift, rank: rank)], as: .float32, "shifted")
    }
    try finish(
      .binary(Binary(.multiply)), [real, alongAxis(scale, rank: rank)], as: scale.type)
  }

  /// One number, or one per index of `axis`, in the shape that broadcasts with `rank` axes.
  private func alongAxis(_ value: Value, rank: Int) throws(QMError) -> Value {
    guard constant(value) != nil else {
      throw .unsupported("scales or zero points that are computed; expected constants")
    }
    switch shape(value).rank {
    case 0: return value
    case 1 where shape(value)[0] == 1 && rank == 0:
      return try append(.squeeze(Squeeze(axes: [0])), [value], as: value.type, "scalar")
    case 1 where shape(value)[0] == 1: return value
    case 1:
      let axis = try axis(integer("axis") ?? 1, rank: rank)
      let added = (0..<rank).filter { $0 != axis }
      return try append(
        .unsqueeze(Unsqueeze(axes: added)), [value], as: value.type, "along\(axis)")
    default: throw .malformed("a scale of shape \(shape(value)); expected one, or one per channel")
    }
  }
}
