import QMOperations
import QMTensor

/// The straight-through estimator: rounding counts as the identity. The scale of each row covers the
/// row, so that nothing is beyond the codes.
///
/// Source: Bengio et al. 2013, "Estimating or Propagating Gradients Through Stochastic Neurons for
/// Conditional Computation", section 4.
extension DynamicQuantize: Differentiable {
  package func gradient(of node: GradientNode) throws(QMError) -> GradientKernel {
    try GradientKernel.identity(node)
  }
}

/// The other half of ``DynamicQuantize``.
extension Dequantize: Differentiable {
  package func gradient(of node: GradientNode) throws(QMError) -> GradientKernel {
    try GradientKernel.identity(node)
  }
}

extension GradientKernel {
  /// ∂x = ∂y for the first operand.
  static func identity(_ node: GradientNode) throws(QMError) -> GradientKernel {
    let count = try node.outputShape().reduce(1, *)
    return GradientKernel { memory in
      // Only the parameters of codes may be used.
      guard let gradient = memory.outputGradients[0] else { return }
      memory.inputGradients[0]?.add(gradient, count: count, memory.threads)
    }
  }
}
