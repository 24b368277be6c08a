import QMOperations
import QMTensor

/// Reads bytes from front to back, never past the end. A count is checked against the bytes that
/// remain before anything is allocated for it.
///
/// Every error has the offset from the start of the bytes as its context.
struct ByteReader {
  private let bytes: UnsafeRawBufferPointer
  private let limits: DecodingLimits
  private(set) var offset = 0
  /// Scale and zero point of the last output or type.
  var lastParameters: Quantization?

  /// How many loops hold the attribute that is being read.
  private var loopDepth = 0

  /// Begins to read the body of a loop.
  /// - Throws: `malformed` if it stands too deep within others, so that reading cannot exhaust the
  ///   stack.
  mutating func enterLoop() throws(QMError) {
    loopDepth += 1
    guard loopDepth <= Loop.deepest else {
      throw malformed("loops stand within each other more than \(Loop.deepest) deep")
    }
  }

  /// Ends to read the body of a loop.
  mutating func leaveLoop() { loopDepth -= 1 }

  /// A reader of `bytes`, which must outlive it.
  init(_ bytes: UnsafeRawBufferPointer, limits: DecodingLimits) {
    self.bytes = bytes
    self.limits = limits
  }

  var remaining: Int { bytes.count - offset }

  func malformed(_ message: String) -> QMError {
    QMError(.malformed, message, context: [.offset(offset)])
  }

  /// Checks that every byte was read.
  /// - Throws: `malformed` if bytes remain.
  func finish() throws(QMError) {
    guard remaining == 0 else { throw malformed("expected the end, found \(remaining) more bytes") }
  }

  mutating func take(_ count: Int) throws(QMError) -> UnsafeRawBufferPointer {
    guard count >= 0, count <= remaining else {
      throw malformed("expected \(count) bytes, found \(remaining)")
    }
    defer { offset += count }
    return UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
  }

  mutating func byte() throws(QMError) -> UInt8 {
    guard offset < bytes.count else { throw malformed("expected a byte, found the end") }
    defer { offset += 1 }
    return bytes[offset]
  }

  /// A little-endian integer of fixed size.
  mutating func integer<Number: FixedWidthInteger>(as: Number.Type) throws(QMError) -> Number {
    let taken = try take(MemoryLayout<Number>.size)
    return Number(littleEndian: taken.loadUnaligned(as: Number.self))
  }

  /// An unsigned LEB128 number of at most 63 bits. Only the shortest form is accepted.
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

  /// A zigzag-coded ``varint()``: 0, 1, 2, 3, … represent 0, −1, 1, −2, … within −2³¹…2³¹−1.
  mutating func signed() throws(QMError) -> Int {
    let start = offset
    let value = try varint()
    guard value <= Int(UInt32.max) else {
      offset = start
      throw malformed("a signed number exceeds 32 bits")
    }
    return (value >> 1) ^ -(value & 1)
  }

  mutating func zeroPoint() throws(QMError) -> Int32 { Int32(try signed()) }

  /// The number of elements that follow.
  /// - Parameters:
  ///   - elements: what is counted, for messages.
  ///   - limit: the largest number that is accepted.
  ///   - byteCount: the smallest size of one element, in bytes.
  mutating func count(of elements: String, limit: Int, byteCount: Int = 1) throws(QMError) -> Int {
    let start = offset
    let count = try varint()
    guard count <= remaining / byteCount else {
      offset = start
      throw malformed("\(count) \(elements) do not fit into \(remaining) bytes")
    }
    guard count <= limit else {
      offset = start
      throw malformed("\(count) \(elements); the limit is \(limit)")
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
      throw malformed("expected 0 or 1, found \(byte)")
    }
  }

  /// The frozen number of an enumeration's case.
  /// - Parameter what: the name of the enumeration, for messages.
  mutating func code<Code: RawRepresentable>(_ what: String, as: Code.Type) throws(QMError)
    -> Code
  where Code.RawValue == UInt8 {
    let byte = try byte()
    guard let code = Code(rawValue: byte) else {
      offset -= 1
      throw malformed("\(what) \(byte) is unknown")
    }
    return code
  }

  /// A length in bytes, then UTF-8 text of this length.
  mutating func string() throws(QMError) -> String {
    let bytes = try take(count(of: "bytes of text", limit: limits.stringByteCount))
    let string = String(decoding: bytes, as: UTF8.self)
    // Decoding replaces ill-formed bytes, so that the result differs from the bytes read.
    guard string.utf8.elementsEqual(bytes) else {
      offset -= bytes.count
      throw malformed("a text is not UTF-8")
    }
    return string
  }
}
