#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

extension Tensor {
  /// The same numbers in another element type and in the same shape. The result has its own buffer,
  /// unless the tensor already has the type: then it is returned as it is.
  ///
  /// - To a floating-point type: rounded once, to nearest, ties to even. Infinity stays infinity
  ///   and NaN stays NaN (its payload may change). A finite number that would round to infinity is
  ///   refused.
  /// - To an integer type: only numbers that the type holds exactly. Anything else (a fraction,
  ///   NaN, a number out of range) is refused.
  /// - `bool` counts as 0 and 1, in both directions.
  ///
  /// - Throws: `invalidInput`, naming the first element that does not fit; `outOfMemory`.
  public func converted(to target: ElementType) throws(QMError) -> Tensor {
    if target == elementType { return self }
    let result = try Tensor(zeros: target, shape)
    let source = UnsafeRawPointer(buffer.base + byteOffset)
    let destination = result.buffer.base
    let count = elementCount
    var refused: Int?
    if elementType.isFloatingPoint {
      refused = convert(source, elementType, destination, target, count)
    } else {
      refused = convertInteger(source, elementType, destination, target, count)
    }
    guard let refused else { return result }
    throw .invalidInput(
      "element \(index(of: refused)) is \(description(at: refused)), which \(target) cannot hold")
  }

  /// The index, axis by axis, of the element at `position` in row-major order.
  private func index(of position: Int) -> [Int] {
    var rest = position
    var index = shape
    for axis in shape.indices.reversed() {
      index[axis] = rest % shape[axis]
      rest /= shape[axis]
    }
    return index
  }

  /// The number at `position` in row-major order, for a message.
  private func description(at position: Int) -> String {
    let source = UnsafeRawPointer(buffer.base + byteOffset)
    switch elementType {
    case .int64:
      return "\(source.loadUnaligned(fromByteOffset: position * 8, as: Int64.self))"
    case .uint64:
      return "\(source.loadUnaligned(fromByteOffset: position * 8, as: UInt64.self))"
    default:
      return "\(double(source, elementType, position))"
    }
  }
}

/// The number at `index`; exact for every type except 64-bit integers. Those are rounded to odd, so
/// that rounding the result again, to at most 51 bits, gives the same as a single rounding.
@inline(__always)
private func double(_ source: UnsafeRawPointer, _ type: ElementType, _ index: Int) -> Double {
  switch type {
  case .float32: Double(source.loadUnaligned(fromByteOffset: index * 4, as: Float.self))
  case .float64: source.loadUnaligned(fromByteOffset: index * 8, as: Double.self)
  case .float16:
    Double(float16Bits: source.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self))
  case .bfloat16:
    Double(bfloat16Bits: source.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self))
  case .int8: Double(source.load(fromByteOffset: index, as: Int8.self))
  case .uint8: Double(source.load(fromByteOffset: index, as: UInt8.self))
  case .bool: source.load(fromByteOffset: index, as: UInt8.self) == 0 ? 0 : 1
  case .int16: Double(source.loadUnaligned(fromByteOffset: index * 2, as: Int16.self))
  case .uint16: Double(source.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self))
  case .int32: Double(source.loadUnaligned(fromByteOffset: index * 4, as: Int32.self))
  case .uint32: Double(source.loadUnaligned(fromByteOffset: index * 4, as: UInt32.self))
  case .int64:
    roundedToOdd(source.loadUnaligned(fromByteOffset: index * 8, as: Int64.self))
  case .uint64:
    roundedToOdd(source.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
  }
}

private func roundedToOdd(_ value: Int64) -> Double {
  value < 0 ? -roundedToOdd(value.magnitude) : roundedToOdd(value.magnitude)
}

private func roundedToOdd(_ value: UInt64) -> Double {
  guard value >= 1 << 53 else { return Double(value) }
  // 53 of the 64 bits remain; the last of them becomes 1 if any dropped bit was 1.
  let sticky: UInt64 = value & 0x7ff == 0 ? 0 : 1
  return Double(value >> 11 | sticky) * 2048
}

/// - Returns: the position of the first element that does not fit.
private func convert(
  _ source: UnsafeRawPointer, _ sourceType: ElementType,
  _ destination: UnsafeMutableRawPointer, _ type: ElementType, _ count: Int
) -> Int? {
  for index in 0..<count {
    guard store(double(source, sourceType, index), destination, type, index) else { return index }
  }
  return nil
}

/// Stores `value`, rounded as ``Tensor/converted(to:)`` says.
/// - Returns: false if the type cannot hold it.
@inline(__always)
private func store(
  _ value: Double, _ destination: UnsafeMutableRawPointer, _ type: ElementType, _ index: Int
) -> Bool {
  @inline(__always) func integer<Element: FixedWidthInteger & BitwiseCopyable>(_: Element.Type)
    -> Bool
  {
    guard let code = Element(exactly: value) else { return false }
    destination.storeBytes(
      of: code, toByteOffset: index * MemoryLayout<Element>.stride, as: Element.self)
    return true
  }
  switch type {
  case .float32:
    let rounded = Float(value)
    guard rounded.isFinite || !value.isFinite else { return false }
    destination.storeBytes(of: rounded, toByteOffset: index * 4, as: Float.self)
    return true
  case .float64:
    destination.storeBytes(of: value, toByteOffset: index * 8, as: Double.self)
    return true
  case .float16:
    let bits = value.float16Bits
    guard bits & 0x7fff != 0x7c00 || !value.isFinite else { return false }
    destination.storeBytes(of: bits, toByteOffset: index * 2, as: UInt16.self)
    return true
  case .bfloat16:
    let bits = value.bfloat16Bits
    guard bits & 0x7fff != 0x7f80 || !value.isFinite else { return false }
    destination.storeBytes(of: bits, toByteOffset: index * 2, as: UInt16.self)
    return true
  case .bool:
    guard value == 0 || value == 1 else { return false }
    destination.storeBytes(of: value == 0 ? 0 : 1, toByteOffset: index, as: UInt8.self)
    return true
  case .int8: return integer(Int8.self)
  case .uint8: return integer(UInt8.self)
  case .int16: return integer(Int16.self)
  case .uint16: return integer(UInt16.self)
  case .int32: return integer(Int32.self)
  case .uint32: return integer(UInt32.self)
  case .int64: return integer(Int64.self)
  case .uint64: return integer(UInt64.self)
  }
}

/// Converts integers and bool. The 64-bit types do not go through `Double`, which cannot hold them
/// all.
/// - Returns: the position of the first element that does not fit.
private func convertInteger(
  _ source: UnsafeRawPointer, _ sourceType: ElementType,
  _ destination: UnsafeMutableRawPointer, _ type: ElementType, _ count: Int
) -> Int? {
  switch sourceType {
  case .int64: convert64Bit(source, Int64.self, sourceType, destination, type, count)
  case .uint64: convert64Bit(source, UInt64.self, sourceType, destination, type, count)
  default: convert(source, sourceType, destination, type, count)
  }
}

private func convert64Bit<Wide: FixedWidthInteger & BitwiseCopyable>(
  _ source: UnsafeRawPointer, _: Wide.Type, _ sourceType: ElementType,
  _ destination: UnsafeMutableRawPointer, _ type: ElementType, _ count: Int
) -> Int? {
  func convertExactly<Element: FixedWidthInteger & BitwiseCopyable>(_: Element.Type) -> Int? {
    for index in 0..<count {
      let value = source.loadUnaligned(fromByteOffset: index * 8, as: Wide.self)
      guard let code = Element(exactly: value) else { return index }
      destination.storeBytes(
        of: code, toByteOffset: index * MemoryLayout<Element>.stride, as: Element.self)
    }
    return nil
  }
  switch type {
  case .int8: return convertExactly(Int8.self)
  case .uint8: return convertExactly(UInt8.self)
  case .int16: return convertExactly(Int16.self)
  case .uint16: return convertExactly(UInt16.self)
  case .int32: return convertExactly(Int32.self)
  case .uint32: return convertExactly(UInt32.self)
  case .int64: return convertExactly(Int64.self)
  case .uint64: return convertExactly(UInt64.self)
  case .float64:
    for index in 0..<count {
      let value = source.loadUnaligned(fromByteOffset: index * 8, as: Wide.self)
      destination.storeBytes(of: Double(value), toByteOffset: index * 8, as: Double.self)
    }
    return nil
  case .float32, .float16, .bfloat16, .bool:
    return convert(source, sourceType, destination, type, count)
  }
}
