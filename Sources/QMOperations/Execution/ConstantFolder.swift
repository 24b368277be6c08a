import QMTensor

/// Computes, once and before any run, the nodes whose results are the same in every run.
///
/// A small file can ask for results of any size. Every caller (readers, passes, an open model and
/// its plans) therefore obeys two limits:
///
/// - All results together take at most ``byteLimit(besides:allowance:)``.
/// - A result that a file would store takes at most 16 MiB more than its operands, or at most eight
///   times their bytes if that is larger. Left as a node, a tiled or expanded constant takes no
///   space in the file.
public struct ConstantFolder: Sendable {
  /// Where the results are kept.
  public enum Destination: Sendable {
    /// A graph, whose constants are written to a file. Quantized constants are not dequantized
    /// there, because the file would then store them as float32.
    case graph
    /// The memory of an open model.
    case memory
  }

  /// Bytes that all results may take in addition to four times the bytes of the given constants.
  public static let allowance = 256 << 20
  /// Bytes by which one result in a graph may exceed its operands.
  public static let growthLimit = 16 << 20

  private let destination: Destination
  /// Bytes that further results may take.
  public private(set) var bytesLeft: Int

  /// - Parameter byteLimit: bytes that all results together may take.
  public init(for destination: Destination, byteLimit: Int) {
    self.destination = destination
    bytesLeft = byteLimit
  }

  /// The limit in bytes for all results when the given constants have `constantByteCount` bytes:
  /// four times these, because one-byte codes become four-byte floats, plus the allowance.
  public static func byteLimit(
    besides constantByteCount: Int, allowance: Int = ConstantFolder.allowance
  ) -> Int {
    allowance + 4 * constantByteCount
  }

  /// Raises the limit for one more given constant.
  public mutating func addGivenConstant(_ tensor: Tensor) { bytesLeft += 4 * tensor.byteCount }

  /// The outputs of a node; nil if an input is unknown or the outputs exceed a limit.
  ///
  /// A shape operation needs only the shape of its operand, not the elements.
  /// - Throws: errors of the operation's type rule or of its computation.
  public mutating func results(
    of operation: Operation, _ operands: [Operand?], kernels: KernelSet = .best
  ) throws(QMError) -> [Tensor]? {
    if case .shape(let shapeOperation) = operation, let shape = operands.first??.type.shape,
      let extents = try shapeOperation.value(for: shape)
    {
      return [extents]
    }
    // A loop may run for ever: only a run, which can be cancelled, computes it.
    if case .loop = operation { return nil }
    var operandByteCount = 0
    for case let operand? in operands {
      guard let constant = operand.constant, isStorable(operand.type) else { return nil }
      operandByteCount += constant.byteCount
    }
    let types = try operation.body.outputTypes(for: operands)
    guard let byteCount = try byteCount(of: types) else { return nil }
    if destination == .graph {
      if operation.body.keepsBytes, let source = operands[0]?.constant,
        let extents = types[0].shape.extents
      {
        return [try source.reshaped(extents)]
      }
      let growthLimit = max(ConstantFolder.growthLimit, 7 * operandByteCount)
      guard byteCount - operandByteCount <= growthLimit else { return nil }
    }
    bytesLeft -= byteCount
    return try operation.evaluate(
      operands.map { $0?.constant }, quantizations: operands.map { $0?.type.quantization ?? .none },
      kernels: kernels)
  }

  /// Bytes of all outputs; nil if one may not be stored, or if they exceed ``bytesLeft``.
  private func byteCount(of types: [ValueType]) throws(QMError) -> Int? {
    var total = 0
    for type in types {
      guard isStorable(type), let extents = type.shape.extents else { return nil }
      let byteCount = try Tensor.byteCount(of: type.elementType, extents)
      guard byteCount <= bytesLeft - total else { return nil }
      total += byteCount
    }
    return total
  }

  private func isStorable(_ type: ValueType) -> Bool {
    destination == .memory || type.quantization == .none
  }
}
