import QMOperations
import QMTensor

/// For y[p, o] = Σ over taps t, channels c: x[p · stride + t · dilation − before, c] · w[o, t, c]:
///
///     ∂x[i, c] = Σ over (p, t) that read i: Σ over o: ∂y[p, o] · w[o, t, c]
///     ∂w[o, t, c] = Σ over p: ∂y[p, o] · x[i(p, t), c]
///     ∂bias[o] = Σ over p: ∂y[p, o]          ∂residual = ∂y
///
/// The windows of some positions at a time are copied to a matrix, so that both sums are matrix
/// products; the sum over the positions is in their order. With stride 1, ∂x is a convolution of ∂y
/// with the weights' taps in reverse. A depthwise convolution is summed as it stands. With channels
/// first, all is transposed to channels last before.
extension Convolution: Differentiable {
  package func gradient(of node: GradientNode) throws(QMError) -> GradientKernel {
    let (input, weights) = (
      try node.shape(ProductOperand.input), try node.shape(ProductOperand.weights)
    )
    let output = try node.outputShape()
    var scratch = ScratchParts()
    let extents = try extents(input: input, weights: weights)
    let windows = WindowMap(extents.axes, spacing: spacing)
    let isDepthwise = groups == extents.inputChannels && groups == extents.outputChannels
    let factors: any ConvolutionFactors =
      isDepthwise
      ? DepthwiseFactors(windows, extents, node, &scratch)
      : try WindowFactors(windows, extents, groups: groups, node, &scratch)
    let layout = try ChannelsLast(order, input, weights, output, node, &scratch)
    let terms = try ProductTerms(
      node, output, channelAxis: order == .channelsFirst ? 1 : output.count - 1, &scratch)
    let wantsProduct = node.isWanted(ProductOperand.input) || node.isWanted(ProductOperand.weights)
    var reads: Set<Int> = []
    if node.isWanted(ProductOperand.input) { reads.insert(ProductOperand.weights) }
    if node.isWanted(ProductOperand.weights) { reads.insert(ProductOperand.input) }
    return GradientKernel(reading: reads, scratchByteCount: scratch.byteCount) {
      (memory) throws(QMError) in
      if wantsProduct {
        try layout.run(memory) { (elements) throws(QMError) in try factors.add(elements, memory) }
      }
      try terms.run(memory)
    }
  }
}

/// Elements of a convolution with channels last; nil for gradients that are not wanted, and for
/// operands that they do not need.
private struct ConvolutionElements {
  var gradient: Floats
  var input: Floats?
  var weights: Floats?
  var inputGradient: Floats?
  var weightGradient: Floats?
}

/// Adds the gradients of the input and the weights of a convolution with channels last.
private protocol ConvolutionFactors {
  func add(_ elements: ConvolutionElements, _ memory: GradientMemory) throws(QMError)
}

/// For each position of the output and each tap, the position of the input that it reads.
struct WindowMap {
  /// Positions of the output of a sample.
  let positions: Int
  let taps: Int
  /// Positions of the input of a sample, without gaps.
  let inputPositions: Int
  /// `[positions, taps]`; -1 in the padding and in gaps.
  let places: [Int32]

  init(_ axes: [WindowAxis], spacing: [Int]) {
    let extents = zip(axes, spacing).map { ($0.input + $1 - 1) / $1 }
    positions = axes.reduce(1) { $0 * $1.output }
    taps = axes.reduce(1) { $0 * $1.window }
    inputPositions = extents.reduce(1, *)
    var places: [Int32] = []
    places.reserveCapacity(positions * taps)
    for position in 0..<positions {
      for tap in 0..<taps {
        var (restOfPosition, restOfTap) = (position, tap)
        var (place, step) = (0, 1)
        for (index, axis) in axes.enumerated().reversed() {
          let along = axis.inputPosition(restOfPosition % axis.output, tap: restOfTap % axis.window)
          restOfPosition /= axis.output
          restOfTap /= axis.window
          guard along >= 0, along < axis.input, along % spacing[index] == 0 else {
            place = -1
            break
          }
          place += along / spacing[index] * step
          step *= extents[index]
        }
        places.append(Int32(place))
      }
    }
    self.places = places
  }
}

/// By matrices of windows.
private struct WindowFactors: ConvolutionFactors {
  private let windows: WindowMap
  private let samples: Int
  private let groups: Int
  /// Channels of a group.
  private let (inputs, outputs): (Int, Int)
  /// Positions that are taken together.
  private let rows: Int
  /// The input's gradient, where it is a convolution.
  private let reverse: ReverseConvolution?
  private let full: Products
  /// For the last positions of a sample; nil if `rows` divides their number.
  private let rest: Products?
  private let matrix: Int
  private let part: Int

  /// Elements of a matrix of windows: half of a common second-level cache.
  private static let matrixLength = 1 << 17

  /// The products for one number of rows.
  private struct Products {
    let rows: Int
    /// Windows × gradient, for the weights: `[outputs, length]`.
    var weights: AddedProduct?
    var transpose: PreparedOperation?
    var transposed = 0
    var scratchOfTranspose = 0
    /// Gradient × weights, for the windows: `[rows, length]`.
    var windows: PreparedOperation?
    var scratchOfWindows = 0
  }

  init(
    _ windows: WindowMap, _ extents: Convolution.Extents, groups: Int, _ node: GradientNode,
    _ scratch: inout ScratchParts
  ) throws(QMError) {
    self.windows = windows
    self.groups = groups
    samples = extents.samples
    inputs = extents.inputChannels / groups
    outputs = extents.outputChannels / groups
    let length = windows.taps * inputs
    let most = max(1, min(windows.positions, WindowFactors.matrixLength / max(length, 1)))
    // Parts of about the same length.
    let parts = (windows.positions + most - 1) / max(most, 1)
    rows = parts > 0 ? (windows.positions + parts - 1) / parts : 0
    matrix = scratch.floats(rows * length)
    part = scratch.floats(rows * outputs)
    let (inputs, outputs) = (inputs, outputs)
    reverse =
      node.isWanted(ProductOperand.input) && groups == 1
      ? try ReverseConvolution(windows, extents, node, &scratch) : nil
    let needsWindows = node.isWanted(ProductOperand.input) && reverse == nil
    func products(_ rows: Int, _ scratch: inout ScratchParts) throws(QMError) -> Products {
      var products = Products(rows: rows)
      if node.isWanted(ProductOperand.weights) {
        let transpose = try node.prepared(
          .transpose(Transpose(permutation: [1, 0])), [[rows, outputs]])
        products.transposed = scratch.floats(rows * outputs)
        products.scratchOfTranspose = scratch.bytes(
          transpose.scratchByteCount(threads: node.threadCount))
        products.transpose = transpose
        products.weights = try AddedProduct(
          [outputs, rows], [rows, windows.taps * inputs], .depthFirst,
          to: [outputs, windows.taps * inputs], node, &scratch)
      }
      if needsWindows {
        let product = try node.prepared(
          .matrixMultiply(MatrixMultiply(rightLayout: .depthFirst)),
          [[rows, outputs], [outputs, windows.taps * inputs]])
        products.scratchOfWindows = scratch.bytes(
          product.scratchByteCount(threads: node.threadCount))
        products.windows = product
      }
      return products
    }
    full = try products(rows, &scratch)
    let left = rows > 0 ? windows.positions % rows : 0
    rest = left > 0 ? try products(left, &scratch) : nil
  }

  func add(_ elements: ConvolutionElements, _ memory: GradientMemory) throws(QMError) {
    guard rows > 0 else { return }
    if let reverse, let target = elements.inputGradient, let weights = elements.weights {
      try reverse.add(elements.gradient, weights, to: target, memory)
      if elements.weightGradient == nil { return }
    }
    let length = windows.taps * inputs
    for sample in 0..<samples {
      let input = sample * windows.inputPositions * inputs * groups
      for first in stride(from: 0, to: windows.positions, by: rows) {
        let count = min(rows, windows.positions - first)
        guard let products = count == rows ? full : rest else { continue }
        for group in 0..<groups {
          let gradient = gradientOfGroup(
            elements.gradient + (sample * windows.positions + first) * outputs * groups, group,
            count: count, memory)
          if let target = elements.weightGradient, let transpose = products.transpose,
            let source = elements.input
          {
            copyWindows(from: source + input + group * inputs, first: first, count, memory)
            let transposed = memory.scratch.floats(at: products.transposed)
            try transpose.run(
              [gradient], [transposed], scratch: memory.scratch + products.scratchOfTranspose,
              threads: memory.threads)
            try products.weights?.run(
              transposed, memory.scratch.floats(at: matrix),
              to: target + group * outputs * length, memory)
          }
          if let windows = products.windows, let target = elements.inputGradient,
            let weights = elements.weights
          {
            try windows.run(
              [gradient, weights + group * outputs * length], [memory.scratch + matrix],
              scratch: memory.scratch + products.scratchOfWindows, threads: memory.threads)
            addWindows(to: target + input + group * inputs, first: first, count, memory)
          }
        }
      }
    }
  }

  /// The rows of a group's channels, one behind another.
  private func gradientOfGroup(
    _ gradient: Floats, _ group: Int, count: Int, _ memory: GradientMemory
  ) -> Floats {
    guard groups > 1 else { return gradient }
    let target = memory.scratch.floats(at: part)
    for row in 0..<count {
      (target + row * outputs).update(
        from: gradient + (row * groups + group) * outputs, count: outputs)
    }
    return target
  }

  /// Copies the windows of some positions to the matrix.
  private func copyWindows(from input: Floats, first: Int, _ count: Int, _ memory: GradientMemory) {
    let target = memory.scratch.floats(at: matrix)
    let (taps, inputs, pitch) = (windows.taps, inputs, inputs * groups)
    windows.places.withUnsafeBufferPointer { places in
      let own = places.baseAddress! + first * taps
      memory.threads.forRows(count, elements: taps * inputs) { rows in
        for index in rows.lowerBound * taps..<rows.upperBound * taps {
          let place = Int(own[index])
          let row = target + index * inputs
          if place < 0 {
            row.update(repeating: 0, count: inputs)
          } else {
            row.update(from: input + place * pitch, count: inputs)
          }
        }
      }
    }
  }

  /// Adds the rows of the matrix to the elements that the windows read. Windows overlap, so that a
  /// thread adds some channels of all windows.
  private func addWindows(to target: Floats, first: Int, _ count: Int, _ memory: GradientMemory) {
    let source = memory.scratch.floats(at: matrix)
    let (taps, inputs, pitch) = (windows.taps, inputs, inputs * groups)
    let threadCount = memory.threads.threadCount
    let width = max(32, (inputs + threadCount - 1) / threadCount)
    windows.places.withUnsafeBufferPointer { places in
      let own = places.baseAddress! + first * taps
      memory.threads.run(chunks: (inputs + width - 1) / width) { (chunk, _) in
        let start = chunk * width
        let channels = min(width, inputs - start)
        for index in 0..<count * taps where own[index] >= 0 {
          let row = target + Int(own[index]) * pitch + start
          let added = source + index * inputs + start
          for channel in 0..<channels { row[channel] += added[channel] }
        }
      }
    }
  }
}

/// ∂x of a convolution with stride 1, without gaps and groups: the convolution of ∂y with the weights
/// `[channels, taps in reverse, outputs]`, padded by what the window reaches beyond its own padding.
private struct ReverseConvolution {
  private let convolution: PreparedOperation
  private let scratchOfConvolution: Int
  private let reversed: Int
  private let (outputs, taps, channels): (Int, Int, Int)

  /// - Returns: nil for another convolution.
  init?(
    _ windows: WindowMap, _ extents: Convolution.Extents, _ node: GradientNode,
    _ scratch: inout ScratchParts
  ) throws(QMError) {
    let axes = extents.axes
    let before = axes.map { $0.dilation * ($0.window - 1) - $0.before }
    let after = zip(axes, before).map {
      $0.input + $0.dilation * ($0.window - 1) - $0.output - $1
    }
    guard windows.inputPositions == axes.reduce(1, { $0 * $1.input }),
      axes.allSatisfy({ $0.stride == 1 }), (before + after).allSatisfy({ $0 >= 0 })
    else { return nil }
    (outputs, taps, channels) = (extents.outputChannels, windows.taps, extents.inputChannels)
    let operation = Convolution(
      order: .channelsLast, strides: axes.map { _ in 1 }, dilations: axes.map(\.dilation),
      padding: .explicit(before: before, after: after), groups: 1)
    var shapes = [[Int]?](repeating: nil, count: ProductOperand.residual + 1)
    let input = [extents.samples] + axes.map(\.input) + [channels]
    shapes[ProductOperand.input] = [extents.samples] + axes.map(\.output) + [outputs]
    shapes[ProductOperand.weights] = [channels] + axes.map(\.window) + [outputs]
    shapes[ProductOperand.residual] = input
    convolution = try node.prepared(.convolution(operation), shapes)
    reversed = scratch.floats(outputs * taps * channels)
    scratchOfConvolution = scratch.bytes(
      convolution.scratchByteCount(threads: node.threadCount))
  }

  func add(
    _ gradient: Floats, _ weights: Floats, to target: Floats, _ memory: GradientMemory
  ) throws(QMError) {
    let own = memory.scratch.floats(at: reversed)
    let (outputs, taps, channels) = (outputs, taps, channels)
    memory.threads.forRows(channels, elements: taps * outputs) { rows in
      for channel in rows {
        for tap in 0..<taps {
          let row = own + (channel * taps + taps - 1 - tap) * outputs
          let source = weights + tap * channels + channel
          for output in 0..<outputs { row[output] = source[output * taps * channels] }
        }
      }
    }
    try convolution.run(
      [gradient, own, nil, nil, nil, target], [target],
      scratch: memory.scratch + scratchOfConvolution, threads: memory.threads)
  }
}

/// Depthwise: each channel has its own window.
private struct DepthwiseFactors: ConvolutionFactors {
  private let windows: WindowMap
  private let samples: Int
  private let channels: Int
  /// The weights, and their gradient, as `[taps, channels]`.
  private let (weights, weightGradient): (Int, Int)

  init(
    _ windows: WindowMap, _ extents: Convolution.Extents, _ node: GradientNode,
    _ scratch: inout ScratchParts
  ) {
    self.windows = windows
    samples = extents.samples
    channels = extents.inputChannels
    weights = scratch.floats(windows.taps * channels)
    weightGradient = scratch.floats(windows.taps * channels)
  }

  func add(_ elements: ConvolutionElements, _ memory: GradientMemory) {
    let (taps, channels) = (windows.taps, channels)
    let (rows, sums) = (
      memory.scratch.floats(at: weights), memory.scratch.floats(at: weightGradient)
    )
    if let source = elements.weights {
      for channel in 0..<channels {
        for tap in 0..<taps { rows[tap * channels + channel] = source[channel * taps + tap] }
      }
    }
    sums.update(repeating: 0, count: taps * channels)
    // Channels are independent of each other.
    let blocks = (channels + DepthwiseFactors.width - 1) / DepthwiseFactors.width
    memory.threads.run(chunks: blocks) { (block, _) in
      let first = block * DepthwiseFactors.width
      add(
        elements, rows + first, sums + first, first, min(DepthwiseFactors.width, channels - first))
    }
    if let target = elements.weightGradient {
      for channel in 0..<channels {
        for tap in 0..<taps { target[channel * taps + tap] += sums[tap * channels + channel] }
      }
    }
  }

  /// Channels that a thread takes together.
  private static let width = 32

  /// Adds the gradients of neighbouring channels.
  /// - Parameters:
  ///   - rows: the weights of the first of them, as `[taps, channels]`.
  ///   - sums: of the weights' gradients, likewise.
  private func add(
    _ elements: ConvolutionElements, _ rows: Floats, _ sums: Floats, _ first: Int, _ count: Int
  ) {
    windows.places.withUnsafeBufferPointer { places in
      for sample in 0..<samples {
        let start = sample * windows.inputPositions * channels + first
        for position in 0..<windows.positions {
          let gradient =
            elements.gradient + (sample * windows.positions + position) * channels + first
          for tap in 0..<windows.taps {
            let index = Int(places[position * windows.taps + tap])
            guard index >= 0 else { continue }
            let (place, row) = (start + index * channels, tap * channels)
            if let target = elements.inputGradient {
              let (target, weights) = (target + place, rows + row)
              for channel in 0..<count { target[channel] += gradient[channel] * weights[channel] }
            }
            if elements.weightGradient != nil, let input = elements.input {
              let (target, input) = (sums + row, input + place)
              for channel in 0..<count { target[channel] += gradient[channel] * input[channel] }
            }
          }
        }
      }
    }
  }
}

/// Transposes operands and gradients to channels last, and the results back.
private struct ChannelsLast {
  /// nil if the channels are last already.
  private let transposed: Transposed?

  private struct Move {
    let there: PreparedOperation
    let back: PreparedOperation
    let count: Int
    let stored: Int
    let returned: Int
    let scratchOffset: Int

    init(_ shape: [Int], _ node: GradientNode, _ scratch: inout ScratchParts) throws(QMError) {
      let order = AxisOrder.channelsLast(rank: shape.count)
      there = try node.prepared(.transpose(Transpose(permutation: order.sources)), [shape])
      let moved = there.outputTypes[0].shape.extents ?? []
      back = try node.prepared(.transpose(Transpose(permutation: order.places)), [moved])
      count = shape.reduce(1, *)
      stored = scratch.floats(count)
      returned = scratch.floats(count)
      scratchOffset = scratch.bytes(
        max(
          there.scratchByteCount(threads: node.threadCount),
          back.scratchByteCount(threads: node.threadCount)))
    }

    func copy(_ elements: Floats, _ memory: GradientMemory) throws(QMError) -> Floats {
      try there.run(
        [elements], [memory.scratch + stored], scratch: memory.scratch + scratchOffset,
        threads: memory.threads)
      return memory.scratch.floats(at: stored)
    }

    func add(to target: Floats, _ memory: GradientMemory) throws(QMError) {
      try back.run(
        [memory.scratch + stored], [memory.scratch + returned],
        scratch: memory.scratch + scratchOffset, threads: memory.threads)
      target.add(memory.scratch.floats(at: returned), count: count, memory.threads)
    }
  }

  private struct Transposed {
    let gradient: Move
    let input: Move?
    let weights: Move?
    let inputGradient: Move?
    let weightGradient: Move?
  }

  init(
    _ order: ChannelOrder, _ input: [Int], _ weights: [Int], _ output: [Int], _ node: GradientNode,
    _ scratch: inout ScratchParts
  ) throws(QMError) {
    guard order == .channelsFirst else {
      transposed = nil
      return
    }
    let (ofInput, ofWeights) = (
      node.isWanted(ProductOperand.input), node.isWanted(ProductOperand.weights)
    )
    transposed = Transposed(
      gradient: try Move(output, node, &scratch),
      input: ofWeights ? try Move(input, node, &scratch) : nil,
      weights: ofInput ? try Move(weights, node, &scratch) : nil,
      inputGradient: ofInput ? try Move(input, node, &scratch) : nil,
      weightGradient: ofWeights ? try Move(weights, node, &scratch) : nil)
  }

  func run(
    _ memory: GradientMemory, _ body: (ConvolutionElements) throws(QMError) -> Void
  ) throws(QMError) {
    let (input, weights) = (ProductOperand.input, ProductOperand.weights)
    let inputTarget = memory.inputGradients[input]
    let weightTarget = memory.inputGradients[weights]
    guard let transposed else {
      return try body(
        ConvolutionElements(
          gradient: memory.outputGradients[0]!,
          input: weightTarget == nil ? nil : memory.input(input),
          weights: inputTarget == nil ? nil : memory.input(weights), inputGradient: inputTarget,
          weightGradient: weightTarget))
    }
    func zeros(_ move: Move?) -> Floats? {
      guard let move else { return nil }
      let elements = memory.scratch.floats(at: move.stored)
      elements.update(repeating: 0, count: move.count)
      return elements
    }
    let elements = ConvolutionElements(
      gradient: try transposed.gradient.copy(memory.outputGradients[0]!, memory),
      input: try transposed.input?.copy(memory.input(input), memory),
      weights: try transposed.weights?.copy(memory.input(weights), memory),
      inputGradient: zeros(transposed.inputGradient),
      weightGradient: zeros(transposed.weightGradient))
    try body(elements)
    if let inputTarget { try transposed.inputGradient?.add(to: inputTarget, memory) }
    if let weightTarget { try transposed.weightGradient?.add(to: weightTarget, memory) }
  }
}

extension ThreadPool {
  /// Calls `body` for consecutive rows of `0..<count`, in parts worth a thread.
  func forRows(_ count: Int, elements: Int, _ body: (_ rows: Range<Int>) -> Void) {
    let length = max(1, (1 << 14) / max(elements, 1))
    run(chunks: (count + length - 1) / length) { (chunk, _) in
      body(chunk * length..<min((chunk + 1) * length, count))
    }
  }
}
