import QMOperations
import QMTensor

/// For a row y = softmax(x), and for a row z = log(softmax(x)):
///
///     ∂x = y · (∂y − Σ ∂y · y)          ∂x = ∂z − e^z · Σ ∂z
extension Softmax: Differentiable {
  package func gradient(of node: GradientNode) throws(QMError) -> GradientKernel {
    let shape = try node.outputShape()
    var scratch = ScratchParts()
    let rows = try Rows(shape, along: [axis], copies: 2, node, &scratch)
    let count = shape.reduce(1, *)
    let exponential =
      kind == .logSoftmax ? try node.prepared(.unary(Unary(.exponential)), [[count]]) : nil
    let powers = scratch.floats(exponential == nil ? 0 : count)
    let work = scratch.bytes(exponential?.scratchByteCount(threads: node.threadCount) ?? 0)
    return GradientKernel(outputs: [0], scratchByteCount: scratch.byteCount) {
      (memory) throws(QMError) in
      let gradients = try rows.order.copy(memory.outputGradients[0]!, 0, memory)
      let results = try rows.order.copy(memory.output(), 1, memory)
      let powers = memory.scratch.floats(at: powers)
      try exponential?.run(
        [results], [powers], scratch: memory.scratch + work, threads: memory.threads)
      try rows.order.add(to: memory.inputGradients[0]!, memory) { target in
        rows.forEach(memory.threads) { (_, start) in
          let (target, gradient) = (target + start, gradients + start)
          if exponential == nil {
            let y = results + start
            let sum = gradient.dot(y, rows.length)
            for i in 0..<rows.length { target[i] += y[i] * (gradient[i] - sum) }
          } else {
            let y = powers + start
            let sum = gradient.sum(rows.length)
            for i in 0..<rows.length { target[i] += gradient[i] - y[i] * sum }
          }
        }
      }
    }
  }
}
