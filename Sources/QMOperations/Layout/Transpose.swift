import QMTensor

/// Reorders axes: output axis i is input axis `permutation[i]`. Every element type; codes keep
/// their quantization, also dynamic quantization over no axes.
public struct Transpose: FirstOperandMovement {
  public static let name = "Transpose"
  /// The input axis of each output axis.
  public var permutation: [Int]
  /// - Parameter permutation: the input axis of each output axis.
  public init(permutation: [Int]) { self.permutation = permutation }

  /// Whether every axis keeps its position.
  public var isIdentity: Bool { permutation == Array(permutation.indices) }

  public static let placeholder = Transpose(permutation: [])

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("permutation", &permutation)
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    var type = try movable(0, of: operands, permutes: true)
    guard permutation.sorted() == Array(0..<type.shape.rank) else {
      throw .malformed("\(permutation) is not a permutation of the axes of \(type.shape)")
    }
    type.shape = Shape(permutation.map { type.shape[$0] })
    return [type]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!
    try forEachIndex(of: outputs[0].shape) { (index) throws(QMError) in
      var place = index
      for (axis, source) in permutation.enumerated() { place[source] = index[axis] }
      outputs[0].copyElement(at: index, from: input, at: place)
    }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let input = try required(0, of: operands).type
    let copy = StridedCopy.transposing(
      try input.concreteShape(), permutation, elementByteCount: input.elementType.byteCount)
    return .moving(Self.name, kernels, [(.input(0), copy)])
  }
}

extension Transpose {
  public var keepsName: Bool { true }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    // Two transpositions combine into one.
    guard permutation.allSatisfy(order.places.indices.contains) else { return nil }
    let joined = Transpose(permutation: permutation.map { order.places[$0] })
    return ReorderedForm(
      joined.isIdentity ? .identity(Identity()) : .transpose(joined), [.reordered], of: operands,
      reordersOutput: false)
  }
}
