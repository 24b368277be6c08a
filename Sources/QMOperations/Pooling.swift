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
}
