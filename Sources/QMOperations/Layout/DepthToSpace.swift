import QMTensor

/// Channels spread over blocks of positions: `[N, C·b·b, H, W]` becomes `[N, C, H·b, W·b]`, with
/// the axes by `order`. Every element type; codes keep their quantization.
///
/// Position (y, x) of channel c comes from position (y / b, x / b) of channel
/// `((y mod b) · b + x mod b) · C + c`, or, where `channelsComeFirst`,
/// `(c · b + y mod b) · b + x mod b`.
public struct DepthToSpace: FirstOperandMovement {
  public static let name = "DepthToSpace"
  public var block: Int
  public var channelsComeFirst: Bool
  public var order: ChannelOrder

  public init(block: Int, channelsComeFirst: Bool, order: ChannelOrder) {
    self.block = block
    self.channelsComeFirst = channelsComeFirst
    self.order = order
  }

  public static let placeholder = DepthToSpace(
    block: 1, channelsComeFirst: false, order: .channelsFirst)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("block", &block)
    try visitor.visit("channels come first", &channelsComeFirst)
    try visitor.visit("order", &order)
  }

  private var blocks: ImageBlocks {
    ImageBlocks(block: block, channelsComeFirst: channelsComeFirst, order: order)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    return [try blocks.spread(movable(0, of: operands))]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    blocks.copyToSpace(inputs[0]!.shape, outputs[0].shape, outputs[0].elementType)
      .runInOrder(from: inputs[0]!.base, to: outputs[0].base)
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let copy = blocks.copyToSpace(
      try required(0, of: operands).type.concreteExtents(), try outputs[0].concreteExtents(),
      outputs[0].elementType)
    return .moving(Self.name, kernels, [(.input(0), copy)])
  }
}

extension DepthToSpace {
  public var keepsName: Bool { false }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    guard order == .channelsLast(rank: order.rank), self.order == .channelsFirst else { return nil }
    var result = self
    result.order = .channelsLast
    return ReorderedForm(.depthToSpace(result), [.reordered], of: operands)
  }
}

/// The inverse of ``DepthToSpace``: `[N, C, H·b, W·b]` becomes `[N, C·b·b, H, W]`.
public struct SpaceToDepth: FirstOperandMovement {
  public static let name = "SpaceToDepth"
  public var block: Int
  public var channelsComeFirst: Bool
  public var order: ChannelOrder

  public init(block: Int, channelsComeFirst: Bool, order: ChannelOrder) {
    self.block = block
    self.channelsComeFirst = channelsComeFirst
    self.order = order
  }

  public static let placeholder = SpaceToDepth(
    block: 1, channelsComeFirst: false, order: .channelsFirst)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("block", &block)
    try visitor.visit("channels come first", &channelsComeFirst)
    try visitor.visit("order", &order)
  }

  private var blocks: ImageBlocks {
    ImageBlocks(block: block, channelsComeFirst: channelsComeFirst, order: order)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    return [try blocks.gathered(movable(0, of: operands))]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    blocks.copyToDepth(inputs[0]!.shape, outputs[0].shape, outputs[0].elementType)
      .runInOrder(from: inputs[0]!.base, to: outputs[0].base)
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let copy = blocks.copyToDepth(
      try required(0, of: operands).type.concreteExtents(), try outputs[0].concreteExtents(),
      outputs[0].elementType)
    return .moving(Self.name, kernels, [(.input(0), copy)])
  }
}

extension SpaceToDepth {
  public var keepsName: Bool { false }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    guard order == .channelsLast(rank: order.rank), self.order == .channelsFirst else { return nil }
    var result = self
    result.order = .channelsLast
    return ReorderedForm(.spaceToDepth(result), [.reordered], of: operands)
  }
}

/// Positions of images in square blocks, and the channels that stand for them: what both
/// operations share.
private struct ImageBlocks {
  let block: Int
  let channelsComeFirst: Bool
  let order: ChannelOrder

  private var axes: (channels: Int, height: Int, width: Int) {
    switch order {
    case .channelsFirst: (1, 2, 3)
    case .channelsLast: (3, 1, 2)
    }
  }

  /// The type of images whose channels are spread over blocks of positions.
  /// - Throws: `malformed` if the channels do not divide.
  func spread(_ type: ValueType) throws(QMError) -> ValueType {
    var type = try checked(type)
    type.shape[axes.height] = product(type.shape[axes.height], block)
    type.shape[axes.width] = product(type.shape[axes.width], block)
    type.shape[axes.channels] = try quotient(type.shape[axes.channels], block * block)
    return try type.checked()
  }

  /// The type of images whose blocks of positions become channels.
  /// - Throws: `malformed` if the positions do not divide.
  func gathered(_ type: ValueType) throws(QMError) -> ValueType {
    var type = try checked(type)
    type.shape[axes.height] = try quotient(type.shape[axes.height], block)
    type.shape[axes.width] = try quotient(type.shape[axes.width], block)
    type.shape[axes.channels] = product(type.shape[axes.channels], block * block)
    return try type.checked()
  }

  private func checked(_ type: ValueType) throws(QMError) -> ValueType {
    // The bound keeps products with extents that are within limits from overflowing.
    guard type.shape.rank == 4, (1...(1 << 10)).contains(block) else {
      throw .malformed("blocks of \(block) on \(type); expected a batch of images, blocks to 1024")
    }
    return type
  }

  private func product(_ axis: Shape.Axis, _ factor: Int) -> Shape.Axis {
    axis.extent.map { .fixed($0 * factor) } ?? (factor == 1 ? axis : .free(""))
  }

  private func quotient(_ axis: Shape.Axis, _ divisor: Int) throws(QMError) -> Shape.Axis {
    guard let extent = axis.extent else { return divisor == 1 ? axis : .free("") }
    guard extent % divisor == 0 else {
      throw .malformed("an axis of \(extent) elements does not divide by \(divisor)")
    }
    return .fixed(extent / divisor)
  }

  func copyToSpace(_ input: [Int], _ output: [Int], _ elementType: ElementType) -> StridedCopy {
    let (extents, wide, deep) = move(wide: output, deep: input, elementType.byteCount)
    return StridedCopy(
      elementByteCount: elementType.byteCount, extents: extents, outStrides: wide, inStrides: deep)
  }

  func copyToDepth(_ input: [Int], _ output: [Int], _ elementType: ElementType) -> StridedCopy {
    let (extents, wide, deep) = move(wide: input, deep: output, elementType.byteCount)
    return StridedCopy(
      elementByteCount: elementType.byteCount, extents: extents, outStrides: deep, inStrides: wide)
  }

  /// The axes of the move, and their strides where the blocks are positions (wide) and where they
  /// are channels (deep).
  private func move(wide: [Int], deep: [Int], _ elementByteCount: Int)
    -> (extents: [Int], wideStrides: [Int], deepStrides: [Int])
  {
    let outer = StridedCopy.strides(of: wide, elementByteCount: elementByteCount)
    let inner = StridedCopy.strides(of: deep, elementByteCount: elementByteCount)
    let channels = wide[axes.channels]
    let channel = inner[axes.channels]
    return (
      [wide[0], deep[axes.height], block, deep[axes.width], block, channels],
      [
        outer[0], outer[axes.height] * block, outer[axes.height], outer[axes.width] * block,
        outer[axes.width], outer[axes.channels],
      ],
      [
        inner[0], inner[axes.height], channel * block * (channelsComeFirst ? 1 : channels),
        inner[axes.width], channel * (channelsComeFirst ? 1 : channels),
        channel * (channelsComeFirst ? block * block : 1),
      ]
    )
  }
}
