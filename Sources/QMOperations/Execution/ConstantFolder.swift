import QMTensor

/// Computes nodes whose results no run can change, once, before any run.
///
/// A file of a few bytes may ask for results of any size, so two limits hold for everybody who
/// folds: readers, passes, an opened model and its plans.
///
/// - All results together take at most ``byteLimit(besides:allowance:)``.
/// - A result that a file would store takes at most 16 MiB more than its operands, or eight times
///   their bytes where that is more. A tiled or expanded constant costs nothing in a file as a node.
public struct ConstantFolder: Sendable {
  /// Who keeps the results.
  public enum Destination: Sendable {
    /// A graph, whose constants go into a file. Codes of weights stay codes there: dequantized, they
    /// would lose their width.
    case graph
    /// The memory of an open model.
    case memory
  }

  /// Bytes that all results may take beside four times the constants that are given.
  public static let allowance = 256 << 20
  /// Bytes that one result in a graph may take beyond its operands.
  public static let growthLimit = 16 << 20

  private let destination: Destination
  /// Bytes that further results may take.
  public private(set) var bytesLeft: Int

  public init(for destination: Destination, byteLimit: Int) {
    self.destination = destination
    bytesLeft = byteLimit
  }

  /// What all results may take where constants of `constantByteCount` bytes are given: four times
  /// these, since codes of one byte become numbers of four, and the allowance.
  public static func byteLimit(
    besides constantByteCount: Int, allowance: Int = ConstantFolder.allowance
  ) -> Int {
    allowance + 4 * constantByteCount
  }

  /// Makes room for the results that a further given constant may need.
  public mutating func addGivenConstant(_ tensor: Tensor) { bytesLeft += 4 * tensor.byteCount }

  /// The outputs of a node; nil where its inputs are not all known, or the outputs are too large.
  ///
  /// The shape of a value is known before its elements are.
  /// - Throws: what the operation's type rule or its computation throws.
  public mutating func results(
    of operation: Operation, _ operands: [Operand?], kernels: KernelSet = .best
  ) throws(QMError) -> [Tensor]? {
    if case .shape(let shapeOperation) = operation, let shape = operands.first??.type.shape,
      let extents = try shapeOperation.value(for: shape)
    {
      return [extents]
    }
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

  /// Bytes of all outputs; nil where one is not to be stored, or they exceed what is left.
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
