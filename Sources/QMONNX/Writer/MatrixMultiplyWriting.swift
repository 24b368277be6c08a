import QMGraph
import QMOperations
import QMTensor

extension GraphWriter {
  /// Gemm for two matrices of which the right has its channels first, else MatMul and Add.
  mutating func write(_ product: MatrixMultiply, _ node: Graph.Node) throws(QMError) {
    try requirePlain(product.epilogue, node)
    guard let left = node.input(ProductOperand.input),
      let right = node.input(ProductOperand.weights)
    else { throw .malformed("a product of fewer than two operands") }
    let hasBias = node.input(ProductOperand.bias) != nil
    if shape(left).rank == 2, shape(right).rank == 2, product.rightLayout == .channelsFirst {
      return try emit("Gemm", inputs(node), node, [("transB", .flag(true))])
    }
    var factors = [try name(of: left), try name(of: right)]
    if product.rightLayout == .channelsFirst {
      let rank = shape(right).rank
      let permutation = Array(0..<rank - 2) + [rank - 1, rank - 2]
      factors[1] = add(
        "Transpose", [factors[1]], as: try stepName(node, "transposed"),
        [("perm", .integers(permutation))])
    }
    guard hasBias else { return try emit("MatMul", factors, node) }
    let result = add("MatMul", factors, as: try stepName(node, "matrix"))
    try emit("Add", [result, input(node, ProductOperand.bias)], node)
  }
}
