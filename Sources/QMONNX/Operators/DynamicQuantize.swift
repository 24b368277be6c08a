import QMGraph
import QMOperations
import QMTensor

// Networks whose activations are quantized with ranges of each run: DynamicQuantizeLinear, the
// products of integers that follow it, and ONNX Runtime's operators that are both.
//
// DynamicQuantizeLinear is a DynamicQuantize over the whole value, whose int8 codes are 128 below
// ONNX's uint8. A product of such codes with constant integers, cast to float32 and multiplied with
// their scales, is read as the product of the numbers that the codes stand for.

/// Codes of a DynamicQuantizeLinear.
struct DynamicCodes {
  /// Scale and zero point, as the second output of DynamicQuantize.
  let parameters: GraphBuilder.Value
  /// The two other outputs of the node.
  let scale: GraphBuilder.Value
  let zeroPoint: GraphBuilder.Value
}

/// A product of integers, of MatMulInteger or ConvInteger.
struct IntegerProduct {
  /// MatMul or Conv.
  let operation: String
  let attributes: [ONNXAttribute]
  let left: GraphBuilder.Value
  let right: GraphBuilder.Value
  let rightZeroPoint: GraphBuilder.Value?
  /// Of the left operand.
  let dynamic: DynamicCodes
}

extension NodeReader {
  // MARK: Quantization

  func dynamicQuantizeLinear() throws(QMError) {
    let input = try float(0)
    let codes = try dynamicCodes(of: input, named: node.outputs.first ?? node.label)
    guard let dynamic = builder.dynamicCodes(codes) else { return try finish([codes]) }
    try finish([codes, dynamic.scale, dynamic.zeroPoint])
  }

  /// The uint8 codes of a value with a range of the run.
  private func dynamicCodes(of input: Value, named name: String) throws(QMError) -> Value {
    let places = try builder.construction.append(
      .dynamicQuantize(DynamicQuantize(axes: 0)), name: name, [input],
      outputNames: [name, "\(node.label)/parameters"])
    let parameters = Value(place: places[1], type: .float32)
    func parameter(_ index: Int64, _ suffix: String) throws(QMError) -> Value {
      try append(
        .gather(Gather(axis: 0)), [parameters, addConstant(Tensor([], [index]), "\(suffix)Index")],
        as: .float32, suffix)
    }
    let number = try append(
      .unary(Unary(.affine(scale: 1, offset: 128))), [parameter(1, "zero")], as: .float32,
      "zeroNumber")
    let zeroPoint = try append(.cast(Cast(to: .uint8)), [number], as: .uint8, "zeroPoint")
    let scale = try parameter(0, "scale")
    var codes = Value(place: places[0], type: .uint8)
    if constant(codes) != nil {
      // Constants have no quantization parameters: the integers themselves.
      let wide = try append(
        .cast(Cast(to: .int32)), [Value(place: places[0], type: .int8)], as: .int32, "wide")
      let shifted = try append(
        .binary(Binary(.add)), [wide, addConstant(Tensor([], [Int32(128)]), "128")], as: .int32,
        "shifted")
      codes = try append(.cast(Cast(to: .uint8)), [shifted], as: .uint8, "codes")
    }
    builder.setDynamic(
      DynamicCodes(parameters: parameters, scale: scale, zeroPoint: zeroPoint), codes)
    return codes
  }

  /// The numbers that codes of a DynamicQuantizeLinear stand for; nil for other codes, and for
  /// another scale or zero point.
  func dequantizedDynamically(
    _ codes: Value, _ scale: Value, _ zeroPoint: Value?
  ) throws(QMError) -> Value? {
    guard let dynamic = builder.dynamicCodes(codes), constant(codes) == nil,
      dynamic.scale.place == scale.place, dynamic.zeroPoint.place == zeroPoint?.place
    else { return nil }
    return try append(
      .dequantize(Dequantize()), [codes, dynamic.parameters], as: .float32,
      "\(builder.construction.name(of: codes))/numbers")
  }

  // MARK: Products of integers

  /// MatMulInteger and ConvInteger: int32. It is computed in float32, whose sums are exact up to
  /// 2²⁴; where the sums are then scaled, ``scaledIntegerProduct()`` takes their place.
  func integerProduct(of operation: String, attributes names: [String] = []) throws(QMError) {
    let attributes = node.attributes.filter { names.contains($0.name) }
    let (left, right) = try (raw(0), raw(1))
    let one = try addScalar(1, "one")
    let isMatrix = operation == "MatMul"
    let weights = try dequantized(right, one, optional(3), axis: isMatrix ? -1 : 0, "right")
    // Sums are integers: nothing may be rounded.
    builder.construction.attach(.elements, to: weights)
    let product = try result(
      of: operation,
      [dequantized(left, one, optional(2), axis: isMatrix ? -2 : 1, "left"), weights], attributes,
      named: "\(node.label)/sums")
    try finish(.cast(Cast(to: .int32)), [product], as: .int32)
    guard let dynamic = builder.dynamicCodes(left), constant(right) != nil,
      try optional(2)?.place == dynamic.zeroPoint.place,
      let name = node.outputs.first, let result = try builder.value(named: name)
    else { return }
    builder.setIntegerProduct(
      IntegerProduct(
        operation: operation, attributes: attributes, left: left, right: right,
        rightZeroPoint: try optional(3), dynamic: dynamic), result)
  }

  /// Mul of sums, cast to float32, and the scales of their operands.
  /// - Returns: false if the operands are others; nothing is added.
  func scaledIntegerProduct() throws(QMError) -> Bool {
    let (left, right) = try (raw(0), raw(1))
    for (sums, factor) in [(left, right), (right, left)] {
      guard sums.type == .float32, let product = builder.integerProduct(sums),
        let scale = try weightScale(factor, of: product)
      else { continue }
      guard
        let numbers = try dequantizedDynamically(
          product.left, product.dynamic.scale, product.dynamic.zeroPoint)
      else { continue }
      let name = node.outputs.first ?? node.label
      if product.operation == "MatMul" {
        try finish([
          self.product(numbers, product.right, scale, product.rightZeroPoint, named: name)
        ])
      } else {
        let weights = try dequantized(
          product.right, scale, product.rightZeroPoint, axis: 0, "weights")
        try finish([
          result(of: product.operation, [numbers, weights], product.attributes, named: name)
        ])
      }
      return true
    }
    return false
  }

  /// The constant that is multiplied with the scale of the left operand; nil if the factor is
  /// another one.
  private func weightScale(
    _ factor: Value, of product: IntegerProduct
  ) throws(QMError) -> Value? {
    if factor.place == product.dynamic.scale.place { return try addScalar(1, "one") }
    guard let (one, other) = builder.factors(factor) else { return nil }
    let scale = product.dynamic.scale.place
    guard let weights = one.place == scale ? other : other.place == scale ? one : nil,
      let tensor = constant(weights), tensor.elementType == .float32
    else { return nil }
    if tensor.elementCount == 1 {
      return try addConstant(tensor.reshaped([]), "scale")
    }
    guard let shape = shape(product.right).extents, !shape.isEmpty else { return nil }
    // One per channel: along the last axis of a matrix product, along axis 1 of a convolution.
    let count = product.operation == "Conv" ? shape[0] : shape[shape.count - 1]
    let behind = product.operation == "Conv" ? shape.count - 2 : 0
    guard tensor.elementCount == count,
      tensor.shape.drop(while: { $0 == 1 })
        == ([count] + [Int](repeating: 1, count: max(behind, 0)))[...]
    else { return nil }
    return try addConstant(tensor.reshaped([count]), "scales")
  }

  /// Remembers what the result of a Mul is the product of.
  func rememberFactors() throws(QMError) {
    guard !isStep, let name = node.outputs.first, !name.isEmpty,
      let result = try builder.value(named: name)
    else { return }
    builder.setFactors(try raw(0), try raw(1), of: result)
  }

  /// Remembers that the result of a Cast to float32 are the sums of a product of integers.
  func rememberSums() throws(QMError) {
    guard !isStep, let product = builder.integerProduct(try raw(0)), let name = node.outputs.first,
      let result = try builder.value(named: name), result.type == .float32
    else { return }
    builder.setIntegerProduct(product, result)
  }

  // MARK: ONNX Runtime's operators

  /// DynamicQuantizeMatMul: float32 A, quantized with the range of the run, times integers.
  func dynamicQuantizeMatrixMultiply() throws(QMError) {
    let codes = try dynamicCodes(of: float(0), named: "\(node.label)/codes")
    guard let dynamic = builder.dynamicCodes(codes) else {
      throw .internalFault("codes without parameters")
    }
    let input = try dequantized(codes, dynamic.scale, dynamic.zeroPoint, axis: 0, "input")
    try finishProduct(input, raw(1), raw(2), optional(3), bias: optional(4))
  }

  /// MatMulIntegerToFloat: the operands, their scales, and their zero points.
  func matrixMultiplyToFloat() throws(QMError) {
    let left = try dequantized(raw(0), raw(2), optional(4), axis: -2, "left")
    try finishProduct(left, raw(1), raw(3), optional(5), bias: optional(6))
  }

  /// DynamicQuantizeLSTM: an LSTM of integers `[directions, columns, rows]` with a scale for each
  /// direction, or one for each row. The input and the states are not rounded.
  func dynamicQuantizeRecurrent() throws(QMError) {
    let operands: [Value?] = [
      try float(0), try recurrentWeights(1, scale: 8), try recurrentWeights(2, scale: 10),
      try optional(3), try optional(4), try optional(5), try optional(6), try optional(7),
    ]
    try finish(
      results(
        of: "LSTM", operands, node.attributes.filter { $0.name != "layout" }, named: node.outputs))
  }

  /// The weights `[directions, rows, columns]` of integers with other order of axes.
  private func recurrentWeights(_ index: Int, scale: Int) throws(QMError) -> Value {
    let codes = try raw(index)
    guard let extents = shape(codes).extents, extents.count == 3, extents.allSatisfy({ $0 > 0 })
    else {
      throw .malformed("weights \(shape(codes)) (input \(index)); expected three fixed axes")
    }
    let (directions, rows) = (extents[0], extents[2])
    func perRow(_ given: Value, _ suffix: String) throws(QMError) -> Value {
      let count = shape(given).extents.flatMap { Shape.elementCount(of: $0) }
      var numbers = given
      if count == directions, count != directions * rows {
        let column = try append(
          .reshape(Reshape()), [given, addConstant([directions, 1], "column")], as: given.type,
          "\(suffix)Column")
        numbers = try append(
          .expand(Expand()), [column, addConstant([directions, rows], "wide")], as: given.type,
          "\(suffix)Wide")
      } else if count != directions * rows {
        throw .malformed(
          "scales or zero points \(shape(given)) for weights \(shape(codes)); expected \(directions), or \(rows) for each"
        )
      }
      return try append(
        .reshape(Reshape()), [numbers, addConstant([directions * rows], "rows")], as: given.type,
        "\(suffix)Rows")
    }
    let turned = try append(
      .transpose(Transpose(permutation: [0, 2, 1])), [codes], as: codes.type, "turned:\(index)")
    let matrix = try append(
      .reshape(Reshape()), [turned, addConstant([directions * rows, extents[1]], "matrix")],
      as: codes.type, "matrix:\(index)")
    let numbers = try dequantized(
      matrix, perRow(float(scale), "scales:\(index)"),
      perRow(raw(scale + 1), "zeros:\(index)"), axis: 0, "weights:\(index)")
    return try append(
      .reshape(Reshape()), [numbers, addConstant([directions, rows, extents[1]], "extents")],
      as: .float32, "extents:\(index)")
  }

  /// QAttention: the product of codes with the weights of Q, K and V side by side, then attention in
  /// float32.
  func quantizedAttention() throws(QMError) {
    guard !hasInput(8) else { throw .unsupported("the input past cannot be read") }
    guard try !flag("do_rotary", default: false) else {
      throw .unsupported("do_rotary = 1 cannot be read")
    }
    let input = try dequantized(raw(0), raw(3), optional(6), axis: 0, "input")
    let codes = try raw(1)
    guard shape(input).rank == 3, let columns = shape(codes).axes.last?.extent, columns % 3 == 0
    else {
      throw .malformed(
        "input \(shape(input)) and weights \(shape(codes)); expected three axes, and columns of Q, K and V"
      )
    }
    let heads = try integer("num_heads") ?? 0
    guard heads > 0, columns / 3 % heads == 0 else {
      throw .malformed("num_heads = \(heads) for \(columns / 3) columns each of Q, K and V")
    }
    let product = try self.product(
      input, codes, raw(4), optional(7), named: "\(node.label)/product")
    let biased = try result(of: "Add", [product, float(2)], named: "\(node.label)/biased")
    let parts = try builder.construction.append(
      .split(Split(axis: 2, sizes: .equal(parts: 3))), name: "\(node.label)/parts", [biased],
      outputNames: ["query", "key", "value"].map { "\(node.label)/\($0)" })
    var mask: Value?
    if let given = try optional(5) {
      guard shape(given).rank == 2 else {
        throw .unsupported("mask_index \(shape(given)); expected a number for each position")
      }
      let allowed = try append(.cast(Cast(to: .bool)), [given], as: .bool, "allowed")
      mask = try append(
        .unsqueeze(Unsqueeze(axes: [1, 2])), [allowed], as: .bool, "mask")
    }
    var attributes = [
      ONNXAttribute(name: "q_num_heads", value: .integer(Int64(heads))),
      ONNXAttribute(name: "kv_num_heads", value: .integer(Int64(heads))),
      ONNXAttribute(
        name: "is_causal",
        value: .integer(try flag("unidirectional", default: false) ? 1 : 0)),
    ]
    if let scale = try number("scale"), scale != 0 {
      attributes.append(ONNXAttribute(name: "scale", value: .float(scale)))
    }
    let type = biased.type
    try finish([
      result(
        of: "Attention", parts.map { Value(place: $0, type: type) } + [mask], attributes,
        named: node.outputs.first ?? node.label)
    ])
  }

  private func finishProduct(
    _ left: Value, _ codes: Value, _ scale: Value, _ zeroPoint: Value?, bias: Value?
  ) throws(QMError) {
    let name = node.outputs.first ?? node.label
    guard let bias else {
      return try finish([self.product(left, codes, scale, zeroPoint, named: name)])
    }
    let product = try self.product(left, codes, scale, zeroPoint, named: "\(node.label)/product")
    try finish([result(of: "Add", [product, bias], named: name)])
  }
}
