import QMTensor

/// Output axis i is input axis `permutation[i]`. Every element type; codes keep their quantization.
public struct Transpose: OperationProtocol {
  public static let name = "Transpose"
  public var permutation: [Int]
  public init(permutation: [Int]) { self.permutation = permutation }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try expect(1...1, operands)
    var type = try movable(0, of: operands)
    guard permutation.sorted() == Array(0..<type.shape.rank) else {
      throw .malformed("\(permutation) does not order the axes of \(type.shape)")
    }
    type.shape = Shape(permutation.map { type.shape[$0] })
    return [type]
  }
}
