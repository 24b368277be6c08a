import QMOperations
import QMTensor

/// For sums y[i] = x[0] + … + x[i], ∂x[i] = ∂y[i] + … + ∂y[n − 1]: the sums from the other end.
extension CumulativeSum: Differentiable {
  package func gradient(of node: GradientNode) throws(QMError) -> GradientKernel {
    let shape = try node.outputShape()
    let count = shape.reduce(1, *)
    var scratch = ScratchParts()
    let sums = try node.prepared(
      .cumulativeSum(CumulativeSum(axis: axis, excludesOwn: excludesOwn, fromEnd: !fromEnd)),
      [shape])
    let result = scratch.floats(count)
    let work = scratch.bytes(sums.scratchByteCount(threads: node.threadCount))
    return GradientKernel(scratchByteCount: scratch.byteCount) { (memory) throws(QMError) in
      try sums.run(
        [memory.outputGradients[0]!], [memory.scratch + result], scratch: memory.scratch + work,
        threads: memory.threads)
      memory.inputGradients[0]!.add(
        memory.scratch.floats(at: result), count: count, memory.threads)
    }
  }
}

/// The elements that were taken get the gradients of their places.
extension TopK: Differentiable {
  package func gradient(of node: GradientNode) throws(QMError) -> GradientKernel {
    let (input, output) = (try node.shape(0), try node.outputShape())
    let inner = input[(axis + 1)...].reduce(1, *)
    let (extent, taken) = (input[axis], output[axis])
    let lines = output[..<axis].reduce(1, *)
    return GradientKernel(outputs: [1]) { memory in
      let gradient = memory.outputGradients[0]!
      let target = memory.inputGradients[0]!
      let places = memory.outputs[1]!.assumingMemoryBound(to: Int64.self)
      memory.threads.forRows(lines, elements: taken * inner) { lines in
        for line in lines {
          for index in line * taken * inner..<(line + 1) * taken * inner {
            target[(line * extent + Int(places[index])) * inner + index % inner] += gradient[index]
          }
        }
      }
    }
  }
}

/// For sums of x and updates, ∂x = ∂y, and ∂updates are the elements of ∂y where they were added.
/// Updates that replace elements are data movement; other reductions have no gradient.
extension ScatterElements: Differentiable {
  package func gradient(of node: GradientNode) throws(QMError) -> GradientKernel {
    try reduction.gradient(of: node, lookUp: .gatherElements(GatherElements(axis: axis)))
  }
}

/// As for ``ScatterElements``.
extension ScatterND: Differentiable {
  package func gradient(of node: GradientNode) throws(QMError) -> GradientKernel {
    try reduction.gradient(of: node, lookUp: .gatherND(GatherND(batchAxes: 0)))
  }
}

extension ScatterReduction {
  /// - Parameter lookUp: takes the elements at the indices.
  fileprivate func gradient(
    of node: GradientNode, lookUp: Operation
  ) throws(QMError) -> GradientKernel {
    guard self == .add, let indices = node.operands[1] else {
      throw .unsupported("\(self) has no gradient", remedies: .cutBefore)
    }
    let output = try node.outputShape()
    let (count, updates) = (output.reduce(1, *), try node.shape(2).reduce(1, *))
    var scratch = ScratchParts()
    let gather = try PreparedOperation(
      lookUp, [Operand(ValueType(.float32, Shape(output))), indices], kernels: node.kernels)
    let stored = scratch.floats(updates)
    let work = scratch.bytes(gather.scratchByteCount(threads: node.threadCount))
    return GradientKernel(reading: [1], scratchByteCount: scratch.byteCount) {
      (memory) throws(QMError) in
      let gradient = memory.outputGradients[0]!
      memory.inputGradients[0]?.add(gradient, count: count, memory.threads)
      guard let target = memory.inputGradients[2] else { return }
      try gather.run(
        [UnsafeMutableRawPointer(gradient), memory.inputs[1]], [memory.scratch + stored],
        scratch: memory.scratch + work,
        threads: memory.threads)
      target.add(memory.scratch.floats(at: stored), count: updates, memory.threads)
    }
  }
}
