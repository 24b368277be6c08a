import QMTensor

/// Elements along some axes made one.
public struct Reduction: OperationProtocol {
  public static let name = "Reduction"

  public enum Kind: UInt8, Hashable, Sendable, CaseIterable {
    case mean = 0
    case sum = 1
    case maximum = 2
    case minimum = 3
    case product = 4
    case sumOfMagnitudes = 5
    case norm = 6
    case sumOfSquares = 7
    case logarithmOfSum = 8
    case logarithmOfSumOfExponentials = 9
  }

  public var kind: Kind
  /// Ascending, each once, counted from the front; empty means none.
  public var axes: [Int]
  /// Whether a reduced axis stays, with extent 1.
  public var keepsAxes: Bool
  public var output: OutputEncoding

  public init(
    _ kind: Kind, axes: [Int], keepsAxes: Bool, output: OutputEncoding = .float32
  ) {
    self.kind = kind
    self.axes = axes
    self.keepsAxes = keepsAxes
    self.output = output
  }
}
