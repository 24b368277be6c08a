import QMTensor

/// The header of a `.safetensors` file: an object in JSON with an object for each array,
///
///     {"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …}
///
/// whose offsets count from the end of the header, and, under `__metadata__`, an object of texts, which
/// is checked and left out. This grammar is three levels deep, and nothing else is read.
struct SafetensorsHeader {
  /// What the header states of an array.
  struct Entry {
    let name: String
    let typeName: String
    let shape: [Int]
    let range: Range<Int>

    func moved(by offset: Int) -> Entry {
      Entry(
        name: name, typeName: typeName, shape: shape,
        range: range.lowerBound + offset..<range.upperBound + offset)
    }
  }

  /// The arrays in the order of the header.
  /// - Throws: `malformed`, with the byte offset in the file as context; `unsupported` beyond a limit.
  static func entries(of bytes: Buffer, _ limits: SafetensorsLimits) throws(QMError) -> [Entry] {
    defer { withExtendedLifetime(bytes) {} }
    var scanner = JSONScanner(UnsafeRawBufferPointer(bytes.bytes), offset: 8)
    var entries: [Entry] = []
    try scanner.object { (scanner, name) throws(QMError) in
      if name == "__metadata__" {
        try scanner.object { (scanner, _) throws(QMError) in _ = try scanner.string() }
      } else {
        entries.append(try entry(name, &scanner, limits))
      }
    }
    try scanner.end()
    return entries
  }

  private static func entry(
    _ name: String, _ scanner: inout JSONScanner, _ limits: SafetensorsLimits
  ) throws(QMError) -> Entry {
    var typeName: String?
    var shape: [Int]?
    var offsets: [Int]?
    let place = scanner.place
    try scanner.object { (scanner, key) throws(QMError) in
      switch key {
      case "dtype": typeName = try scanner.string()
      case "shape": shape = try scanner.integers(limit: limits.rank)
      case "data_offsets": offsets = try scanner.integers(limit: 2)
      default:
        throw scanner.failure("key '\(key.abbreviated)', expected dtype, shape or data_offsets")
      }
    }
    guard let typeName, let shape, let offsets, offsets.count == 2, offsets[0] <= offsets[1] else {
      throw QMError(
        .malformed,
        "array '\(name.abbreviated)' has no dtype, no shape, or no data_offsets [begin, end]",
        context: [.offset(place)])
    }
    return Entry(
      name: name, typeName: typeName, shape: shape, range: offsets[0]..<offsets[1])
  }

  /// Checks that the arrays fill `byteCount` bytes, and that each has the size of its shape.
  /// - Throws: `malformed`.
  static func check(_ entries: [Entry], byteCount: Int) throws(QMError) {
    var end = 0
    for entry in entries.sorted(by: {
      ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound)
    }) {
      try within(.entry(entry.name)) { () throws(QMError) in
        guard entry.range.lowerBound == end, entry.range.upperBound <= byteCount else {
          throw .malformed(
            "its bytes are \(entry.range.lowerBound) to \(entry.range.upperBound); expected them to "
              + "begin at \(end), where the array before ends, and to end at \(byteCount) at most: "
              + "the file was cut off or damaged",
            remedies: .changeModel(how: "save or download it again"))
        }
        end = entry.range.upperBound
        guard let type = ElementType(safetensorsName: entry.typeName) else { return }
        let size = try Tensor.byteCount(of: type, entry.shape)
        guard size == entry.range.count else {
          throw .malformed(
            "\(type)\(entry.shape) needs \(size) bytes, its place has \(entry.range.count)")
        }
      }
    }
    guard end == byteCount else {
      throw .malformed("\(byteCount - end) bytes behind the last array; expected none")
    }
  }
}

/// Reads the part of JSON that headers consist of: objects, texts, lists of counts.
private struct JSONScanner {
  private let bytes: UnsafeRawBufferPointer
  private var index = 0
  private let offset: Int

  /// - Parameter offset: of the first byte in the file.
  init(_ bytes: UnsafeRawBufferPointer, offset: Int) {
    self.bytes = bytes
    self.offset = offset
  }

  /// Offset of the next byte in the file.
  var place: Int { offset + index }

  func failure(_ message: String) -> QMError {
    QMError(.malformed, "the header is damaged: \(message)", context: [.offset(place)])
  }

  private var next: UInt8? { index < bytes.count ? bytes[index] : nil }

  private mutating func skipSpace() {
    while let byte = next, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 {
      index += 1
    }
  }

  private mutating func skip(_ character: Character) -> Bool {
    skipSpace()
    guard next == character.asciiValue else { return false }
    index += 1
    return true
  }

  private mutating func expect(_ character: Character) throws(QMError) {
    guard skip(character) else { throw failure("expected '\(character)'") }
  }

  /// Nothing but space is left.
  mutating func end() throws(QMError) {
    skipSpace()
    guard next == nil else { throw failure("something stands behind it") }
  }

  /// An object; `body` reads the value of each key.
  mutating func object(
    _ body: (inout JSONScanner, _ key: String) throws(QMError) -> Void
  ) throws(QMError) {
    try expect("{")
    if skip("}") { return }
    var keys: Set<String> = []
    repeat {
      let key = try string()
      guard keys.insert(key).inserted else {
        throw failure("'\(key.abbreviated)' stands there twice")
      }
      try expect(":")
      try body(&self, key)
    } while skip(",")
    try expect("}")
  }

  /// A list of at most `limit` integers that are not negative.
  mutating func integers(limit: Int) throws(QMError) -> [Int] {
    try expect("[")
    if skip("]") { return [] }
    var integers: [Int] = []
    repeat {
      guard integers.count < limit else { throw failure("more than \(limit) numbers") }
      skipSpace()
      let start = index
      while let byte = next, (0x30...0x39).contains(byte) { index += 1 }
      guard let integer = Int(String(decoding: bytes[start..<index], as: UTF8.self)) else {
        throw failure("expected an integer of 0 to 2⁶³ − 1")
      }
      integers.append(integer)
    } while skip(",")
    try expect("]")
    return integers
  }

  /// A text in quotes, with its escapes resolved.
  mutating func string() throws(QMError) -> String {
    try expect("\"")
    var text: [UInt8] = []
    while let byte = next {
      index += 1
      switch byte {
      case UInt8(ascii: "\""):
        guard let string = String(validating: text, as: UTF8.self) else {
          throw failure("a text is not UTF-8")
        }
        return string
      case UInt8(ascii: "\\"): text += try escaped()
      case 0..<0x20: throw failure("a control character in a text")
      default: text.append(byte)
      }
    }
    throw failure("a text has no end")
  }

  /// What stands behind a backslash.
  private mutating func escaped() throws(QMError) -> [UInt8] {
    guard let byte = next else { throw failure("a text has no end") }
    index += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [byte]
    case UInt8(ascii: "b"): return [8]
    case UInt8(ascii: "f"): return [12]
    case UInt8(ascii: "n"): return [10]
    case UInt8(ascii: "r"): return [13]
    case UInt8(ascii: "t"): return [9]
    case UInt8(ascii: "u"):
      var value = try hexadecimal()
      // Characters beyond 2¹⁶ are a pair of surrogates.
      if (0xd800..<0xdc00).contains(value), next == UInt8(ascii: "\\") {
        index += 1
        guard next == UInt8(ascii: "u") else { throw failure("half a character") }
        index += 1
        let low = try hexadecimal()
        guard (0xdc00..<0xe000).contains(low) else { throw failure("half a character") }
        value = 0x10000 + (value - 0xd800) << 10 + (low - 0xdc00)
      }
      guard let scalar = Unicode.Scalar(value) else { throw failure("half a character") }
      return Array(String(Character(scalar)).utf8)
    default: throw failure("an unknown escape")
    }
  }

  private mutating func hexadecimal() throws(QMError) -> UInt32 {
    guard bytes.count - index >= 4 else { throw failure("a text has no end") }
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard let digit = Character(Unicode.Scalar(bytes[index])).hexDigitValue else {
        throw failure("expected four hexadecimal digits")
      }
      value = value << 4 | UInt32(digit)
      index += 1
    }
    return value
  }
}
