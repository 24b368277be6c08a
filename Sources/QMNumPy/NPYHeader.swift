import QMTensor

/// The header of an `.npy` file, versions 1.0, 2.0 and 3.0 of NumPy's format
/// (`numpy.lib.format`, NEP 1).
///
/// The header is the text of a Python dictionary. It is parsed by a tokenizer that knows strings,
/// integers, `True`, `False` and punctuation only; it is never evaluated.
public struct NPYHeader: Hashable, Sendable {
  /// The byte order of an element: the least significant byte first (`little`) or last.
  public enum ByteOrder: Hashable, Sendable { case little, big }
  /// The axis along which neighbouring elements lie: the last (`rowMajor`, NumPy's C order) or the
  /// first (`columnMajor`, its Fortran order).
  public enum Order: Hashable, Sendable { case rowMajor, columnMajor }

  /// Type of one element.
  public var elementType: ElementType
  /// The byte order of each element; `little` for elements of one byte.
  public var byteOrder: ByteOrder
  /// The order of the elements in the file.
  public var order: Order
  /// The extent of each axis, outermost first; empty for a scalar.
  public var shape: [Int]
  /// Offset of the first element in the file, in bytes.
  public var dataOffset: Int

  /// Size of all elements, in bytes.
  public var dataByteCount: Int { shape.reduce(elementType.byteCount, *) }

  /// The maximum number of axes in NumPy.
  static let maximumRank = 64
  /// In bytes. A header without structured types needs a few hundred; the rest is for padding.
  static let maximumHeaderLength = 1 << 20
  static let magic: [UInt8] = [0x93] + Array("NUMPY".utf8)

  /// Size of the header, in bytes: how much of a file `init(parsing:)` needs.
  /// - Parameter prefix: at least the first 64 bytes, or the whole file.
  /// - Throws: `malformed` or `unsupported`, with the byte offset as context.
  static func byteCount(prefix: UnsafeRawBufferPointer) throws(QMError) -> Int {
    guard prefix.count >= 10 else {
      throw malformed(
        prefix.count, "the file ends before the 10 bytes that begin an .npy file")
    }
    guard prefix.prefix(6).elementsEqual(magic) else {
      if let kind = FileKind(prefix) {
        throw kind.refusal(expected: "a NumPy array (.npy)").within(.offset(0))
      }
      throw malformed(0, "not an .npy file: it does not begin with \\x93NUMPY")
    }
    let (major, minor) = (prefix[6], prefix[7])
    guard (1...3).contains(major), minor == 0 else {
      throw QMError(
        .unsupported,
        "format version \(major).\(minor); versions 1.0, 2.0 and 3.0 are read; save the array "
          + "with one of them",
        context: [.offset(6)])
    }
    if major == 1 { return 10 + Int(prefix[8]) + Int(prefix[9]) << 8 }
    guard prefix.count >= 12 else {
      throw malformed(prefix.count, "the file ends before the length of its header")
    }
    let length = (0..<4).reduce(0) { $0 + Int(prefix[8 + $1]) << (8 * $1) }
    guard length <= maximumHeaderLength else {
      throw malformed(
        8, "the header has \(length) bytes; the limit is \(maximumHeaderLength)")
    }
    return 12 + length
  }

  /// Reads the header at the start of `bytes`; more bytes may follow it.
  /// - Throws: `malformed` or `unsupported`, with the byte offset as context.
  public init(parsing bytes: UnsafeRawBufferPointer) throws(QMError) {
    let end = try NPYHeader.byteCount(prefix: bytes)
    guard end <= bytes.count else {
      throw malformed(8, "the header ends at byte \(end), the file at byte \(bytes.count)")
    }
    let start = bytes[6] == 1 ? 10 : 12
    var tokens = Tokenizer(UnsafeRawBufferPointer(rebasing: bytes[start..<end]), at: start)
    var descriptor: (ElementType, ByteOrder)?
    var order: Order?
    var shape: [Int]?

    try tokens.expect(.punctuation("{"), "the header is not a dictionary")
    while true {
      if try tokens.skip(.punctuation("}")) { break }
      let key = try tokens.next()
      guard case .string(let name) = key.token else {
        throw malformed(key.offset, "expected a key in quotes, found \(key.token)")
      }
      try tokens.expect(.punctuation(":"), "key '\(name.abbreviated)' has no value")
      switch name {
      case "descr" where descriptor == nil: descriptor = try tokens.elementType()
      case "fortran_order" where order == nil: order = try tokens.order()
      case "shape" where shape == nil: shape = try tokens.shape()
      case "descr", "fortran_order", "shape":
        throw malformed(key.offset, "key '\(name)' occurs twice")
      default:
        throw malformed(
          key.offset,
          "unknown key '\(name.abbreviated)'; expected descr, fortran_order and shape")
      }
      if try tokens.skip(.punctuation(",")) { continue }
      try tokens.expect(.punctuation("}"), "the entry does not end with , or }")
      break
    }
    try tokens.expectEnd()

    guard let descriptor else { throw malformed(start, "the header has no key 'descr'") }
    guard let order else { throw malformed(start, "the header has no key 'fortran_order'") }
    guard let shape else { throw malformed(start, "the header has no key 'shape'") }
    (elementType, byteOrder) = descriptor
    self.order = order
    self.shape = shape
    dataOffset = end
    // The nonzero extents of an empty array are checked too: strides are computed from them.
    let extents = shape.filter { $0 != 0 } + [elementType.byteCount]
    guard Shape.elementCount(of: extents) != nil else {
      throw malformed(start, "\(elementType)\(shape) has too many elements")
    }
  }

  /// Whether the array at the start of `bytes` holds texts or Python objects, which no network reads.
  /// - Parameter bytes: the first bytes of an `.npy` file; false if they do not show it.
  static func holdsTextsOrObjects(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard let end = try? byteCount(prefix: bytes) else { return false }
    let start = bytes[6] == 1 ? 10 : 12
    guard start < bytes.count else { return false }
    let text = UnsafeRawBufferPointer(rebasing: bytes[start..<min(end, bytes.count)])
    var tokens = Tokenizer(text, at: start)
    while let token = try? tokens.next().token, token != .end {
      guard token == .string("descr"), (try? tokens.skip(.punctuation(":"))) == true else {
        continue
      }
      guard case .string(let code) = try? tokens.next().token else { return false }
      return code.drop { "<>=|".contains($0) }.first.map { "OSaU".contains($0) } ?? false
    }
    return false
  }

  /// A header of a row-major, little-endian array; ``dataOffset`` is 0 until it is encoded.
  public init(_ elementType: ElementType, _ shape: [Int]) {
    self.elementType = elementType
    self.shape = shape
    byteOrder = .little
    order = .rowMajor
    dataOffset = 0
  }

  /// The header as NumPy writes it, version 1.0: padded with spaces, so that the elements begin at
  /// a multiple of 64 bytes.
  /// - Throws: `unsupported` for an element type that NumPy does not have (bfloat16), or for a
  ///   header over 65,535 bytes.
  public func encoded() throws(QMError) -> [UInt8] {
    guard let descriptor = NPYHeader.descriptor(of: elementType, byteOrder) else {
      throw .unsupported("NumPy has no \(elementType); convert the tensor to float32 first")
    }
    let extents = shape.map(String.init).joined(separator: ", ") + (shape.count == 1 ? "," : "")
    let isColumnMajor = order == .columnMajor ? "True" : "False"
    let text =
      "{'descr': '\(descriptor)', 'fortran_order': \(isColumnMajor), 'shape': (\(extents)), }"
    let length = (10 + text.utf8.count + 1 + 63) / 64 * 64 - 10
    guard length <= 0xffff else {
      throw .unsupported("\(shape.count) axes are too many for the header of an .npy file")
    }
    var bytes = NPYHeader.magic + [1, 0, UInt8(length & 0xff), UInt8(length >> 8)]
    bytes += text.utf8
    bytes += Array(repeating: UInt8(ascii: " "), count: length - text.utf8.count - 1)
    bytes.append(UInt8(ascii: "\n"))
    return bytes
  }

  private static func descriptor(of type: ElementType, _ byteOrder: ByteOrder) -> String? {
    let code: String
    switch type {
    case .bool: return "|b1"
    case .int8: return "|i1"
    case .uint8: return "|u1"
    case .int16: code = "i2"
    case .int32: code = "i4"
    case .int64: code = "i8"
    case .uint16: code = "u2"
    case .uint32: code = "u4"
    case .uint64: code = "u8"
    case .float16: code = "f2"
    case .float32: code = "f4"
    case .float64: code = "f8"
    case .bfloat16: return nil
    }
    return (byteOrder == .little ? "<" : ">") + code
  }
}

/// The Python tokens that a header may contain.
private enum Token: Equatable, CustomStringConvertible {
  case punctuation(Unicode.Scalar)
  case string(String)
  case integer(Int)
  case word(String)
  case end

  var description: String {
    switch self {
    case .punctuation(let character): "'\(character)'"
    case .string(let text): "the string '\(text.abbreviated)'"
    case .integer(let value): "the number \(value)"
    case .word(let word): "'\(word.abbreviated)'"
    case .end: "the end of the header"
    }
  }
}

/// Splits the text of a header into tokens. Errors have offsets in the file as their context.
private struct Tokenizer {
  private let bytes: UnsafeRawBufferPointer
  /// Offset of `bytes` in the file.
  private let start: Int
  private var position = 0

  init(_ bytes: UnsafeRawBufferPointer, at start: Int) {
    self.bytes = bytes
    self.start = start
  }

  /// The next token and its offset in the file.
  mutating func next() throws(QMError) -> (token: Token, offset: Int) {
    while position < bytes.count, isSpace(bytes[position]) { position += 1 }
    let first = position
    let offset = start + first
    guard first < bytes.count else { return (.end, offset) }
    let byte = bytes[first]
    position += 1
    switch byte {
    case UInt8(ascii: "'"), UInt8(ascii: "\""):
      while position < bytes.count, bytes[position] != byte {
        // No key and no type needs an escape or a character beyond ASCII.
        guard (0x20...0x7e).contains(bytes[position]), bytes[position] != UInt8(ascii: "\\")
        else {
          throw malformed(
            start + position, "byte \(bytes[position]) in a string; expected plain ASCII")
        }
        position += 1
      }
      guard position < bytes.count else { throw malformed(offset, "the string does not end") }
      position += 1
      return (.string(text(first + 1, position - 1)), offset)
    case UInt8(ascii: "0")...UInt8(ascii: "9"):
      return (.integer(try integer(from: first)), offset)
    case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"):
      while position < bytes.count, isLetterOrDigit(bytes[position]) { position += 1 }
      return (.word(text(first, position)), offset)
    case 0x21...0x7e:
      return (.punctuation(Unicode.Scalar(byte)), offset)
    default:
      throw malformed(offset, "byte \(byte) in the header; expected plain ASCII")
    }
  }

  private mutating func integer(from first: Int) throws(QMError) -> Int {
    while position < bytes.count, isDigit(bytes[position]) { position += 1 }
    let digits = text(first, position)
    // Python 2 wrote long integers with a trailing L.
    if position < bytes.count, bytes[position] == UInt8(ascii: "L") { position += 1 }
    guard position == bytes.count || !isLetterOrDigit(bytes[position]),
      digits.utf8.count == 1 || digits.utf8.first != UInt8(ascii: "0")
    else { throw malformed(start + first, "not a decimal number") }
    guard let value = Int(digits) else {
      throw malformed(start + first, "the number \(digits.abbreviated) is over 2^63 − 1")
    }
    return value
  }

  private func text(_ first: Int, _ end: Int) -> String {
    String(decoding: bytes[first..<end], as: UTF8.self)
  }

  private func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0d).contains(byte) }

  private func isDigit(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
  }

  private func isLetterOrDigit(_ byte: UInt8) -> Bool {
    isDigit(byte) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
      || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || byte == UInt8(ascii: "_")
  }

  /// Consumes the next token if it is `token`.
  /// - Returns: whether it is.
  mutating func skip(_ token: Token) throws(QMError) -> Bool {
    let before = position
    if try next().token == token { return true }
    position = before
    return false
  }

  /// Consumes the next token.
  /// - Throws: `malformed` with `message` if the token is another than `token`.
  mutating func expect(_ token: Token, _ message: String) throws(QMError) {
    let found = try next()
    guard found.token == token else {
      throw malformed(found.offset, "\(message): expected \(token), found \(found.token)")
    }
  }

  mutating func expectEnd() throws(QMError) {
    let found = try next()
    guard found.token == .end else {
      throw malformed(found.offset, "found \(found.token) after the dictionary")
    }
  }

  mutating func order() throws(QMError) -> NPYHeader.Order {
    let found = try next()
    switch found.token {
    case .word("True"): return .columnMajor
    case .word("False"): return .rowMajor
    default:
      throw malformed(
        found.offset, "fortran_order is \(found.token); expected True or False")
    }
  }

  mutating func shape() throws(QMError) -> [Int] {
    try expect(.punctuation("("), "shape is not a tuple")
    var shape: [Int] = []
    while true {
      if try skip(.punctuation(")")) { return shape }
      let found = try next()
      guard case .integer(let extent) = found.token else {
        throw malformed(
          found.offset,
          "axis \(shape.count) of the shape: expected a whole number, found \(found.token)")
      }
      guard shape.count < NPYHeader.maximumRank else {
        throw QMError(
          .unsupported, "the array has more than \(NPYHeader.maximumRank) axes",
          context: [.offset(found.offset)])
      }
      shape.append(extent)
      if try skip(.punctuation(",")) { continue }
      let end = try next()
      guard end.token == .punctuation(")") else {
        throw malformed(
          end.offset, "after extent \(extent) of the shape: expected ',', found \(end.token)")
      }
      // (3) is a number in Python, not a tuple; NumPy refuses it too.
      guard shape.count > 1 else {
        throw malformed(
          end.offset, "shape is a number in parentheses; one axis is written (\(extent),)")
      }
      return shape
    }
  }

  mutating func elementType() throws(QMError) -> (ElementType, NPYHeader.ByteOrder) {
    let found = try next()
    let readable =
      "bool, integers of 8 to 64 bits, bfloat16 (V2), float16, float32 and float64 are read"
    guard case .string(let text) = found.token else {
      if found.token == .punctuation("[") {
        throw QMError(
          .unsupported, "structured element type; \(readable); save each field as its own array",
          context: [.offset(found.offset)])
      }
      throw malformed(found.offset, "descr is \(found.token); expected a type such as '<f4'")
    }
    var code = text[...]
    var byteOrder = NPYHeader.ByteOrder.little
    var isMarkedAsBytes = false
    switch text.first {
    // '=' and no mark mean the machine's byte order; all supported machines are little-endian.
    case "<", "=": code = text.dropFirst()
    case ">":
      code = text.dropFirst()
      byteOrder = .big
    case "|":
      code = text.dropFirst()
      isMarkedAsBytes = true
    default: break
    }
    let type: ElementType
    switch code {
    case "b1", "?": type = .bool
    case "i1": type = .int8
    case "u1": type = .uint8
    case "i2": type = .int16
    case "u2": type = .uint16
    case "i4": type = .int32
    case "u4": type = .uint32
    case "i8": type = .int64
    case "u8": type = .uint64
    case "f2": type = .float16
    case "f4": type = .float32
    case "f8": type = .float64
    // NumPy has no bfloat16: the arrays of ml_dtypes, which JAX and MLX use, are saved as two bytes
    // without a type, with or without a byte order.
    case "V2": return (.bfloat16, byteOrder)
    case "O":
      throw QMError(
        .unsupported, "Python objects, which are never loaded; \(readable); save numbers instead",
        context: [.offset(found.offset)])
    default:
      throw QMError(
        .unsupported, "element type '\(text.abbreviated)'; \(readable)",
        context: [.offset(found.offset)])
    }
    if type.byteCount == 1 { return (type, .little) }
    guard !isMarkedAsBytes else {
      throw malformed(
        found.offset, "descr '\(text)' does not state a byte order; expected '<' or '>' before it")
    }
    return (type, byteOrder)
  }
}
