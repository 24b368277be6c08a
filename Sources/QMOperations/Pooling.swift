import QMTensor

/// The largest or the mean element of each window.
public struct Pooling: OperationProtocol {
  public static let name = "Pooling"

  public enum Kind: UInt8, Hashable, Sendable {
    /// On codes: the largest code; the output has the input's quantization and `output` is ignored.
    case maximum = 0
    /// Divided by the number of elements inside the input.
    case averageOfInside = 1
    /// Divided by the number of elements inside the padded input.
    case averageOfPadded = 2
  }

  public var kind: Kind
  public var order: ChannelOrder
  /// Extents of the window; one entry per spatial axis each.
  public var window: [Int]
  public var strides: [Int]
  public var dilations: [Int]
  public var padding: Padding
  /// Whether a last window that hangs over the end counts (ONNX's `ceil_mode`).
  public var roundsUp: Bool
  public var output: OutputEncoding

  public init(
    kind: Kind, order: ChannelOrder, window: [Int], strides: [Int], dilations: [Int],
    padding: Padding, roundsUp: Bool, output: OutputEncoding = .float32
  ) {
    self.kind = kind
    self.order = order
    self.window = window
    self.strides = strides
    self.dilations = dilations
    self.padding = padding
    self.roundsUp = roundsUp
    self.output = output
  }

  /// The window; its rank is that of the spatial axes.
  /// - Throws: `malformed` if the attributes contradict each other or `shape`.
  func window(for shape: Shape) throws(QMError) -> Window {
    guard shape.rank == window.count + 2, !window.isEmpty else {
      throw .malformed("a window of extents \(window) on \(shape); expected a batch, channels and \(window.count) more axes")
    }
    return try Window(
      extents: window, strides: strides, dilations: dilations, padding: padding)
  }

  /// Place of spatial axis `axis` in the tensor.
  func place(of axis: Int) -> Int { order == .channelsFirst ? axis + 2 : axis + 1 }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    let input = try required(0, of: operands).type.checked()
    let window = try window(for: input.shape)
    var result = input
    for axis in self.window.indices {
      result.shape[place(of: axis)] = try window.outputAxis(
        axis, input: input.shape[place(of: axis)], roundsUp: roundsUp)
    }
    try expectReal(input)
    if kind != .maximum {
      try output.check()
      result.elementType = output.elementType
      result.quantization = output.quantization
    }
    return [try result.checked()]
  }
}
