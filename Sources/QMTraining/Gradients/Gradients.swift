import QMOperations
import QMTensor

extension Operation {
  /// The gradient of a node with this operation.
  /// - Throws: `unsupported` for an operation without a gradient.
  package func gradient(of node: GradientNode) throws(QMError) -> GradientKernel {
    if let movement = MovementGradient(self, node) { return try movement.kernel() }
    guard let differentiable = body as? any Differentiable else {
      throw .unsupported("it has no gradient", remedies: .cutBefore)
    }
    return try differentiable.gradient(of: node)
  }
}

/// Float32 to float32 is a copy.
extension Cast: Differentiable {
  package func gradient(of node: GradientNode) throws(QMError) -> GradientKernel {
    try GradientKernel.identity(node)
  }
}
