import QMOperations
import QMTensor

extension OperatorTable {
  /// The operators that make or read codes. Those on codes are read as the operator between a
  /// DequantizeLinear and a QuantizeLinear.
  public static let quantizedOperators: [ONNXOperator] = [
    ONNXOperator(
      "QuantizeLinear", since: 10, inputs: 2...3, .integer,
      "integer with one constant scale; 2 to 16 bits"
    ) { (node) throws(QMError) in try node.quantizeLinear() },
    ONNXOperator(
      "DequantizeLinear", since: 10, inputs: 2...3, .integer,
      "a constant keeps its codes"
    ) { (node) throws(QMError) in try node.dequantizeLinear() },
    microsoft("QuantizeLinear", inputs: 2...3, "as QuantizeLinear") { (node) throws(QMError) in
      try node.quantizeLinear()
    },
    microsoft("DequantizeLinear", inputs: 2...3, "as DequantizeLinear") { (node) throws(QMError) in
      try node.dequantizeLinear()
    },
    ONNXOperator("QLinearConv", since: 10, inputs: 8...9, .integer) { (node) throws(QMError) in
      try node.quantizedConvolution()
    },
    microsoft("QLinearConv", inputs: 8...9) { (node) throws(QMError) in
      try node.quantizedConvolution()
    },
    ONNXOperator("QLinearMatMul", since: 10, inputs: 8...8, .integer) { (node) throws(QMError) in
      try node.quantizedMatrixMultiply()
    },
    microsoft("QGemm", inputs: 6...9) { (node) throws(QMError) in try node.quantizedGemm() },
    microsoft("QLinearAdd", inputs: 7...8) { (node) throws(QMError) in
      try node.quantizedBinary("Add")
    },
    microsoft("QLinearMul", inputs: 7...8) { (node) throws(QMError) in
      try node.quantizedBinary("Mul")
    },
    microsoft("QLinearSigmoid", inputs: 4...5) { (node) throws(QMError) in
      try node.quantizedUnary("Sigmoid")
    },
    microsoft("QLinearLeakyRelu", inputs: 4...5) { (node) throws(QMError) in
      try node.quantizedUnary("LeakyRelu", ["alpha"])
    },
    microsoft("QLinearSoftmax", inputs: 4...5) { (node) throws(QMError) in
      try node.quantizedSoftmax()
    },
    microsoft("QLinearAveragePool", inputs: 4...5) { (node) throws(QMError) in
      try node.quantizedUnary(
        "AveragePool",
        ["auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"])
    },
    microsoft("QLinearGlobalAveragePool", inputs: 5...5) { (node) throws(QMError) in
      try node.quantizedUnary("GlobalAveragePool")
    },
    microsoft("QLinearConcat", inputs: 5...many) { (node) throws(QMError) in
      try node.quantizedConcatenate()
    },
    microsoft("QLinearWhere", inputs: 9...9) { (node) throws(QMError) in
      try node.quantizedSelect()
    },
    ONNXOperator(
      "DynamicQuantizeLinear", since: 11, inputs: 1...1, .integer, "one range for each value"
    ) { (node) throws(QMError) in try node.dynamicQuantizeLinear() },
    ONNXOperator(
      "MatMulInteger", since: 10, inputs: 2...4, .integer,
      "on codes if Cast and Mul with the scales follow"
    ) { (node) throws(QMError) in try node.integerProduct(of: "MatMul") },
    ONNXOperator(
      "ConvInteger", since: 10, inputs: 2...4, .integer,
      "on codes if Cast and Mul with the scales follow"
    ) { (node) throws(QMError) in
      try node.integerProduct(
        of: "Conv",
        attributes: ["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"])
    },
    microsoft("DynamicQuantizeMatMul", inputs: 3...5) { (node) throws(QMError) in
      try node.dynamicQuantizeMatrixMultiply()
    },
    microsoft("MatMulIntegerToFloat", inputs: 4...7) { (node) throws(QMError) in
      try node.matrixMultiplyToFloat()
    },
    microsoft("DynamicQuantizeLSTM", inputs: 12...12, "input and states are not rounded") {
      (node) throws(QMError) in try node.dynamicQuantizeRecurrent()
    },
    microsoft("QAttention", inputs: 5...9, "without past; mask_index with two axes") {
      (node) throws(QMError) in try node.quantizedAttention()
    },
    microsoft("MatMulNBits", inputs: 3...6, "constant weights, which keep their codes") {
      (node) throws(QMError) in try node.matrixMultiplyOfBlocks()
    },
    microsoft("GatherBlockQuantized", inputs: 3...4, "a constant table, which keeps its codes") {
      (node) throws(QMError) in try node.gatherOfBlocks()
    },
  ]
}
