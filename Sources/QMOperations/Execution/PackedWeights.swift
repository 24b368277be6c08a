import QMTensor

/// Constants rearranged for the kernels of this machine, once, when a model is loaded; and how they
/// were rearranged.
public struct PackedWeights: Sendable {
  /// How a kernel reads the bytes.
  enum Scheme: Hashable, Sendable {
    /// The weights of a convolution or a matrix product in panels.
    case panels(ProductPanels)
    /// The same for weights with one scale per group.
    case grouped(GroupedPanels)
    /// The weights of a convolution, transformed for Winograd's algorithm.
    case winograd(WinogradKernel.Weights)
    /// The weights of a recurrent layer in panels.
    case recurrent(RecurrentPanels)
  }

  let scheme: Scheme
  /// The rearranged bytes.
  public let buffer: Buffer

  /// Whether both have the same bytes and the same scheme, so that one can replace the other.
  public func isIdentical(to other: PackedWeights) -> Bool {
    scheme == other.scheme && buffer.isIdentical(to: other.buffer)
  }
}

/// What packing some constants would give, known without their elements.
public struct PackedForm: Hashable, Sendable {
  /// How a kernel would read the bytes. If the elements decide, in one of several ways.
  let schemes: [PackedWeights.Scheme]

  /// Size of the rearranged bytes in the largest scheme, in bytes.
  public var byteCount: Int { schemes.map(\.byteCount).max() ?? 0 }
}

extension PackedWeights.Scheme {
  /// Size of the rearranged bytes.
  var byteCount: Int {
    switch self {
    case .panels(let panels): panels.byteCount
    case .grouped(let panels): panels.byteCount
    case .winograd(let weights): weights.packedByteCount
    case .recurrent(let panels): panels.byteCount
    }
  }
}

/// How much memory the weights of an open model may take. Results do not depend on it.
public enum WeightMemory: String, Sendable, Hashable, CaseIterable {
  /// At most three bytes per code; this allows the fastest convolutions.
  case standard
  /// About one byte per code, or less if a kernel can read codes of few bits in packed form. Larger
  /// forms of the weights are made again in each run.
  case compact
}

/// How constants may be packed.
public struct Packing: Sendable {
  /// How much memory the packed weights may take.
  public var memory: WeightMemory
  /// Whether weights may take up to eight bytes per code if that makes kernels faster; otherwise
  /// they take about one.
  public var mayTransform: Bool
  /// Positions of the operands that no other node reads: packing may free their pages as it reads
  /// them.
  public var consumed: Set<Int> = []

  /// Packing for the fastest kernels.
  public static let fastest = Packing(memory: .standard, mayTransform: true)

  /// - Parameter mayTransform: has no effect with compact memory.
  public init(memory: WeightMemory, mayTransform: Bool = false) {
    self.memory = memory
    self.mayTransform = mayTransform && memory == .standard
  }

  /// The buffer whose pages may be freed while the constant at `position` is packed; nil if another
  /// node reads it, or if the buffer holds more than this constant.
  func consumedBuffer(_ position: Int, of operands: [Operand?]) -> Buffer? {
    guard consumed.contains(position), let constant = operands[position]?.constant,
      constant.byteCount == constant.buffer.count
    else { return nil }
    return constant.buffer
  }
}
