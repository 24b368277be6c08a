import QMTensor

/// Reads a stretch of bytes from front to back. Nothing is read that is not there, and nothing is
/// allocated for a count that the bytes left over could not fill.
///
/// Every error names the offset, counted from the start of the stretch.
struct ByteReader {
  private let bytes: UnsafeRawBufferPointer
  private let limits: DecodingLimits
  private(set) var offset = 0

  /// The memory must outlive the reader.
  init(_ bytes: UnsafeRawBufferPointer, limits: DecodingLimits) {
    self.bytes = bytes
    self.limits = limits
  }

  var remaining: Int { bytes.count - offset }

  func malformed(_ message: String) -> QMError {
    QMError(.malformed, message, context: [.offset(offset)])
  }

  /// - Throws: `malformed` unless every byte was read.
  func finish() throws(QMError) {
    guard remaining == 0 else { throw malformed("\(remaining) bytes too many") }
  }

  mutating func take(_ count: Int) throws(QMError) -> UnsafeRawBufferPointer {
    guard count >= 0, count <= remaining else {
      throw malformed("\(count) bytes expected, \(remaining) left")
    }
    defer { offset += count }
    return UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
  }

  mutating func byte() throws(QMError) -> UInt8 {
    guard offset < bytes.count else { throw malformed("a byte expected, none left") }
    defer { offset += 1 }
    return bytes[offset]
  }

  /// Little-endian.
  mutating func integer<Number: FixedWidthInteger>(as: Number.Type) throws(QMError) -> Number {
    let taken = try take(MemoryLayout<Number>.size)
    return Number(littleEndian: taken.loadUnaligned(as: Number.self))
  }

  /// Unsigned LEB128 in its only shortest form, at most 63 bits.
  mutating func varint() throws(QMError) -> Int {
    let start = offset
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while true {
      let byte = try byte()
      value |= UInt64(byte & 0x7F) << shift
      if byte < 0x80 {
        guard byte != 0 || shift == 0 else {
          offset = start
          throw malformed("a number is padded with zeros")
        }
        return Int(value)
      }
      shift += 7
      guard shift < 63 else {
        offset = start
        throw malformed("a number has more than 63 bits")
      }
    }
  }

  /// Zigzag over ``varint()``: 0, −1, 1, −2, … The result has at most 32 bits and a sign.
  mutating func signed() throws(QMError) -> Int {
    let start = offset
    let value = try varint()
    guard value <= Int(UInt32.max) else {
      offset = start
      throw malformed("\(value) stands for a number beyond 32 bits")
    }
    return (value >> 1) ^ -(value & 1)
  }

  mutating func zeroPoint() throws(QMError) -> Int32 { Int32(try signed()) }

  /// A number of things that are at least `byteCount` bytes each.
  mutating func count(of things: String, limit: Int, byteCount: Int = 1) throws(QMError) -> Int {
    let start = offset
    let count = try varint()
    guard count <= remaining / byteCount else {
      offset = start
      throw malformed("\(count) \(things) do not fit into \(remaining) bytes")
    }
    guard count <= limit else {
      offset = start
      throw malformed("\(count) \(things), at most \(limit) are accepted")
    }
    return count
  }

  /// A float32. NaN is refused.
  mutating func float() throws(QMError) -> Float {
    let value = Float(bitPattern: try integer(as: UInt32.self))
    guard !value.isNaN else {
      offset -= 4
      throw malformed("a parameter is not a number")
    }
    return value
  }

  mutating func flag() throws(QMError) -> Bool {
    switch try byte() {
    case 0: return false
    case 1: return true
    case let byte:
      offset -= 1
      throw malformed("0 or 1 expected, found \(byte)")
    }
  }

  /// A frozen number that stands for a case.
  mutating func code<Code: RawRepresentable>(_ things: String, as: Code.Type) throws(QMError)
    -> Code
  where Code.RawValue == UInt8 {
    let byte = try byte()
    guard let code = Code(rawValue: byte) else {
      offset -= 1
      throw malformed("\(things) \(byte) is unknown")
    }
    return code
  }

  /// UTF-8 after its length in bytes.
  mutating func string() throws(QMError) -> String {
    let bytes = try take(count(of: "bytes of text", limit: limits.stringByteCount))
    let string = String(decoding: bytes, as: UTF8.self)
    // Ill-formed bytes would come back repaired, and so others.
    guard string.utf8.elementsEqual(bytes) else {
      offset -= bytes.count
      throw malformed("a text is not UTF-8")
    }
    return string
  }
}
