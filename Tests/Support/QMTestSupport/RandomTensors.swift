import QMTensor

extension SeededGenerator {
  /// Float32 numbers, uniformly distributed over `range`.
  public mutating func tensor(_ shape: [Int], in range: ClosedRange<Float> = -1...1)
    throws(QMError) -> Tensor
  {
    let count = shape.reduce(1, *)
    return try Tensor(shape, (0..<count).map { _ in Float.random(in: range, using: &self) })
  }

  /// Integers, uniformly distributed over `range`.
  public mutating func tensor<Element: TensorElement & FixedWidthInteger>(
    _ shape: [Int], in range: ClosedRange<Element>
  ) throws(QMError) -> Tensor {
    let count = shape.reduce(1, *)
    return try Tensor(shape, (0..<count).map { _ in Element.random(in: range, using: &self) })
  }

  /// Random bytes; for a floating-point type they include infinities and NaN.
  public mutating func bits(_ type: ElementType, _ shape: [Int]) throws(QMError) -> Tensor {
    let size = try Tensor.byteCount(of: type, shape)
    let bytes = (0..<size).map { _ in
      UInt8.random(in: 0...(type == .bool ? 1 : 255), using: &self)
    }
    return try Tensor(type, shape, buffer: Tensor([size], bytes).buffer)
  }
}
