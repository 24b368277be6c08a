import QMTensor

/// `exp(x − max) / Σ exp(x − max)` along one axis, or its logarithm.
public struct Softmax: OperationProtocol {
  public static let name = "Softmax"

  public enum Kind: UInt8, Hashable, Sendable {
    case softmax = 0
    case logSoftmax = 1
  }

  public var kind: Kind
  /// Counted from the front.
  public var axis: Int
  public var output: OutputEncoding

  public init(_ kind: Kind, axis: Int, output: OutputEncoding = .float32) {
    self.kind = kind
    self.axis = axis
    self.output = output
  }
}
