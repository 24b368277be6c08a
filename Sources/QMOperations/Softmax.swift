import QMTensor

/// `exp(x − max) / Σ exp(x − max)` along one axis, or its logarithm.
///
/// Input: float32, or int8, uint8 or int16 codes with fixed quantization, each dequantized first.
/// Along a row, each step one float32 operation (*the tree*: see ``Reduction``):
///
///     m = the tree's maximum of x          e[i] = exp(x[i] − m)          s = the tree's sum of e
///     softmax[i] = e[i] / s                logSoftmax[i] = (x[i] − m) − log(s)
///
/// `exp` and `log` are those of ``UnaryFunction``. The result is encoded by `output`.
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

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    var type = try required(0, of: operands).type.checked()
    try expectAxis(axis, rank: type.shape.rank)
    try expectReal(type)
    try output.check()
    type.elementType = output.elementType
    type.quantization = output.quantization
    return [try type.checked()]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!
    let count = input.shape[axis]
    let inner = input.shape[(axis + 1)...].reduce(1, *)
    for outer in 0..<input.shape[..<axis].reduce(1, *) {
      for column in 0..<inner {
        let start = outer * count * inner + column
        let row = (0..<count).map { input.real(at: start + $0 * inner) }
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
}
