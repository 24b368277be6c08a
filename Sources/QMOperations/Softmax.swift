import CQMKernels
import QMTensor

/// `exp(x − max) / Σ exp(x − max)` along one axis, or its logarithm.
///
/// Input: float32, or int8, uint8 or int16 codes with fixed quantization, each dequantized first.
/// Along a row, each step is one float32 operation (*the tree*: see ``Reduction``):
///
///     m = the tree's maximum of x          e[i] = exp(x[i] − m)          s = the tree's sum of e
///     softmax[i] = e[i] / s                logSoftmax[i] = (x[i] − m) − log(s)
///
/// `exp` and `log` are those of ``UnaryFunction``. The output has the shape of the input.
public struct Softmax: NonAccumulatingOperation, EncodedOutput {
  public static let name = "Softmax"

  /// Softmax or its logarithm. Raw values are written in files.
  public enum Kind: UInt8, Hashable, Sendable, CaseIterable {
    case softmax = 0
    case logSoftmax = 1
  }

  /// Softmax or its logarithm.
  public var kind: Kind
  /// The axis of the rows, counted from the front.
  public var axis: Int
  /// How results are stored.
  public var output: OutputEncoding

  /// - Parameter axis: counted from the front.
  public init(_ kind: Kind, axis: Int, output: OutputEncoding = .float32) {
    self.kind = kind
    self.axis = axis
    self.output = output
  }

  public static let placeholder = Softmax(.softmax, axis: 0)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("kind", &kind)
    try visitor.visit("axis", &axis)
    try visitor.visit("output", &output)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    let type = try required(0, of: operands).type.checked()
    try expectAxis(axis, rank: type.shape.rank)
    try expectFloatOrCodes(type)
    return [try type.stored(as: output)]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!
    let count = input.shape[axis]
    let inner = input.shape[(axis + 1)...].reduce(1, *)
    for outer in 0..<input.shape[..<axis].reduce(1, *) {
      for column in 0..<inner {
        let start = outer * count * inner + column
        let row = (0..<count).map { input.number(at: start + $0 * inner) }
        for (index, value) in normalized(row).enumerated() {
          outputs[0].store(canonical(value), at: start + index * inner)
        }
      }
    }
  }

  private func normalized(_ row: [Float]) -> [Float] {
    let maximum = Lanes.maximum(row.count) { row[$0] }
    let exponentials = row.map { UnaryFunction.exponential($0 - maximum) }
    let sum = Lanes.sum(row.count) { exponentials[$0] }
    switch kind {
    case .softmax: return exponentials.map { $0 / sum }
    case .logSoftmax:
      let logarithm = UnaryFunction.logarithm(sum)
      return row.map { ($0 - maximum) - logarithm }
    }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    guard let set = kernels.number else { return nil }
    let input = try required(0, of: operands).type
    let output = outputs[0]
    let shape = try input.concreteShape()
    let name = "\(Self.name) \(kernels.rawValue)"
    guard !shape.contains(0) else { return Kernel(name: name) { (_) throws(QMError) in } }
    let softmax = qm_normalization_for(set).softmax!
    let isLogarithm = kind == .logSoftmax
    let count = shape[axis]
    let outer = shape[..<axis].reduce(1, *)
    let inner = shape[(axis + 1)...].reduce(1, *)
    let rows = qm_rows(
      count: count, in_type: input.codes, out_type: output.codes,
      inverse_scale: output.inverseScale)

    // The kernel needs contiguous rows: for other axes than the last, transpose before and after.
    let (inSize, outSize) = (input.elementType.byteCount, output.elementType.byteCount)
    let gather =
      inner == 1
      ? nil
      : StridedCopy.transposing([outer, count, inner], [0, 2, 1], elementByteCount: inSize)
    let scatter = StridedCopy.transposing(
      [outer, inner, count], [0, 2, 1], elementByteCount: outSize)
    var scratch = ScratchLayout()
    let gathered = scratch.reserve(inner == 1 ? 0 : outer * inner * count * inSize)
    let normalized = scratch.reserve(inner == 1 ? 0 : outer * inner * count * outSize)
    let rowStart = scratch.byteCount
    let rowByteCount = ScratchLayout.rounded(2 * count * 4)
    return Kernel(name: name, scratchByteCount: { rowStart + $0 * rowByteCount }) {
      (memory) throws(QMError) in
      var source = memory.inputs[0]!
      var target = memory.outputs[0]!
      if let gather {
        gather.run(from: source, to: memory.scratch + gathered, set, memory.threads)
        source = memory.scratch + gathered
        target = memory.scratch + normalized
      }
      let (from, to) = (source, target)
      memory.threads.run(forRangesOf: outer * inner, byteCount: count * 16) { range, thread in
        let row = (memory.scratch + rowStart + thread * rowByteCount)
          .assumingMemoryBound(to: Float.self)
        softmax(isLogarithm, rows, from, to, range.lowerBound, range.upperBound, row)
      }
      if gather != nil { scatter.run(from: to, to: memory.outputs[0]!, set, memory.threads) }
    }
  }
}

extension Softmax {
  public func integerForm(of operands: [Operand?]) -> IntegerForm? {
    IntegerForm(operands: [0], result: encoded(as: Operation.softmax))
  }
  public var keepsName: Bool { false }
  public var analyticRange: ClosedRange<Float>? { kind == .softmax ? 0...1 : nil }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    guard order.places.indices.contains(axis) else { return nil }
    var result = self
    result.axis = order.places[axis]
    return ReorderedForm(.softmax(result), [.reordered], of: operands)
  }
}
