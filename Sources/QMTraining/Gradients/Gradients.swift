import QMOperations
import QMTensor

extension Operation {
  /// The gradient of a node with this operation.
  ///
  /// No gradient have operations whose results are integers, Booleans or positions (comparisons, logic,
  /// tests for NaN, arg-min and arg-max, shapes, ranges, fills, indices of what is not zero), which do
  /// not change with small changes of their operands; and tables, which only programs on codes have.
  /// - Throws: `unsupported` for an operation without a gradient.
  package func gradient(of node: GradientNode) throws(QMError) -> GradientKernel {
    if let movement = MovementGradient(self, node) { return try movement.kernel() }
    guard let differentiable = body as? any Differentiable else {
      throw .unsupported("it has no gradient", remedies: .cutBefore)
    }
    let kernel = try differentiable.gradient(of: node)
    for position in kernel.readInputs {
      guard let type = node.operands[position]?.type, type.quantization != .none else { continue }
      throw .unsupported("input \(position) holds codes; training takes a float network")
    }
    return kernel
  }
}

/// Float32 to float32 is a copy.
extension Cast: Differentiable {
  package func gradient(of node: GradientNode) throws(QMError) -> GradientKernel {
    try GradientKernel.identity(node)
  }
}
