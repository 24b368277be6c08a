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
