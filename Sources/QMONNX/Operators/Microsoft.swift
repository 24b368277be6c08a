import QMOperations
import QMTensor

// Operators of ONNX Runtime's domain com.microsoft: what its optimizer makes of several of ONNX's own.

extension NodeReader {
  /// Gelu, and FastGelu and BiasGelu, which add a bias first.
  func microsoftGelu(_ function: UnaryFunction) throws(QMError) {
    var input = try float(0)
    if let bias = try optionalFloat(1) { input = try call("Add", input, bias) }
    try finish(.unary(Unary(function)), [input], as: input.type)
  }

  /// QuickGelu: x · sigmoid(alpha · x).
  func quickGelu() throws(QMError) {
    let input = try float(0)
    let alpha = try number("alpha", default: 1.702)
    let gate = try call("Sigmoid", call("Mul", input, number(Double(alpha), like: input)))
    try finish(call("Mul", [input, gate], outputs: 1))
  }

  /// SkipLayerNormalization and SkipSimplifiedLayerNormalization: the normalized sum of the input, a
  /// second input and a bias; and the sum itself.
  func skipNormalization(isCentred: Bool) throws(QMError) {
    let input = try float(0)
    var sum = try call("Add", input, float(1))
    let scale = try float(2)
    let shift = try isCentred ? optionalFloat(3) : nil
    if let bias = try optionalFloat(isCentred ? 4 : 3) { sum = try call("Add", sum, bias) }
    let epsilon = try number("epsilon", default: 1e-12)
    guard !node.outputs.dropFirst().prefix(2).contains(where: builder.isUsed) else {
      throw .unsupported("the outputs mean and inverse deviation are used", remedies: .cutBefore)
    }
    let normal =
      try isCentred
      ? call("LayerNormalization", sum, scale, shift, with: ["epsilon": .float(epsilon)])
      : call(
        "Mul", rootMeanSquareQuotient(sum, axis: shape(sum).rank - 1, epsilon: epsilon), scale)
    // Outputs 1 and 2 are not used.
    try finish([normal, sum, sum, sum])
  }

  /// FusedMatMul: alpha · A′ · B′.
  func fusedMatrixMultiply() throws(QMError) {
    func operand(_ index: Int, _ suffix: String) throws(QMError) -> Value {
      let value = try float(index)
      let rank = shape(value).rank
      var order = Array(0..<rank)
      if try flag("transBatch\(suffix)", default: false), rank > 2 {
        // The first axis comes before the last one.
        order = Array(1..<rank - 1) + [0, rank - 1]
      }
      if try flag("trans\(suffix)", default: false), rank > 1 {
        order.swapAt(rank - 2, rank - 1)
      }
      return try transposed(value, order)
    }
    let product = try call("MatMul", operand(0, "A"), operand(1, "B"))
    let alpha = try number("alpha", default: 1)
    guard alpha != 1 else { return try finish([product]) }
    try finish(call("Mul", [product, number(Double(alpha), like: product)], outputs: 1))
  }

  /// FusedConv and FusedGemm: the operator, for FusedConv a sum with a further input, then a function.
  func fusedProduct(
    _ operation: String, attributes names: [String], function: String, parameters: [Float]?
  ) throws(QMError) {
    let attributes = node.attributes.filter { names.contains($0.name) }
    var result = try call(
      operation, [optional(0), optional(1), optional(2)],
      Dictionary(uniqueKeysWithValues: attributes.map { ($0.name, $0.value) }), outputs: 1)[0]
    if operation == "Conv", let other = try optionalFloat(3) {
      result = try call("Add", result, other)
    }
    func parameter(_ index: Int, _ standard: Float) -> Float {
      guard let parameters, index < parameters.count else { return standard }
      return parameters[index]
    }
    switch function {
    case "": try finish([result])
    case "Relu", "Tanh", "Sigmoid": try finish(call(function, [result], outputs: 1))
    case "LeakyRelu":
      try finish(call(function, [result], ["alpha": .float(parameter(0, 0.01))], outputs: 1))
    case "HardSigmoid":
      try finish(
        call(
          function, [result],
          ["alpha": .float(parameter(0, 0.2)), "beta": .float(parameter(1, 0.5))], outputs: 1))
    case "Clip":
      let largest = Float.greatestFiniteMagnitude
      let bounds = try [
        number(Double(parameter(0, -largest)), like: result),
        number(Double(parameter(1, largest)), like: result),
      ]
      try finish(call("Clip", [result, bounds[0], bounds[1]], outputs: 1))
    case let name: throw .unsupported("activation '\(name.abbreviated)'", remedies: .cutBefore)
    }
  }

  func fusedConvolution() throws(QMError) {
    try fusedProduct(
      "Conv",
      attributes: ["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"],
      function: text("activation", default: ""), parameters: numbers("activation_params"))
  }

  func fusedGemm() throws(QMError) {
    let alpha = try number("activation_alpha")
    let beta = try number("activation_beta")
    try fusedProduct(
      "Gemm", attributes: ["alpha", "beta", "transA", "transB"],
      function: text("activation", default: ""),
      parameters: alpha.map { [$0] + [beta].compactMap { $0 } })
  }
}
