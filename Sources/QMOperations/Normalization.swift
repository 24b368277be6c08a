import CQMKernels
import QMTensor

/// `scale · (x − mean) / √(variance + ε) + bias` per channel, with the statistics of training.
/// Inputs: x, scale, bias, mean, variance; all float32, the last four of shape `[C]`.
/// Each step is one float32 operation:
///
///     s[c] = scale[c] / √(variance[c] + ε)        t[c] = bias[c] − mean[c] · s[c]
///     y = x · s[c] + t[c]                         two roundings
public struct BatchNormalization: FloatOperation {
  public static let name = "BatchNormalization"
  /// Channels are axis 1, or the last axis.
  public var order: ChannelOrder
  /// Added to the variance.
  public var epsilon: Float

  /// - Parameter epsilon: added to the variance.
  public init(order: ChannelOrder, epsilon: Float) {
    self.order = order
    self.epsilon = epsilon
  }

  public static let placeholder = BatchNormalization(order: .channelsFirst, epsilon: 0)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("order", &order)
    try visitor.visit("epsilon", &epsilon)
  }

  /// The axis of the channels in a tensor of this rank.
  func channelAxis(rank: Int) -> Int { order == .channelsFirst ? 1 : rank - 1 }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(5...5, operands)
    let type = try required(0, of: operands).type.checked()
    guard type.elementType == .float32, type.quantization == .none, type.shape.rank >= 2 else {
      throw .unsupported("\(Self.name) takes float32 of rank 2 or more, found \(type)")
    }
    return [
      try unified(
        type, withChannelsOf: ["scale", "bias", "mean", "variance"],
        along: channelAxis(rank: type.shape.rank), operands)
    ]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!
    func parameter(_ index: Int, _ channel: Int) -> Float { inputs[index]!.number(at: channel) }
    let axis = channelAxis(rank: input.shape.count)
    let inner = input.shape[(axis + 1)...].reduce(1, *)
    for index in 0..<input.elementCount {
      let channel = index / inner % input.shape[axis]
      let scale = parameter(1, channel) / (parameter(4, channel) + epsilon).squareRoot()
      let offset = parameter(2, channel) - parameter(3, channel) * scale
      let scaled = input.number(at: index) * scale
      outputs[0].store(canonical(scaled + offset), at: index)
    }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    guard let set = kernels.number else { return nil }
    let shape = try outputs[0].concreteShape()
    let name = "\(Self.name) \(kernels.rawValue)"
    guard !shape.contains(0) else { return Kernel(name: name) { (_) throws(QMError) in } }
    let scaleChannels = qm_normalization_for(set).scale_channels!
    let axis = channelAxis(rank: shape.count)
    let channels = shape[axis]
    let inner = shape[(axis + 1)...].reduce(1, *)
    let outer = shape[..<axis].reduce(1, *)
    let itemCount = inner == 1 ? outer : outer * channels
    let itemByteCount = 4 * (inner == 1 ? channels : inner)
    let half = ScratchLayout.rounded(channels * 4)
    let epsilon = epsilon
    return Kernel(name: name, scratchByteCount: { _ in 2 * half }) { (memory) throws(QMError) in
      func floats(_ index: Int) -> UnsafeMutablePointer<Float> {
        memory.inputs[index]!.assumingMemoryBound(to: Float.self)
      }
      let scales = memory.scratch.assumingMemoryBound(to: Float.self)
      let offsets = (memory.scratch + half).assumingMemoryBound(to: Float.self)
      let (scale, bias, mean, variance) = (floats(1), floats(2), floats(3), floats(4))
      for channel in 0..<channels {
        scales[channel] = scale[channel] / (variance[channel] + epsilon).squareRoot()
        offsets[channel] = bias[channel] - mean[channel] * scales[channel]
      }
      let input = floats(0)
      let output = memory.outputs[0]!.assumingMemoryBound(to: Float.self)
      memory.threads.run(forRangesOf: itemCount, byteCount: itemByteCount) { items, _ in
        scaleChannels(
          input, output, scales, offsets, channels, inner, items.lowerBound, items.upperBound)
      }
    }
  }
}

extension BatchNormalization {
  public var keepsName: Bool { false }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    guard order == .channelsLast(rank: order.rank), order.rank > 2, self.order == .channelsFirst
    else { return nil }
    var result = self
    result.order = .channelsLast
    return ReorderedForm(.batchNormalization(result), [.reordered], of: operands)
  }
}

/// `scale · (x − mean(x)) / √(variance(x) + ε) + bias` over `axis` and all axes after it.
/// Inputs: x, scale (optional), bias (optional). x is float32, or int8, uint8 or int16 codes with
/// fixed quantization, each dequantized first; scale and bias are float32 and have the shape of x
/// from `axis` on.
/// With n elements in a row, each step is one float32 operation (*the tree*: see ``Reduction``):
///
///     mean = (the tree's sum of x) / Float(n)               d[i] = x[i] − mean
///     variance = (the tree's sum of d[i] · d[i]) / Float(n)  r = 1 / √(variance + ε)
///     y[i] = ((d[i] · r) · scale[i]) + bias[i]
///
/// The step of an absent scale or bias is left out. The output has the shape of x.
public struct LayerNormalization: NonAccumulatingOperation, EncodedOutput {
  public static let name = "LayerNormalization"
  /// The first axis of the rows, counted from the front.
  public var axis: Int
  /// Added to the variance.
  public var epsilon: Float
  /// How results are stored.
  public var output: OutputEncoding

  /// - Parameter axis: counted from the front.
  public init(axis: Int, epsilon: Float, output: OutputEncoding = .float32) {
    self.axis = axis
    self.epsilon = epsilon
    self.output = output
  }

  public static let placeholder = LayerNormalization(axis: 0, epsilon: 0)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("axis", &axis)
    try visitor.visit("epsilon", &epsilon)
    try visitor.visit("output", &output)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...3, operands)
    var type = try required(0, of: operands).type.checked()
    try expectAxis(axis, rank: type.shape.rank)
    try expectFloatOrCodes(type)
    for (index, meaning) in ["scale", "bias"].enumerated() {
      guard let parameter = optional(index + 1, of: operands)?.type else { continue }
      guard parameter.elementType == .float32, parameter.quantization == .none,
        parameter.shape.rank == type.shape.rank - axis
      else {
        throw .malformed(
          "\(Self.name) from axis \(axis) of \(type) needs a float32 \(meaning) of rank "
            + "\(type.shape.rank - axis), found \(parameter)")
      }
      for position in parameter.shape.axes.indices {
        type.shape[axis + position] = try unified(
          type.shape[axis + position], parameter.shape[position],
          "axis \(axis + position) of \(type) and its \(meaning)")
      }
    }
    return [try type.stored(as: output)]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!
    func optional(_ index: Int) -> TensorView? { index < inputs.count ? inputs[index] : nil }
    let count = input.shape[axis...].reduce(1, *)
    for row in 0..<input.shape[..<axis].reduce(1, *) {
      let start = row * count
      let mean = Lanes.sum(count) { input.number(at: start + $0) } / Float(count)
      let centred = (0..<count).map { input.number(at: start + $0) - mean }
      let variance = Lanes.sum(count) { centred[$0] * centred[$0] } / Float(count)
      let inverse = 1 / (variance + epsilon).squareRoot()
      for index in 0..<count {
        var value = centred[index] * inverse
        if let scale = optional(1) { value = value * scale.number(at: index) }
        if let bias = optional(2) { value = value + bias.number(at: index) }
        outputs[0].store(canonical(value), at: start + index)
      }
    }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    guard let set = kernels.number else { return nil }
    let input = try required(0, of: operands).type
    let shape = try input.concreteShape()
    let name = "\(Self.name) \(kernels.rawValue)"
    guard !shape.contains(0) else { return Kernel(name: name) { (_) throws(QMError) in } }
    let normalize = qm_normalization_for(set).layer_normalization!
    let count = shape[axis...].reduce(1, *)
    let rowCount = shape[..<axis].reduce(1, *)
    let rows = qm_rows(
      count: count, in_type: input.codes, out_type: outputs[0].codes,
      inverse_scale: outputs[0].inverseScale)
    let rowByteCount = ScratchLayout.rounded(2 * count * 4)
    let epsilon = epsilon
    return Kernel(name: name, scratchByteCount: { $0 * rowByteCount }) { (memory) throws(QMError) in
      func optional(_ index: Int) -> UnsafePointer<Float>? {
        guard index < memory.inputs.count, let base = memory.inputs[index] else { return nil }
        return UnsafePointer(base.assumingMemoryBound(to: Float.self))
      }
      let (scale, bias) = (optional(1), optional(2))
      let source = memory.inputs[0]!
      let target = memory.outputs[0]!
      memory.threads.run(forRangesOf: rowCount, byteCount: count * 8) { range, thread in
        let row = (memory.scratch + thread * rowByteCount).assumingMemoryBound(to: Float.self)
        normalize(
          rows, epsilon, source, scale, bias, target, range.lowerBound, range.upperBound, row)
      }
    }
  }
}

extension LayerNormalization {
  public func integerForm(of operands: [Operand?]) -> IntegerForm? {
    IntegerForm(operands: [0], result: encoded(as: Operation.layerNormalization))
  }
  public var keepsName: Bool { false }
  public var analyticRange: ClosedRange<Float>? { nil }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
}
