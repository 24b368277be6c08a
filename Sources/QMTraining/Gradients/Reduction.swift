import QMOperations
import QMTensor

/// For y = f(x₁, …, xₙ), with ∂xᵢ = ∂y · ∂f/∂xᵢ:
///
///     sum 1          mean 1/n          sum of magnitudes sign(xᵢ)          sum of squares 2 xᵢ
///     norm xᵢ / y (0 where y is 0)     product Π over j ≠ i: xⱼ
///     logarithm of sum 1 / Σ xⱼ        logarithm of sum of exponentials e^(xᵢ − y)
///     maximum, minimum 1/k for the k elements that equal y, 0 for the others
///
/// Elements that share the maximum share its gradient, so that the gradient does not depend on their
/// order, as in PyTorch's `amax`.
extension Reduction: Differentiable {
  package func gradient(of node: GradientNode) throws(QMError) -> GradientKernel {
    let shape = try node.shape(0)
    var scratch = ScratchParts()
    let rows = try Rows(shape, along: axes, copies: 1, node, &scratch)
    let kind = kind
    var reads: (inputs: Set<Int>, outputs: Set<Int>) = ([0], [])
    switch kind {
    case .sum, .mean: reads.inputs = []
    case .maximum, .minimum, .norm, .logarithmOfSumOfExponentials: reads.outputs = [0]
    case .product, .sumOfMagnitudes, .sumOfSquares, .logarithmOfSum: break
    }
    let count = shape.reduce(1, *)
    let exponential =
      kind == .logarithmOfSumOfExponentials
      ? try node.prepared(.unary(Unary(.exponential)), [[count]]) : nil
    let arguments = scratch.floats(exponential == nil ? 0 : count)
    let powers = scratch.floats(exponential == nil && kind != .product ? 0 : count)
    let work = scratch.bytes(exponential?.scratchByteCount(threads: node.threadCount) ?? 0)
    return GradientKernel(
      reading: reads.inputs, outputs: reads.outputs, scratchByteCount: scratch.byteCount
    ) { (memory) throws(QMError) in
      let gradients = memory.outputGradients[0]!
      let x = reads.inputs.isEmpty ? gradients : try rows.order.copy(memory.input(0), 0, memory)
      let y = reads.outputs.isEmpty ? gradients : memory.output()
      let extra = memory.scratch.floats(at: powers)
      if let exponential {
        let arguments = memory.scratch.floats(at: arguments)
        rows.forEach(memory.threads) { (row, start) in
          for i in start..<start + rows.length { arguments[i] = x[i] - y[row] }
        }
        try exponential.run(
          [arguments], [extra], scratch: memory.scratch + work, threads: memory.threads)
      }
      try rows.order.add(to: memory.inputGradients[0]!, memory) { target in
        rows.forEach(memory.threads) { (row, start) in
          kind.addGradient(
            gradients[row], x + start, y[row], extra + start, to: target + start, rows.length)
        }
      }
    }
  }
}

extension Reduction.Kind {
  /// Adds the gradient of one row.
  /// - Parameters:
  ///   - x: the elements; undefined for kinds whose derivative does not depend on them.
  ///   - y: the result; undefined for kinds whose derivative does not depend on it.
  ///   - extra: e^(x − y), or memory for as many elements.
  fileprivate func addGradient(
    _ gradient: Float, _ x: Floats, _ y: Float, _ extra: Floats, to target: Floats, _ count: Int
  ) {
    switch self {
    case .sum: for i in 0..<count { target[i] += gradient }
    case .mean:
      let share = gradient / Float(count)
      for i in 0..<count { target[i] += share }
    case .maximum, .minimum:
      var number = 0
      for i in 0..<count where x[i] == y { number += 1 }
      let share = gradient / Float(max(number, 1))
      for i in 0..<count { target[i] += x[i] == y ? share : 0 }
    case .product:
      // The products of the elements before i, and then of those after it: there may be zeros.
      var product: Float = 1
      for i in 0..<count {
        extra[i] = product
        product *= x[i]
      }
      product = gradient
      for i in (0..<count).reversed() {
        target[i] += product * extra[i]
        product *= x[i]
      }
    case .sumOfMagnitudes:
      for i in 0..<count { target[i] += x[i] > 0 ? gradient : x[i] < 0 ? -gradient : 0 }
    case .norm:
      let factor = y > 0 ? gradient / y : 0
      for i in 0..<count { target[i] += factor * x[i] }
    case .sumOfSquares: for i in 0..<count { target[i] += 2 * gradient * x[i] }
    case .logarithmOfSum:
      let factor = gradient / x.sum(count)
      for i in 0..<count { target[i] += factor }
    case .logarithmOfSumOfExponentials:
      for i in 0..<count { target[i] += gradient * extra[i] }
    }
  }
}
