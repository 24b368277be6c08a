import QMOperations
import QMTensor

// Operators on codes that take the scales of their operands and of their result as inputs: ONNX's
// QLinearConv and QLinearMatMul, and those that ONNX Runtime adds ("QOperator"). Each is read as
// DequantizeLinear → operator → QuantizeLinear, of which the lowering makes one operation on codes.

extension NodeReader {
  // MARK: Products

  /// QLinearConv. The integers of the bias have the unit input scale · weight scale.
  func quantizedConvolution() throws(QMError) {
    let isTurned = try flag("channels_last", default: false)
    let input = try channelsFirst(dequantized(0, "input"), if: isTurned)
    let weights = try dequantized(3, axis: 0, "weights")
    let bias = try dequantizedBias(8, unit: scaleOfProducts(float(1), float(4)), axis: 0)
    let product = try result(
      of: "Conv", [input, weights, bias],
      attributes(["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"]),
      named: "\(node.label)/product")
    try finishQuantized(channelsLast(product, if: isTurned), scale: 6)
  }

  /// QLinearMatMul: scales of rows on the left, of columns on the right.
  func quantizedMatrixMultiply() throws(QMError) {
    let product = try self.product(
      dequantized(0, axis: -2, "left"), raw(3), raw(4), optional(5),
      named: "\(node.label)/product")
    try finishQuantized(product, scale: 6)
  }

  /// QGemm: `alpha · (A′ · B′ + C)`, where the integers of C have the unit of the products. Without
  /// a scale of the result it is float32.
  func quantizedGemm() throws(QMError) {
    let isTurned = try flag("transB", default: false)
    // The scale of B takes alpha, so that B keeps its codes.
    var scale = try float(4)
    let alpha = try number("alpha", default: 1)
    if alpha != 1 {
      scale = try append(
        .unary(Unary(.affine(scale: alpha, offset: 0))), [scale], as: scale.type, "alpha")
    }
    let right = try dequantized(raw(3), scale, optional(5), axis: isTurned ? 0 : 1, "right")
    let bias = try dequantizedBias(6, unit: scaleOfProducts(float(1), scale), axis: -1)
    let product = try result(
      of: "Gemm", [dequantized(0, "left"), right, bias], attributes(["transA", "transB"]),
      named: hasInput(7) ? "\(node.label)/product" : node.outputs.first ?? node.label)
    guard hasInput(7) else { return try finish([product]) }
    try finishQuantized(product, scale: 7)
  }

  // MARK: Other operators

  /// Add and Mul of codes.
  func quantizedBinary(_ operation: String) throws(QMError) {
    let sum = try result(
      of: operation, [dequantized(0, "left"), dequantized(3, "right")],
      named: "\(node.label)/result")
    try finishQuantized(sum, scale: 6)
  }

  /// An operator of one operand, whose attributes are also those of the operator on codes.
  func quantizedUnary(
    _ operation: String, _ names: [String] = [], opset: Int? = nil
  ) throws(QMError) {
    let isTurned = try flag("channels_last", default: false)
    let input = try channelsFirst(dequantized(0, "input"), if: isTurned)
    let output = try result(
      of: operation, [input], attributes(names), named: "\(node.label)/result", opset: opset)
    try finishQuantized(channelsLast(output, if: isTurned), scale: 3)
  }

  /// QLinearSoftmax: the attribute `opset` says which version of Softmax it is.
  func quantizedSoftmax() throws(QMError) {
    guard let opset = try integer("opset") else { throw .malformed("attribute 'opset' is missing") }
    try quantizedUnary("Softmax", ["axis"], opset: opset)
  }

  /// QLinearConcat: scale and zero point of the result, then three inputs for each operand.
  func quantizedConcatenate() throws(QMError) {
    guard node.inputs.count % 3 == 2 else {
      throw .malformed("\(node.inputs.count) inputs; expected two, and three for each operand")
    }
    var operands: [Value?] = []
    for first in stride(from: 2, to: node.inputs.count, by: 3) {
      operands.append(try dequantized(first, "operand\(first / 3)"))
    }
    let joined = try result(
      of: "Concat", operands, attributes(["axis"]), named: "\(node.label)/joined")
    try finishQuantized(joined, scale: 0, like: 2)
  }

  /// QLinearWhere.
  func quantizedSelect() throws(QMError) {
    let chosen = try result(
      of: "Where", [raw(0), dequantized(1, "first"), dequantized(4, "second")],
      named: "\(node.label)/chosen")
    try finishQuantized(chosen, scale: 7, like: 1)
  }

  // MARK: Parts

  /// The product of numbers with a matrix of integers `[K, N]`.
  ///
  /// int8 codes without a zero point hold uint8 integers c whose zero point is 128. Another zero point
  /// z may leave their range; then
  ///
  ///     x · s (c − z) = x · s (c − 128) + s (128 − z) · Σ x
  func product(
    _ left: Value, _ codes: Value, _ scale: Value, _ zeroPoint: Value?, named name: String
  ) throws(QMError) -> Value {
    let rank = shape(left).rank
    guard rank >= 2, let zeroPoint, let shift = try shift(codes, scale, zeroPoint) else {
      let weights = try dequantized(codes, scale, zeroPoint, axis: -1, "weights")
      return try result(of: "MatMul", [left, weights], named: name)
    }
    let middle = addConstant(
      try Tensor(
        shape(zeroPoint).extents ?? [],
        [UInt8](repeating: 128, count: constant(zeroPoint)?.elementCount ?? 1)), "middle")
    let weights = try dequantized(codes, scale, middle, axis: -1, "weights")
    let product = try result(of: "MatMul", [left, weights], named: "\(node.label)/unshifted")
    let sums = try append(
      .reduction(Reduction(.sum, axes: [rank - 1], keepsAxes: true)), [left], as: left.type, "sums")
    let shifts = try append(
      .binary(Binary(.multiply)), [sums, shift], as: left.type, "shifts")
    return try result(of: "Add", [product, shifts], named: name)
  }

  /// `s (128 − z)` for a constant matrix of uint8 that has other integers than int8 codes hold with its
  /// own zero points; else nil.
  private func shift(
    _ codes: Value, _ scale: Value, _ zeroPoint: Value
  ) throws(QMError) -> Value? {
    guard let integers = constant(codes), integers.elementType == .uint8,
      integers.shape.count == 2, let zeros = constant(zeroPoint), zeros.elementType == .uint8,
      zeros.shape.count <= 1, constant(scale) != nil, shape(scale).rank <= 1
    else { return nil }
    let columns = integers.shape[1]
    let points = zeros.elements(as: UInt8.self).map(Int.init)
    guard points.count == 1 || points.count == columns else { return nil }
    let fits = integers.withElements(as: UInt8.self) { elements in
      elements.indices.allSatisfy { index in
        let point = points[points.count == 1 ? 0 : index % columns]
        return (-128...127).contains(Int(elements[index]) - point)
      }
    }
    guard !fits else { return nil }
    let numbers = try append(
      .cast(Cast(to: .float32)), [zeroPoint], as: .float32, "zeroNumbers")
    let distances = try append(
      .unary(Unary(.affine(scale: -1, offset: 128))), [numbers], as: .float32, "distances")
    return try append(
      .binary(Binary(.multiply)), [distances, inFloat32(scale)], as: .float32, "shift")
  }

  /// The numbers that codes stand for; the scale and the zero point are the next two inputs.
  /// - Parameter axis: the axis along which scales may differ.
  func dequantized(
    _ index: Int, axis: Int = 0, _ suffix: String
  ) throws(QMError) -> Value {
    try dequantized(raw(index), raw(index + 1), optional(index + 2), axis: axis, suffix)
  }

  func dequantized(
    _ codes: Value, _ scale: Value, _ zeroPoint: Value?, axis: Int, _ suffix: String
  ) throws(QMError) -> Value {
    try result(
      of: "DequantizeLinear", [codes, scale, zeroPoint],
      [ONNXAttribute(name: "axis", value: .integer(Int64(axis)))],
      named: "\(node.label)/\(suffix)")
  }

  /// What an integer of a bias stands for: the product of two scales.
  private func scaleOfProducts(_ left: Value, _ right: Value) throws(QMError) -> Value {
    try append(.binary(Binary(.multiply)), [left, right], as: left.type, "unit")
  }

  private func dequantizedBias(_ index: Int, unit: Value, axis: Int) throws(QMError) -> Value? {
    guard let bias = try optional(index) else { return nil }
    return try dequantized(bias, unit, nil, axis: axis, "bias")
  }

  /// Defines the node's output as the codes of a value; the scale and the zero point are the inputs
  /// `scale` and `scale` + 1. Without a zero point, the codes are of the type of operand `like`.
  private func finishQuantized(_ value: Value, scale: Int, like: Int = 0) throws(QMError) {
    var zeroPoint = try optional(scale + 1)
    if zeroPoint == nil, try raw(like).type == .int8 {
      zeroPoint = try addConstant(Tensor([], [Int8(0)]), "zero")
    }
    try finish([
      result(
        of: "QuantizeLinear", [value, raw(scale), zeroPoint],
        named: node.outputs.first ?? node.label)
    ])
  }

  /// The node's attributes of these names.
  private func attributes(_ names: [String]) -> [ONNXAttribute] {
    node.attributes.filter { names.contains($0.name) }
  }

  private func channelsFirst(_ value: Value, if isTurned: Bool) throws(QMError) -> Value {
    let rank = shape(value).rank
    guard isTurned, rank > 2 else { return value }
    return try append(
      .transpose(Transpose(permutation: [0, rank - 1] + (1..<rank - 1))), [value], as: value.type,
      "channelsFirst")
  }

  private func channelsLast(_ value: Value, if isTurned: Bool) throws(QMError) -> Value {
    let rank = shape(value).rank
    guard isTurned, rank > 2 else { return value }
    return try append(
      .transpose(Transpose(permutation: [0] + (2..<rank) + [1])), [value], as: value.type,
      "channelsLast")
  }
}
