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

/// Updates uₖ are combined with the elements of x one after the other: with the element y₋ₖ in front of
/// update k, y₋ₖ at its place becomes f(y₋ₖ, uₖ). The gradient goes back through them from the last,
///
///     ∂uₖ = g · ∂f/∂u      g ← g · ∂f/∂y₋      with g = ∂y of the place at first, and ∂x = g in the end
///
/// where the derivatives are those of ``Binary``: of two equal elements, the one that was there before
/// has all of the gradient of a minimum or maximum. Updates that replace elements are data movement.
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
    guard let indices = node.operands[1] else { throw .internalFault("no indices") }
    let output = try node.outputShape()
    let (count, updates) = (output.reduce(1, *), try node.shape(2).reduce(1, *))
    guard count < Int(Int32.max) else {
      throw .unsupported("\(count) elements are more than training can move")
    }
    let numbers = try Tensor(output, as: Int32.self) { numbers in
      for index in 0..<count { numbers[index] = Int32(index) }
    }
    var scratch = ScratchParts()
    let gather = try PreparedOperation(
      lookUp, [Operand(numbers.type), indices], kernels: node.kernels)
    let places = scratch.bytes(4 * updates)
    let (current, gradients) = (scratch.floats(count), scratch.floats(count))
    let before = scratch.floats(updates)
    let work = scratch.bytes(gather.scratchByteCount(threads: node.threadCount))
    return GradientKernel(
      reading: self == .add ? [1] : [0, 1, 2], scratchByteCount: scratch.byteCount
    ) { (memory) throws(QMError) in
      try gather.run(
        [numbers.buffer.base + numbers.byteOffset, memory.inputs[1]], [memory.scratch + places],
        scratch: memory.scratch + work, threads: memory.threads)
      let places = (memory.scratch + places).assumingMemoryBound(to: Int32.self)
      let gradients = memory.scratch.floats(at: gradients)
      let before = memory.scratch.floats(at: before)
      gradients.update(from: memory.outputGradients[0]!, count: count)
      if self != .add {
        let (current, u) = (memory.scratch.floats(at: current), memory.input(2))
        current.update(from: memory.input(0), count: count)
        for index in 0..<updates {
          let place = Int(places[index])
          before[index] = current[place]
          current[place] = combined(current[place], u[index])
        }
      }
      for index in (0..<updates).reversed() {
        let place = Int(places[index])
        let gradient = gradients[place]
        let factors =
          self == .add ? derivatives(0, 0) : derivatives(before[index], memory.input(2)[index])
        memory.inputGradients[2]?[index] += gradient * factors.update
        gradients[place] = gradient * factors.element
      }
      memory.inputGradients[0]?.add(gradients, count: count, memory.threads)
    }
  }

  /// f(y, u).
  private func combined(_ element: Float, _ update: Float) -> Float {
    switch self {
    case .replace: update
    case .add: element + update
    case .multiply: element * update
    case .minimum: update < element ? update : element
    case .maximum: update > element ? update : element
    }
  }

  /// ∂f/∂y and ∂f/∂u.
  private func derivatives(
    _ element: Float, _ update: Float
  ) -> (element: Float, update: Float) {
    switch self {
    case .replace: (0, 1)
    case .add: (1, 1)
    case .multiply: (update, element)
    case .minimum: update < element ? (0, 1) : (1, 0)
    case .maximum: update > element ? (0, 1) : (1, 0)
    }
  }
}
