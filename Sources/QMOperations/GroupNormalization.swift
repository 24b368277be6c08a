import CQMKernels
import QMTensor

/// `scale[c] · (x − mean) / √(variance + ε) + bias[c]`. Each group of channels of each sample has
/// its own mean and variance, over all its positions.
///
/// Inputs: x, `[N, C, …]` or `[N, …, C]`, depending on `order`: float32, or int8, uint8 or int16
/// codes with fixed quantization, each dequantized first; scale and bias, float32 `[C]`.
/// The n elements of a group are taken by position, in row-major order, and at each position by
/// channel. Each step is one float32 operation (*the tree*: see ``Reduction``):
///
///     mean = (the tree's sum of x) / Float(n)               d[i] = x[i] − mean
///     variance = (the tree's sum of d[i] · d[i]) / Float(n)  r = 1 / √(variance + ε)
///     y[i] = ((d[i] · r) · scale[c]) + bias[c]
///
/// The output has the shape of x.
public struct GroupNormalization: NonAccumulatingOperation, EncodedOutput {
  public static let name = "GroupNormalization"
  /// Number of groups, which divides the number of channels; 0 makes each channel a group.
  public var groups: Int
  /// Order of the axes of input and output.
  public var order: ChannelOrder
  /// Added to the variance.
  public var epsilon: Float
  /// How results are stored.
  public var output: OutputEncoding

  /// - Parameter groups: 0 makes each channel a group.
  public init(
    groups: Int, order: ChannelOrder, epsilon: Float, output: OutputEncoding = .float32
  ) {
    self.groups = groups
    self.order = order
    self.epsilon = epsilon
    self.output = output
  }

  public static let placeholder = GroupNormalization(groups: 0, order: .channelsFirst, epsilon: 0)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("groups", &groups)
    try visitor.visit("order", &order)
    try visitor.visit("epsilon", &epsilon)
    try visitor.visit("output", &output)
  }

  private func channelAxis(rank: Int) -> Int { order == .channelsFirst ? 1 : rank - 1 }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(3...3, operands)
    var type = try required(0, of: operands).type.checked()
    try expectFloatOrCodes(type)
    guard type.shape.rank >= 3, groups >= 0 else {
      throw .malformed(
        "\(Self.name) with \(groups) groups takes a batch, channels and positions, found \(type)")
    }
    let axis = channelAxis(rank: type.shape.rank)
    type = try unified(type, withChannelsOf: ["scale", "bias"], along: axis, operands)
    if let channels = type.shape[axis].extent, groups > 0, channels % groups != 0 {
      throw .malformed("\(channels) channels do not divide into \(groups) groups")
    }
    return [try type.stored(as: output)]
  }

  /// The positions of the groups' elements.
  private struct Extents: Sendable {
    let samples: Int
    let channels: Int
    let positions: Int
    let groups: Int
    let order: ChannelOrder
    var groupChannels: Int { groups == 0 ? 0 : channels / groups }

    /// Element `index` of a group: its channel, and its position in the tensor.
    func element(_ index: Int, sample: Int, group: Int) -> (channel: Int, place: Int) {
      let (position, own) = index.quotientAndRemainder(dividingBy: groupChannels)
      let channel = group * groupChannels + own
      let place =
        order == .channelsFirst
        ? (sample * channels + channel) * positions + position
        : (sample * positions + position) * channels + channel
      return (channel, place)
    }
  }

  private func extents(_ shape: [Int]) -> Extents {
    let axis = channelAxis(rank: shape.count)
    let channels = shape[axis]
    let positions = (order == .channelsFirst ? shape[2...] : shape[1..<axis]).reduce(1, *)
    return Extents(
      samples: shape[0], channels: channels, positions: positions,
      groups: groups == 0 ? channels : groups, order: order)
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!
    let extents = extents(input.shape)
    let count = extents.groupChannels * extents.positions
    for sample in 0..<extents.samples {
      for group in 0..<extents.groups {
        let elements = (0..<count).map { extents.element($0, sample: sample, group: group) }
        let mean = Lanes.sum(count) { input.number(at: elements[$0].place) } / Float(count)
        let centred = elements.map { input.number(at: $0.place) - mean }
        let variance = Lanes.sum(count) { centred[$0] * centred[$0] } / Float(count)
        let inverse = 1 / (variance + epsilon).squareRoot()
        for (index, element) in elements.enumerated() {
          let scaled = (centred[index] * inverse) * inputs[1]!.number(at: element.channel)
          let value = scaled + inputs[2]!.number(at: element.channel)
          outputs[0].store(canonical(value), at: element.place)
        }
      }
    }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    guard let set = kernels.number else { return nil }
    let input = try required(0, of: operands).type
    let shape = try input.concreteShape()
    let extents = extents(shape)
    guard !shape.contains(0) else { return nil }
    let count = shape.reduce(1, *)
    let decodes = input.elementType != .float32
    let encodes = outputs[0].elementType != .float32
    let (inputCodes, outputCodes) = (input.codes, outputs[0].codes)
    let inverseScale = outputs[0].inverseScale
    let (inputSize, outputSize) = (input.elementType.byteCount, outputs[0].elementType.byteCount)
    let convert = qm_quantize_for(set)
    let epsilon = epsilon
    let blockChannels = extents.groupChannels == 1 && order == .channelsLast ? 16 : 0
    return Kernel(
      name: "group normalization \(kernels)",
      scratchByteCount: { _ in decodes || encodes ? 4 * count : 0 }
    ) { (memory) throws(QMError) in
      let scratch = memory.scratch.assumingMemoryBound(to: Float.self)
      var source = UnsafePointer(memory.inputs[0]!.assumingMemoryBound(to: Float.self))
      if decodes {
        let codes = memory.inputs[0]!
        forEachChunk(of: count, on: memory.threads) { start, length in
          convert.decode(inputCodes, codes + start * inputSize, scratch + start, Int64(length))
        }
        source = UnsafePointer(scratch)
      }
      let target =
        encodes ? scratch : memory.outputs[0]!.assumingMemoryBound(to: Float.self)
      let scale = UnsafePointer(memory.inputs[1]!.assumingMemoryBound(to: Float.self))
      let bias = UnsafePointer(memory.inputs[2]!.assumingMemoryBound(to: Float.self))
      if blockChannels > 0 {
        let blocks = (extents.channels + blockChannels - 1) / blockChannels
        memory.threads.run(chunks: extents.samples * blocks) { chunk, _ in
          let first = chunk % blocks * blockChannels
          let start = chunk / blocks * extents.positions * extents.channels + first
          Self.normalizeColumns(
            source + start, target + start, scale + first, bias + first,
            channels: min(blockChannels, extents.channels - first), rows: extents.positions,
            stride: extents.channels, epsilon: epsilon)
        }
      } else {
        memory.threads.run(chunks: extents.samples * extents.groups) { chunk, _ in
          Self.normalize(
            source, target, scale, bias, extents, sample: chunk / extents.groups,
            group: chunk % extents.groups, epsilon: epsilon)
        }
      }
      guard encodes else { return }
      let codes = memory.outputs[0]!
      forEachChunk(of: count, on: memory.threads) { start, length in
        convert.encode(
          outputCodes, inverseScale, scratch + start, codes + start * outputSize, Int64(length))
      }
    }
  }

  /// One group, element by element. `source` and `target` may be the same.
  private static func normalize(
    _ source: UnsafePointer<Float>, _ target: UnsafeMutablePointer<Float>,
    _ scale: UnsafePointer<Float>, _ bias: UnsafePointer<Float>, _ extents: Extents, sample: Int,
    group: Int, epsilon: Float
  ) {
    let count = extents.groupChannels * extents.positions
    func element(_ index: Int) -> (channel: Int, place: Int) {
      extents.element(index, sample: sample, group: group)
    }
    let mean = Lanes.sum(count) { source[element($0).place] } / Float(count)
    let variance =
      Lanes.sum(count) {
        let centred = source[element($0).place] - mean
        return centred * centred
      } / Float(count)
    let inverse = 1 / (variance + epsilon).squareRoot()
    for index in 0..<count {
      let (channel, place) = element(index)
      let scaled = ((source[place] - mean) * inverse) * scale[channel]
      target[place] = canonical(scaled + bias[channel])
    }
  }

  /// Up to 16 neighbouring channels, each a group of its own. `source` and `target` may be the
  /// same.
  private static func normalizeColumns(
    _ source: UnsafePointer<Float>, _ target: UnsafeMutablePointer<Float>,
    _ scale: UnsafePointer<Float>, _ bias: UnsafePointer<Float>, channels: Int, rows: Int,
    stride: Int, epsilon: Float
  ) {
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 18 * 16) { memory in
      let lanes = memory.baseAddress!
      let mean = lanes + 256
      let inverse = lanes + 272
      func sum(to result: UnsafeMutablePointer<Float>) {
        var half = 8
        while half > 0 {
          for index in 0..<half * 16 { lanes[index] = lanes[index] + lanes[index + half * 16] }
          half /= 2
        }
        for channel in 0..<channels { result[channel] = lanes[channel] / Float(rows) }
      }
      lanes.initialize(repeating: 0, count: 256)
      for row in 0..<rows {
        let (line, lane) = (source + row * stride, lanes + row % 16 * 16)
        for channel in 0..<channels { lane[channel] = lane[channel] + line[channel] }
      }
      sum(to: mean)
      lanes.update(repeating: 0, count: 256)
      for row in 0..<rows {
        let (line, lane) = (source + row * stride, lanes + row % 16 * 16)
        for channel in 0..<channels {
          let centred = line[channel] - mean[channel]
          let square = centred * centred
          lane[channel] = lane[channel] + square
        }
      }
      sum(to: inverse)
      for channel in 0..<channels {
        inverse[channel] = 1 / (inverse[channel] + epsilon).squareRoot()
      }
      for row in 0..<rows {
        let (line, out) = (source + row * stride, target + row * stride)
        for channel in 0..<channels {
          let scaled = ((line[channel] - mean[channel]) * inverse[channel]) * scale[channel]
          out[channel] = canonical(scaled + bias[channel])
        }
      }
    }
  }
}

extension GroupNormalization {
  public func integerForm(of operands: [Operand?]) -> IntegerForm? {
    IntegerForm(operands: [0], result: encoded(as: Operation.groupNormalization))
  }
  public var keepsName: Bool { false }
  public var analyticRange: ClosedRange<Float>? { nil }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    guard order == .channelsLast(rank: order.rank), self.order == .channelsFirst else { return nil }
    var result = self
    result.order = .channelsLast
    return ReorderedForm(.groupNormalization(result), [.reordered], of: operands)
  }
}
