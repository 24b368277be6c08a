import QMOperations
import QMTensor

/// What a reader did to a constant of the network's file before the graph got it: readers compute what
/// depends on constants alone, such as the transposed weights of a MatMul.
public struct ConstantStep: Sendable {
  /// The operation, whose first operand the constant was.
  let operation: Operation
  /// The shape of the constant before it.
  let shape: [Int]

  /// Whether the operation only moves all elements, or multiplies them by one number.
  var hasInverse: Bool {
    switch operation {
    case .transpose, .reshape, .squeeze, .unsqueeze, .flatten, .cast: true
    case .unary(let unary):
      if case .affine(let scale, 0) = unary.function { scale.isNormal } else { false }
    default: false
    }
  }

  /// The elements before the operation.
  /// - Parameter tensor: the elements after it.
  func undone(_ tensor: Tensor) throws(QMError) -> Tensor {
    switch operation {
    case .transpose(let transpose):
      var inverse = [Int](repeating: 0, count: transpose.permutation.count)
      for (place, axis) in transpose.permutation.enumerated() { inverse[axis] = place }
      return try Operation.transpose(Transpose(permutation: inverse)).evaluate([tensor])[0]
    case .unary(let unary):
      guard case .affine(let scale, _) = unary.function else { return tensor }
      return try Tensor(tensor.shape, tensor.elements(as: Float.self).map { $0 / scale })
    default: return try tensor.reshaped(shape)
    }
  }
}

extension Graph.Value {
  /// New elements of a constant as the network's file holds them.
  /// - Parameter tensor: as many float32 elements as the constant has.
  /// - Throws: `malformed` for another number of elements.
  public func inFile(_ tensor: Tensor) throws(QMError) -> Tensor {
    guard let constant else { return tensor }
    var tensor = try tensor.reshaped(constant.shape)
    for step in steps.reversed() { tensor = try step.undone(tensor) }
    return tensor
  }
}
