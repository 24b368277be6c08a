import QMOperations
import QMTensor

/// For Y = A · B + bias + residual, with leading axes broadcast:
///
///     ∂A = ∂Y · Bᵀ     ∂B = Aᵀ · ∂Y     ∂bias = Σ over rows ∂Y     ∂residual = ∂Y
///
/// ∂A and ∂B are summed over the axes that were broadcast.
extension MatrixMultiply: Differentiable {
  package func gradient(of node: GradientNode) throws(QMError) -> GradientKernel {
    let (left, right) = (
      try node.shape(ProductOperand.input), try node.shape(ProductOperand.weights)
    )
    let output = try node.outputShape()
    var scratch = ScratchParts()
    let leftGradient =
      node.isWanted(ProductOperand.input)
      ? try LeftGradient(left, right, output, rightLayout, node, &scratch) : nil
    let rightGradient =
      node.isWanted(ProductOperand.weights)
      ? try RightGradient(left, right, output, rightLayout, node, &scratch) : nil
    let terms = try ProductTerms(node, output, channelAxis: output.count - 1, &scratch)
    var reads: Set<Int> = []
    if leftGradient != nil { reads.insert(ProductOperand.weights) }
    if rightGradient != nil { reads.insert(ProductOperand.input) }
    return GradientKernel(reading: reads, scratchByteCount: scratch.byteCount) {
      (memory) throws(QMError) in
      let gradient = memory.outputGradients[0]!
      if let target = memory.inputGradients[ProductOperand.input] {
        try leftGradient?.run(
          gradient, memory.input(ProductOperand.weights), to: target, memory)
      }
      if let target = memory.inputGradients[ProductOperand.weights] {
        try rightGradient?.run(gradient, memory.input(ProductOperand.input), to: target, memory)
      }
      try terms.run(memory)
    }
  }
}

/// ∂A = ∂Y · Bᵀ.
private struct LeftGradient {
  private let product: AddedProduct

  init(
    _ left: [Int], _ right: [Int], _ output: [Int], _ layout: RightLayout, _ node: GradientNode,
    _ scratch: inout ScratchParts
  ) throws(QMError) {
    // B as [K, N] read as the right operand [N, K] with one row per column of the product: that of
    // the other layout.
    product = try AddedProduct(
      output, right, layout == .depthFirst ? .channelsFirst : .depthFirst, to: left, node, &scratch)
  }

  func run(
    _ gradient: Floats, _ right: Floats, to target: Floats, _ memory: GradientMemory
  ) throws(QMError) {
    try product.run(gradient, right, to: target, memory)
  }
}

/// ∂B = Aᵀ · ∂Y, or its transpose ∂Yᵀ · A.
private struct RightGradient {
  private let transpose: PreparedOperation
  private let transposed: Int
  private let transposesGradient: Bool
  private let product: AddedProduct
  private let scratchOfTranspose: Int

  init(
    _ left: [Int], _ right: [Int], _ output: [Int], _ layout: RightLayout, _ node: GradientNode,
    _ scratch: inout ScratchParts
  ) throws(QMError) {
    // Weights that all rows share are one product over all of them.
    let isShared = right.count == 2
    func rows(_ shape: [Int]) -> [Int] {
      isShared ? [shape.dropLast().reduce(1, *), shape[shape.count - 1]] : shape
    }
    let (left, output) = (rows(left), rows(output))
    transposesGradient = layout == .channelsFirst
    let (first, second) = transposesGradient ? (output, left) : (left, output)
    let rank = first.count
    var permutation = Array(0..<rank)
    permutation.swapAt(rank - 1, rank - 2)
    transpose = try node.prepared(.transpose(Transpose(permutation: permutation)), [first])
    let shape = transpose.outputTypes[0].shape.extents ?? []
    transposed = scratch.floats(shape.reduce(1, *))
    scratchOfTranspose = scratch.bytes(transpose.scratchByteCount(threads: node.threadCount))
    product = try AddedProduct(shape, second, .depthFirst, to: right, node, &scratch)
  }

  func run(
    _ gradient: Floats, _ left: Floats, to target: Floats, _ memory: GradientMemory
  ) throws(QMError) {
    let (first, second) = transposesGradient ? (gradient, left) : (left, gradient)
    try transpose.run(
      [first], [memory.scratch + transposed], scratch: memory.scratch + scratchOfTranspose,
      threads: memory.threads)
    try product.run(memory.scratch.floats(at: transposed), second, to: target, memory)
  }
}

/// target += A · B, summed over the leading axes that the target does not have.
package struct AddedProduct {
  private let product: PreparedOperation
  private let scratchOffset: Int
  /// Where the product is stored before it is summed; nil if it is added to the target at once.
  private let stored: Int?
  private let sum: AddedSum?

  package init(
    _ left: [Int], _ right: [Int], _ layout: RightLayout, to target: [Int], _ node: GradientNode,
    _ scratch: inout ScratchParts
  ) throws(QMError) {
    let operation = Operation.matrixMultiply(MatrixMultiply(rightLayout: layout))
    let plain = try node.prepared(operation, [left, right])
    let shape = plain.outputTypes[0].shape.extents ?? []
    if shape == target {
      var shapes = [[Int]?](repeating: nil, count: ProductOperand.residual + 1)
      shapes[ProductOperand.input] = left
      shapes[ProductOperand.weights] = right
      shapes[ProductOperand.residual] = target
      product = try node.prepared(operation, shapes)
      (stored, sum) = (nil, nil)
    } else {
      product = plain
      stored = scratch.floats(shape.reduce(1, *))
      sum = try AddedSum(shape, to: target, node, &scratch)
    }
    scratchOffset = scratch.bytes(product.scratchByteCount(threads: node.threadCount))
  }

  package func run(
    _ left: Floats, _ right: Floats, to target: Floats, _ memory: GradientMemory
  ) throws(QMError) {
    let scratch = memory.scratch + scratchOffset
    guard let stored, let sum else {
      return try product.run(
        [left, right, nil, nil, nil, target], [target], scratch: scratch, threads: memory.threads)
    }
    let result = memory.scratch.floats(at: stored)
    try product.run([left, right], [result], scratch: scratch, threads: memory.threads)
    try sum.run(result, to: target, memory)
  }
}

/// target += source, summed over the axes along which the target was broadcast.
package struct AddedSum {
  private let count: Int
  private let reduction: PreparedOperation?
  private let stored: Int
  private let scratchOffset: Int

  /// - Parameters:
  ///   - shape: of the source.
  ///   - target: a shape that broadcasts to that of the source.
  package init(
    _ shape: [Int], to target: [Int], _ node: GradientNode, _ scratch: inout ScratchParts
  ) throws(QMError) {
    count = target.reduce(1, *)
    let padded = [Int](repeating: 1, count: max(shape.count - target.count, 0)) + target
    let axes = shape.indices.filter { padded[$0] == 1 && shape[$0] != 1 }
    guard !axes.isEmpty else {
      (reduction, stored, scratchOffset) = (nil, 0, 0)
      return
    }
    let reduction = try node.prepared(
      .reduction(Reduction(.sum, axes: axes, keepsAxes: true)), [shape])
    self.reduction = reduction
    stored = scratch.floats(count)
    scratchOffset = scratch.bytes(reduction.scratchByteCount(threads: node.threadCount))
  }

  package func run(_ source: Floats, to target: Floats, _ memory: GradientMemory) throws(QMError) {
    guard let reduction else { return target.add(source, count: count, memory.threads) }
    let sums = memory.scratch.floats(at: stored)
    try reduction.run(
      [source], [sums], scratch: memory.scratch + scratchOffset, threads: memory.threads)
    target.add(sums, count: count, memory.threads)
  }
}

/// The gradients of what a product adds to its sum: a bias for each channel, and a residual.
struct ProductTerms {
  private let bias: AddedSum?
  private let count: Int

  init(
    _ node: GradientNode, _ output: [Int], channelAxis: Int, _ scratch: inout ScratchParts
  ) throws(QMError) {
    count = output.reduce(1, *)
    guard node.isWanted(ProductOperand.bias) else {
      bias = nil
      return
    }
    var shape = [Int](repeating: 1, count: output.count)
    shape[channelAxis] = output[channelAxis]
    bias = try AddedSum(output, to: shape, node, &scratch)
  }

  func run(_ memory: GradientMemory) throws(QMError) {
    let gradient = memory.outputGradients[0]!
    if let bias, let target = memory.inputGradients[ProductOperand.bias] {
      try bias.run(gradient, to: target, memory)
    }
    if memory.inputGradients.count > ProductOperand.residual,
      let target = memory.inputGradients[ProductOperand.residual]
    {
      target.add(gradient, count: count, memory.threads)
    }
  }
}
