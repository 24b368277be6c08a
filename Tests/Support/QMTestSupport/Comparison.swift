import QMTensor

/// A description of the first difference between two tensors; nil if type, shape and every bit are
/// equal.
public func firstDifference(_ found: Tensor, _ expected: Tensor) -> String? {
  guard found.elementType == expected.elementType, found.shape == expected.shape else {
    return "found \(found), expected \(expected)"
  }
  let size = found.elementType.byteCount
  for index in 0..<found.elementCount {
    let bytes = index * size..<(index + 1) * size
    let (left, right) = (Array(found.bytes[bytes]), Array(expected.bytes[bytes]))
    if left != right {
      var rest = index
      let position = found.shape.reversed().map { extent in
        defer { rest /= extent }
        return rest % extent
      }
      return "element \(Array(position.reversed())): found \(describe(left, found.elementType)), "
        + "expected \(describe(right, found.elementType))"
    }
  }
  return nil
}

private func describe(_ bytes: [UInt8], _ type: ElementType) -> String {
  let bits = bytes.reversed().map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }
    .joined()
  guard let tensor = try? Tensor([bytes.count], bytes),
    let element = try? Tensor(type, [], buffer: tensor.buffer).converted(to: .float64)
  else { return "0x" + bits }
  return "\(element.elements(as: Double.self)[0]) (0x\(bits))"
}

/// The distance of two numbers in units in the last place; both zeros count as one number.
/// `Int.max` if one is NaN and the other is not.
public func ulps(_ left: Float, _ right: Float) -> Int {
  if left.isNaN || right.isNaN { return left.isNaN && right.isNaN ? 0 : .max }
  func position(_ value: Float) -> Int {
    let magnitude = Int(value.magnitude.bitPattern)
    return value.sign == .minus ? -magnitude : magnitude
  }
  return abs(position(left) - position(right))
}
