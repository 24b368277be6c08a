import QMTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

// Parts of the reference loops of data movement.

/// Calls `body` with every index of a tensor of this shape, in row-major order.
func forEachIndex(
  of shape: [Int], _ body: (_ index: [Int]) throws(QMError) -> Void
) throws(QMError) {
  guard !shape.contains(0) else { return }
  var index = Array(repeating: 0, count: shape.count)
  while true {
    try body(index)
    var axis = shape.count - 1
    while axis >= 0, index[axis] == shape[axis] - 1 {
      index[axis] = 0
      axis -= 1
    }
    guard axis >= 0 else { return }
    index[axis] += 1
  }
}

extension TensorView {
  /// Bytes from the first element to the one at `index`.
  func byteOffset(at index: [Int]) -> Int {
    zip(index, shape).reduce(0) { $0 * $1.1 + $1.0 } * elementType.byteCount
  }

  /// `self[index] = source[place]`. Both have the same element type.
  func copyElement(at index: [Int], from source: TensorView, at place: [Int]) {
    memcpy(
      base + byteOffset(at: index), source.base + source.byteOffset(at: place),
      elementType.byteCount)
  }

  /// Copies all bytes of a tensor with the same number of bytes.
  func copyBytes(from source: TensorView) throws(QMError) {
    guard source.byteCount == byteCount else {
      throw .invalidInput("shape \(source.shape) has another element count than \(shape)")
    }
    memcpy(base, source.base, byteCount)
  }

  /// The elements of an int32 or int64 tensor.
  func integers() -> [Int] {
    UnsafeRawBufferPointer(start: base, count: byteCount).integers(elementType)
  }
}

extension OperationProtocol {
  /// - Throws: `invalidInput` if the shape that follows from the operands is not the one that the
  ///   run was prepared for.
  func expectShape(_ shape: [Int], of output: TensorView) throws(QMError) {
    guard shape == output.shape else {
      throw .invalidInput("\(Self.name) gives shape \(shape), but the run expects \(output.shape)")
    }
  }
}

extension Tensor {
  /// The elements of an int32 or int64 tensor.
  func integers() -> [Int] { bytes.integers(elementType) }
}

extension UnsafeRawBufferPointer {
  fileprivate func integers(_ elementType: ElementType) -> [Int] {
    let size = elementType.byteCount
    return (0..<count / size).map { index in
      size == 8
        ? Int(loadUnaligned(fromByteOffset: 8 * index, as: Int64.self))
        : Int(loadUnaligned(fromByteOffset: 4 * index, as: Int32.self))
    }
  }
}
