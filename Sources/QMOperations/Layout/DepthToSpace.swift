import QMTensor

/// Channels spread over blocks of positions: `[N, C·b·b, H, W]` becomes `[N, C, H·b, W·b]`, with
/// the axes by `order`. Every element type; codes keep their quantization.
///
/// Position (y, x) of channel c comes from position (y / b, x / b) of channel
/// `((y mod b) · b + x mod b) · C + c`, or, where `channelsComeFirst`,
/// `(c · b + y mod b) · b + x mod b`.
public struct DepthToSpace: OperationProtocol {
  public static let name = "DepthToSpace"
  public var block: Int
  public var channelsComeFirst: Bool
  public var order: ChannelOrder

  public init(block: Int, channelsComeFirst: Bool, order: ChannelOrder) {
    self.block = block
    self.channelsComeFirst = channelsComeFirst
    self.order = order
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    var type = try movable(0, of: operands)
    try expectImage(type, block: block)
    let axes = ImageAxes(order)
    type.shape[axes.height] = .product(type.shape[axes.height], block)
    type.shape[axes.width] = .product(type.shape[axes.width], block)
    type.shape[axes.channels] = try .quotient(type.shape[axes.channels], block * block)
    return [try type.checked()]
  }

  private func copy(_ input: [Int], _ output: [Int], _ size: Int) -> StridedCopy {
    BlockMove(
      wide: output, deep: input, order: order, block: block, channelsComeFirst: channelsComeFirst,
      elementByteCount: size
    ).copy(intoWide: true)
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    copy(inputs[0]!.shape, outputs[0].shape, outputs[0].elementType.byteCount)
      .runInOrder(from: inputs[0]!.base, to: outputs[0].base)
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let input = try required(0, of: operands).type.concreteExtents()
    let copy = copy(
      input, try outputs[0].concreteExtents(), outputs[0].elementType.byteCount)
    return .moving(Self.name, kernels, [(.input(0), copy)])
  }
}

/// The inverse of ``DepthToSpace``: `[N, C, H·b, W·b]` becomes `[N, C·b·b, H, W]`.
public struct SpaceToDepth: OperationProtocol {
  public static let name = "SpaceToDepth"
  public var block: Int
  public var channelsComeFirst: Bool
  public var order: ChannelOrder

  public init(block: Int, channelsComeFirst: Bool, order: ChannelOrder) {
    self.block = block
    self.channelsComeFirst = channelsComeFirst
    self.order = order
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    var type = try movable(0, of: operands)
    try expectImage(type, block: block)
    let axes = ImageAxes(order)
    type.shape[axes.height] = try .quotient(type.shape[axes.height], block)
    type.shape[axes.width] = try .quotient(type.shape[axes.width], block)
    type.shape[axes.channels] = .product(type.shape[axes.channels], block * block)
    return [try type.checked()]
  }

  private func copy(_ input: [Int], _ output: [Int], _ size: Int) -> StridedCopy {
    BlockMove(
      wide: input, deep: output, order: order, block: block, channelsComeFirst: channelsComeFirst,
      elementByteCount: size
    ).copy(intoWide: false)
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    copy(inputs[0]!.shape, outputs[0].shape, outputs[0].elementType.byteCount)
      .runInOrder(from: inputs[0]!.base, to: outputs[0].base)
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let input = try required(0, of: operands).type.concreteExtents()
    let copy = copy(
      input, try outputs[0].concreteExtents(), outputs[0].elementType.byteCount)
    return .moving(Self.name, kernels, [(.input(0), copy)])
  }
}

/// Places of the axes of a batch of images.
private struct ImageAxes {
  let channels: Int
  let height: Int
  let width: Int

  init(_ order: ChannelOrder) {
    switch order {
    case .channelsFirst: (channels, height, width) = (1, 2, 3)
    case .channelsLast: (height, width, channels) = (1, 2, 3)
    }
  }
}

extension OperationProtocol {
  fileprivate func expectImage(_ type: ValueType, block: Int) throws(QMError) {
    // The bound keeps products with extents that are within limits from overflowing.
    guard type.shape.rank == 4, (1...(1 << 10)).contains(block) else {
      throw .malformed("blocks of \(block) on \(type); expected a batch of images, blocks to 1024")
    }
  }
}

extension Shape.Axis {
  fileprivate static func product(_ axis: Shape.Axis, _ factor: Int) -> Shape.Axis {
    axis.extent.map { .fixed($0 * factor) } ?? (factor == 1 ? axis : .free(""))
  }

  fileprivate static func quotient(_ axis: Shape.Axis, _ divisor: Int) throws(QMError)
    -> Shape.Axis
  {
    guard let extent = axis.extent else { return divisor == 1 ? axis : .free("") }
    guard extent % divisor == 0 else {
      throw .malformed("an axis of \(extent) elements does not divide by \(divisor)")
    }
    return .fixed(extent / divisor)
  }
}

/// The move between blocks of positions (wide) and channels (deep).
private struct BlockMove {
  let extents: [Int]
  let wideStrides: [Int]
  let deepStrides: [Int]
  let elementByteCount: Int

  init(
    wide: [Int], deep: [Int], order: ChannelOrder, block: Int, channelsComeFirst: Bool,
    elementByteCount: Int
  ) {
    let axes = ImageAxes(order)
    let outer = StridedCopy.strides(of: wide, elementByteCount: elementByteCount)
    let inner = StridedCopy.strides(of: deep, elementByteCount: elementByteCount)
    let channels = wide[axes.channels]
    let channel = inner[axes.channels]
    extents = [wide[0], deep[axes.height], block, deep[axes.width], block, channels]
    wideStrides = [
      outer[0], outer[axes.height] * block, outer[axes.height], outer[axes.width] * block,
      outer[axes.width], outer[axes.channels],
    ]
    deepStrides = [
      inner[0], inner[axes.height], channel * block * (channelsComeFirst ? 1 : channels),
      inner[axes.width], channel * (channelsComeFirst ? 1 : channels),
      channel * (channelsComeFirst ? block * block : 1),
    ]
    self.elementByteCount = elementByteCount
  }

  func copy(intoWide: Bool) -> StridedCopy {
    StridedCopy(
      elementByteCount: elementByteCount, extents: extents,
      outStrides: intoWide ? wideStrides : deepStrides,
      inStrides: intoWide ? deepStrides : wideStrides)
  }
}
