import QMOperations
import QMTensor

/// With stored statistics, y = x · s + t per channel, where r = 1 / √(variance + ε), s = scale · r and
/// t = bias − mean · s. With sums over all elements of a channel:
///
///     ∂x = ∂y · s     ∂bias = Σ ∂y     ∂scale = r · Σ ∂y · (x − mean)     ∂mean = −s · Σ ∂y
///     ∂variance = −½ · s · r² · Σ ∂y · (x − mean)
///
/// With those of the batch, which depend on the N elements of a channel,
///
///     ∂x = s · (∂y − Σ ∂y / N − (x − mean) · r² · Σ ∂y · (x − mean) / N)
///
/// Source: Ioffe and Szegedy 2015, "Batch Normalization", section 3.
extension BatchNormalization: Differentiable {
  package func gradient(of node: GradientNode) throws(QMError) -> GradientKernel {
    try gradient(of: node, ofBatchStatistics: false)
  }

  /// - Parameter ofBatch: whether operands 3 and 4 hold the statistics of the batch.
  func gradient(
    of node: GradientNode, ofBatchStatistics ofBatch: Bool
  ) throws(QMError) -> GradientKernel {
    let shape = try node.outputShape()
    let axis = order == .channelsFirst ? 1 : shape.count - 1
    let channels = shape[axis]
    let view = [
      shape[..<axis].reduce(1, *), channels, shape[(axis + 1)...].reduce(1, *),
    ]
    let count = shape.reduce(1, *)
    let epsilon = epsilon
    var scratch = ScratchParts()
    let inverse = scratch.floats(channels)
    let scales = scratch.floats(channels)
    let sums = scratch.floats(channels)
    let products = scratch.floats(channels)
    let stored = scratch.floats(count)
    let parameters = [channels, 1]
    let multiply = try node.prepared(.binary(Binary(.multiply)), [view, parameters])
    let subtract = try node.prepared(.binary(Binary(.subtract)), [view, parameters])
    let sum = try AddedSum(view, to: parameters, node, &scratch)
    let work = scratch.bytes(
      max(
        multiply.scratchByteCount(threads: node.threadCount),
        subtract.scratchByteCount(threads: node.threadCount)))
    let adjustsInput = ofBatch && node.isWanted(0)
    let wantsProducts = node.isWanted(1) || node.isWanted(4) || adjustsInput
    return GradientKernel(
      reading: wantsProducts ? [0, 1, 3, 4] : [1, 4], scratchByteCount: scratch.byteCount
    ) { (memory) throws(QMError) in
      let gradient = memory.outputGradients[0]!
      let (scale, variance) = (memory.input(1), memory.input(4))
      let (inverse, scales) = (
        memory.scratch.floats(at: inverse), memory.scratch.floats(at: scales)
      )
      let (sums, products) = (memory.scratch.floats(at: sums), memory.scratch.floats(at: products))
      let stored = memory.scratch.floats(at: stored)
      for channel in 0..<channels {
        inverse[channel] = 1 / (variance[channel] + epsilon).squareRoot()
        scales[channel] = scale[channel] * inverse[channel]
      }
      if let target = memory.inputGradients[0] {
        try multiply.run(
          [gradient, scales], [stored], scratch: memory.scratch + work, threads: memory.threads)
        target.add(stored, count: count, memory.threads)
      }
      if memory.inputGradients[2] != nil || memory.inputGradients[3] != nil || adjustsInput {
        sums.update(repeating: 0, count: channels)
        try sum.run(gradient, to: sums, memory)
        memory.inputGradients[2]?.add(sums, count: channels, memory.threads)
        if let target = memory.inputGradients[3] {
          for channel in 0..<channels { target[channel] -= scales[channel] * sums[channel] }
        }
      }
      guard wantsProducts else { return }
      try subtract.run(
        [memory.inputs[0], memory.inputs[3]], [stored], scratch: memory.scratch + work,
        threads: memory.threads)
      memory.threads.forParts(of: count) { range in
        for i in range { stored[i] *= gradient[i] }
      }
      products.update(repeating: 0, count: channels)
      try sum.run(stored, to: products, memory)
      for channel in 0..<channels {
        let product = products[channel] * inverse[channel]
        memory.inputGradients[1]?[channel] += product
        memory.inputGradients[4]?[channel] -= 0.5 * scales[channel] * inverse[channel] * product
      }
      guard adjustsInput, let target = memory.inputGradients[0] else { return }
      let (x, means) = (memory.input(0), memory.input(3))
      let share = Float(channels) / Float(count)
      memory.threads.forRows(view[0] * channels, elements: view[2]) { rows in
        for row in rows {
          let channel = row % channels
          let scale = scales[channel] * share
          let offset = scale * sums[channel]
          let slope = scale * inverse[channel] * inverse[channel] * products[channel]
          for i in row * view[2]..<(row + 1) * view[2] {
            target[i] -= offset + (x[i] - means[channel]) * slope
          }
        }
      }
    }
  }
}

/// See ``NormalizedRows``. The rows are those from `axis` on.
extension LayerNormalization: Differentiable {
  package func gradient(of node: GradientNode) throws(QMError) -> GradientKernel {
    let shape = try node.outputShape()
    let rows = shape[..<axis].reduce(1, *)
    let length = shape[axis...].reduce(1, *)
    let hasScale = node.operands.count > 1 && node.operands[1] != nil
    var scratch = ScratchParts()
    let normalized = try NormalizedRows(
      rows: rows, view: [rows, length], parameters: hasScale ? [length] : nil, bias: [length],
      epsilon: epsilon, node, &scratch)
    return GradientKernel(reading: hasScale ? [0, 1] : [0], scratchByteCount: scratch.byteCount) {
      (memory) throws(QMError) in
      try normalized.run(
        memory.input(0), memory.outputGradients[0]!, scale: hasScale ? memory.input(1) : nil,
        to: memory.inputGradients[0], memory)
    }
  }
}

/// See ``NormalizedRows``. A row holds the channels of a group, each at all positions.
extension GroupNormalization: Differentiable {
  package func gradient(of node: GradientNode) throws(QMError) -> GradientKernel {
    let shape = try node.outputShape()
    let isLast = order == .channelsLast
    let channels = isLast ? shape[shape.count - 1] : shape[1]
    let positions = (isLast ? shape[1..<(shape.count - 1)] : shape[2...]).reduce(1, *)
    var scratch = ScratchParts()
    let reordering = try Reordering(
      isLast ? [shape[0], positions, channels] : [shape[0], channels, positions],
      isLast ? [0, 2, 1] : [0, 1, 2], copies: 2, node, &scratch)
    let normalized = try NormalizedRows(
      rows: shape[0] * (groups == 0 ? channels : groups), view: [shape[0], channels, positions],
      parameters: [channels, 1], bias: [channels, 1], epsilon: epsilon, node, &scratch)
    return GradientKernel(reading: [0, 1], scratchByteCount: scratch.byteCount) {
      (memory) throws(QMError) in
      let x = try reordering.copy(memory.input(0), 0, memory)
      let gradient = try reordering.copy(memory.outputGradients[0]!, 1, memory)
      guard let target = memory.inputGradients[0] else {
        return try normalized.run(x, gradient, scale: memory.input(1), to: nil, memory)
      }
      try reordering.add(to: target, memory) { (target) throws(QMError) in
        try normalized.run(x, gradient, scale: memory.input(1), to: target, memory)
      }
    }
  }
}

/// For rows of n elements, with r = 1 / √(variance(x) + ε), h = (x − mean(x)) · r,
/// y = h · scale + bias and g = ∂y · scale:
///
///     ∂x = r · (g − mean(g) − h · mean(g · h))     ∂scale = Σ ∂y · h     ∂bias = Σ ∂y
///
/// Source: Ba et al. 2016, "Layer Normalization"; the derivative is that of Ioffe and Szegedy 2015,
/// "Batch Normalization", section 3, over a row instead of a batch.
private struct NormalizedRows {
  private let rows: Int
  private let count: Int
  private let epsilon: Float
  private let multiply: PreparedOperation?
  private let scaleSum: AddedSum?
  private let biasSum: AddedSum?
  private let scaled: Int
  private let normalized: Int
  private let work: Int

  /// - Parameters:
  ///   - view: a shape of all rows together, to which the parameters are broadcast.
  ///   - parameters: the shape of the scale; nil if there is none.
  ///   - bias: the shape that the bias has if there is one.
  init(
    rows: Int, view: [Int], parameters: [Int]?, bias: [Int], epsilon: Float, _ node: GradientNode,
    _ scratch: inout ScratchParts
  ) throws(QMError) {
    self.rows = rows
    self.epsilon = epsilon
    count = view.reduce(1, *)
    if let parameters {
      multiply = try node.prepared(.binary(Binary(.multiply)), [view, parameters])
      scaleSum = node.isWanted(1) ? try AddedSum(view, to: parameters, node, &scratch) : nil
    } else {
      (multiply, scaleSum) = (nil, nil)
    }
    biasSum = node.isWanted(2) ? try AddedSum(view, to: bias, node, &scratch) : nil
    scaled = scratch.floats(count)
    normalized = scratch.floats(count)
    work = scratch.bytes(multiply?.scratchByteCount(threads: node.threadCount) ?? 0)
  }

  func run(
    _ x: Floats, _ gradient: Floats, scale: Floats?, to target: Floats?, _ memory: GradientMemory
  ) throws(QMError) {
    var scaled = gradient
    let stored = memory.scratch.floats(at: self.scaled)
    if let multiply, let scale {
      scaled = stored
      try multiply.run(
        [gradient, scale], [scaled], scratch: memory.scratch + work, threads: memory.threads)
    }
    let normalized = memory.scratch.floats(at: normalized)
    let length = rows > 0 ? count / rows : 0
    let part = Float(1) / Float(max(length, 1))
    memory.threads.forRows(rows, elements: length) { [scaled] rows in
      for start in rows.lazy.map({ $0 * length }) {
        let (x, h, g) = (x + start, normalized + start, scaled + start)
        let mean = x.sum(length) * part
        for i in 0..<length { h[i] = x[i] - mean }
        let inverse = 1 / (h.dot(h, length) * part + epsilon).squareRoot()
        for i in 0..<length { h[i] *= inverse }
        guard let target = target.map({ $0 + start }) else { continue }
        let (offset, slope) = (g.sum(length) * part, g.dot(h, length) * part)
        for i in 0..<length { target[i] += inverse * (g[i] - offset - h[i] * slope) }
      }
    }
    if let scaleSum, let target = memory.inputGradients[1] {
      memory.threads.forParts(of: count) { range in
        for i in range { stored[i] = gradient[i] * normalized[i] }
      }
      try scaleSum.run(stored, to: target, memory)
    }
    if let biasSum, let target = memory.inputGradients[2] {
      try biasSum.run(gradient, to: target, memory)
    }
  }
}
