import QMTensor

/// Moves channels to blocks of positions: `[N, C·b·b, H, W]` becomes `[N, C, H·b, W·b]`, with the
/// order of axes from `order`. Every element type; codes keep their quantization.
///
/// Position (y, x) of channel c comes from position (y / b, x / b) of channel
/// `((y mod b) · b + x mod b) · C + c`, or, with `channelsComeFirst`,
/// `(c · b + y mod b) · b + x mod b`.
public struct DepthToSpace: FirstOperandMovement {
  public static let name = "DepthToSpace"
  /// b: positions along each axis of a block, 1 to 1024.
  public var block: Int
  /// Whether c is the slowest part of the channel index (ONNX's mode CRD).
  public var channelsComeFirst: Bool
  /// Order of the axes of input and output.
  public var order: ChannelOrder

  /// - Parameter block: positions along each axis of a block, 1 to 1024.
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
      try required(0, of: operands).type.concreteShape(), try outputs[0].concreteShape(),
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
  /// b: positions along each axis of a block, 1 to 1024.
  public var block: Int
  /// Whether c is the slowest part of the channel index.
  public var channelsComeFirst: Bool
  /// Order of the axes of input and output.
  public var order: ChannelOrder

  /// - Parameter block: positions along each axis of a block, 1 to 1024.
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
      try required(0, of: operands).type.concreteShape(), try outputs[0].concreteShape(),
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

/// Square blocks of image positions and the channels that correspond to them; shared by both
/// operations.
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

  /// The type of images whose channels are moved to blocks of positions.
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
    // With this bound, products with extents within ValueLimits do not overflow.
    guard type.shape.rank == 4, (1...(1 << 10)).contains(block) else {
      throw .malformed(
        "DepthToSpace and SpaceToDepth take 4 axes and blocks of 1 to 1024, found \(type) and "
          + "block \(block)")
    }
    return type
  }

  private func product(_ axis: Shape.Axis, _ factor: Int) -> Shape.Axis {
    axis.extent.map { .fixed($0 * factor) } ?? (factor == 1 ? axis : .free(""))
  }

  private func quotient(_ axis: Shape.Axis, _ divisor: Int) throws(QMError) -> Shape.Axis {
    guard let extent = axis.extent else { return divisor == 1 ? axis : .free("") }
    guard extent % divisor == 0 else {
      throw .malformed("an axis of \(extent) elements is not divisible by \(divisor)")
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

  /// Extents of the data movement, and strides of the tensor whose blocks are positions (wide) and
  /// of the tensor whose blocks are channels (deep).
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
