import QMTensor

/// `scale · (x − mean) / √(variance + ε) + bias` per channel, with statistics from training.
/// Inputs: x, scale, bias, mean, variance; the last four float32 `[C]`.
public struct BatchNormalization: OperationProtocol {
  public static let name = "BatchNormalization"
  public var order: ChannelOrder
  public var epsilon: Float

  public init(order: ChannelOrder, epsilon: Float) {
    self.order = order
    self.epsilon = epsilon
  }
}

/// `scale · (x − mean(x)) / √(variance(x) + ε) + bias` over the axes from `axis` on.
/// Inputs: x, scale (optional), bias (optional), both with the extents from `axis` on.
public struct LayerNormalization: OperationProtocol {
  public static let name = "LayerNormalization"
  /// Counted from the front.
  public var axis: Int
  public var epsilon: Float
  public var output: OutputEncoding

  public init(axis: Int, epsilon: Float, output: OutputEncoding = .float32) {
    self.axis = axis
    self.epsilon = epsilon
    self.output = output
  }
}
