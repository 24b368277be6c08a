import QMTensor

/// Constants rearranged for the kernels of this machine, and how: made once when a model is loaded.
public struct PackedWeights: Sendable {
  /// How a kernel reads the bytes.
  enum Scheme: Hashable, Sendable {
    /// The weights of a convolution or a matrix product in panels.
    case panels(ProductPanels)
    /// The same where groups of weights share scales.
    case grouped(GroupedPanels)
    /// The weights of a convolution, transformed.
    case winograd(WinogradKernel.Weights)
    /// The weights of a recurrent layer in panels.
    case recurrent(RecurrentPanels)
  }

  let scheme: Scheme
  public let buffer: Buffer

  /// Whether either can be used for the other: the same bytes, read the same way.
  public func isIdentical(to other: PackedWeights) -> Bool {
    scheme == other.scheme && buffer.isIdentical(to: other.buffer)
  }
}

/// What weights may take in memory while a model is open; the results are the same.
public enum WeightMemory: String, Sendable, Hashable, CaseIterable {
  /// At most three bytes for each code, which lets convolutions be fastest.
  case standard
  /// About one byte for each code, less where codes of few bits can be read as they are; what takes
  /// more is made in each run.
  case compact
}

/// What packing may do with constants.
public struct Packing: Sendable {
  public var memory: WeightMemory
  /// Whether weights may take up to eight bytes a code where that makes kernels faster; about one
  /// otherwise.
  public var mayTransform: Bool
  /// Positions of the operands that nobody else reads: packing may free their pages as it goes.
  public var consumed: Set<Int> = []

  /// Packed so that kernels are fastest.
  public static let fastest = Packing(memory: .standard, mayTransform: true)

  public init(memory: WeightMemory, mayTransform: Bool = false) {
    self.memory = memory
    self.mayTransform = mayTransform && memory == .standard
  }

  /// The memory that may go while the constant at `position` is packed: all of the buffer is the
  /// constant's.
  func consumedBuffer(_ position: Int, of operands: [Operand?]) -> Buffer? {
    guard consumed.contains(position), let constant = operands[position]?.constant,
      constant.byteCount == constant.buffer.count
    else { return nil }
    return constant.buffer
  }
}
