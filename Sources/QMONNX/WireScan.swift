import QMTensor

/// Limits of what the reader accepts. Each bounds time or memory that a small file could otherwise
/// demand; the defaults accept every network that runs on one machine.
public struct ONNXLimits: Hashable, Sendable {
  /// Nesting depth of messages, and of calls of functions that the file defines. protobuf-c and the
  /// scan recurse once per level; a graph within a node takes three levels.
  public var depth = 64
  /// Number of all messages: nodes, attributes, tensors, dimensions, ….
  public var messages = 1_000_000
  /// Nodes of the network, with those of functions and loops in place of each call and iteration.
  public var nodes = 1_000_000
  /// Bytes that protobuf-c reads: the file without the elements of tensors.
  public var skeletonBytes = 128 << 20
  /// Bytes that protobuf-c may allocate, and names of values when functions are put in place of
  /// their calls.
  public var messageBytes = 384 << 20
  /// Number of inputs of the graph, and of outputs.
  public var ports = 4096
  /// Axes of a tensor.
  public var axes = 64
  /// Bytes of one value, dynamic axes counted as 1.
  public var valueBytes = 16 << 30
  /// Bytes of all constants that are computed while reading, in addition to four times the bytes of
  /// the constants in the file.
  public var foldedBytes = 256 << 20

  /// The defaults.
  public init() {}
}

/// Walks the wire format of an ONNX file before protobuf-c sees it.
///
/// protobuf-c 1.4.1 recurses without a limit, and its structs take a hundred times the memory of an
/// empty message. The scan bounds depth, counts and lengths; it leaves out every field that
/// `schema/onnx.proto` does not have; it joins a message that is given in several pieces (protobuf
/// merges messages by concatenating their bytes); and it replaces the elements of tensors by their
/// position in the file. The result, the *skeleton*, is small and well formed.
struct WireScan {
  enum Message {
    case model, graph, node, attribute, tensor, sparseTensor, valueInfo
    case type, tensorType, sequenceType, mapType, shape, dimension
    case operatorSet, function, entry
  }

  enum WireType: UInt8 {
    case varint = 0
    case fixed64 = 1
    case bytes = 2
    case fixed32 = 5
  }

  /// What a field holds, and what the scan does with it.
  enum Content {
    /// One number or string, copied; if repeated, protobuf takes the last one.
    case scalar(WireType)
    /// Numbers, copied, packed or each with its tag.
    case scalars(WireType)
    /// Elements of a tensor: only their position is copied.
    case elements(WireType)
    /// Any number of messages, each copied.
    case messages(Message)
    /// At most one message; several are joined.
    case message(Message)
    /// A message that is checked, then left out.
    case walked(Message)
    /// An error; the text names the field.
    case unsupported(String)
  }

  /// Number of the field that the scan adds to nodes and tensors: positions in the file.
  static let ownField = 1000

  /// What a field of `message` holds; nil for a field that is left out.
  static func content(of field: Int, in message: Message) -> Content? {
    switch (message, field) {
    case (.model, 1): .scalar(.varint)
    case (.model, 2), (.model, 3): .scalar(.bytes)
    case (.model, 7): .message(.graph)
    case (.model, 8): .messages(.operatorSet)
    case (.model, 25): .messages(.function)

    case (.graph, 1): .messages(.node)
    case (.graph, 2): .scalar(.bytes)
    case (.graph, 5): .messages(.tensor)
    case (.graph, 11), (.graph, 12): .messages(.valueInfo)
    case (.graph, 13): .walked(.valueInfo)
    case (.graph, 15): .messages(.sparseTensor)

    case (.node, 1), (.node, 2), (.node, 3), (.node, 4), (.node, 7), (.node, 8): .scalar(.bytes)
    case (.node, 5): .messages(.attribute)

    case (.attribute, 1), (.attribute, 4), (.attribute, 9), (.attribute, 21): .scalar(.bytes)
    case (.attribute, 2): .scalar(.fixed32)
    case (.attribute, 3), (.attribute, 20): .scalar(.varint)
    case (.attribute, 5): .message(.tensor)
    case (.attribute, 6): .message(.graph)
    case (.attribute, 7): .scalars(.fixed32)
    case (.attribute, 8): .scalars(.varint)
    case (.attribute, 10): .walked(.tensor)
    case (.attribute, 11): .walked(.graph)
    case (.attribute, 14), (.attribute, 15): .walked(.type)

    case (.tensor, 1): .scalars(.varint)
    case (.tensor, 2), (.tensor, 14): .scalar(.varint)
    case (.tensor, 3): .unsupported("a tensor in segments")
    case (.tensor, 4): .elements(.fixed32)
    case (.tensor, 5), (.tensor, 7), (.tensor, 11): .elements(.varint)
    case (.tensor, 9): .elements(.bytes)
    case (.tensor, 10): .elements(.fixed64)
    case (.tensor, 8): .scalar(.bytes)
    case (.tensor, 13): .messages(.entry)

    case (.valueInfo, 1): .scalar(.bytes)
    case (.valueInfo, 2): .message(.type)
    case (.type, 1): .message(.tensorType)
    case (.type, 4), (.type, 9): .walked(.sequenceType)
    case (.type, 5): .walked(.mapType)
    case (.type, 8): .walked(.tensorType)
    case (.sequenceType, 1): .walked(.type)
    case (.mapType, 2): .walked(.type)
    case (.tensorType, 1): .scalar(.varint)
    case (.tensorType, 2): .message(.shape)
    case (.shape, 1): .messages(.dimension)
    case (.dimension, 1): .scalar(.varint)
    case (.dimension, 2): .scalar(.bytes)

    case (.operatorSet, 1): .scalar(.bytes)
    case (.operatorSet, 2): .scalar(.varint)
    case (.function, 1), (.function, 4), (.function, 5), (.function, 6), (.function, 10),
      (.function, 13):
      .scalar(.bytes)
    case (.function, 7): .messages(.node)
    case (.function, 9): .messages(.operatorSet)
    case (.function, 11): .messages(.attribute)
    case (.entry, 1), (.entry, 2): .scalar(.bytes)
    default: nil
    }
  }

  private struct Field {
    let number: Int
    let type: WireType
    /// Where the tag begins.
    let start: Int
    /// The payload, without tag and length.
    let content: Range<Int>
  }

  /// A contiguous range of a tensor's elements in the file.
  struct Piece {
    let field: Int
    /// Whether each element has its own tag; the tags are part of `range`.
    let isTagged: Bool
    var range: Range<Int>
  }

  private let bytes: UnsafeRawBufferPointer
  private let limits: ONNXLimits
  private var skeleton: [UInt8] = []
  private var messageCount = 0

  /// The skeleton of the message in `bytes`.
  /// - Throws: `malformed` or `unsupported`, with the byte offset as context.
  static func skeleton(
    of bytes: UnsafeRawBufferPointer, as message: Message, limits: ONNXLimits
  ) throws(QMError) -> [UInt8] {
    var scan = WireScan(bytes: bytes, limits: limits)
    try scan.copy(message, [0..<bytes.count], depth: 1, isKept: true)
    return scan.skeleton
  }

  private init(bytes: UnsafeRawBufferPointer, limits: ONNXLimits) {
    self.bytes = bytes
    self.limits = limits
  }

  /// Walks one message, given in one piece or several, and writes its fields if it `isKept`.
  private mutating func copy(
    _ message: Message, _ pieces: [Range<Int>], depth: Int, isKept: Bool
  ) throws(QMError) {
    let start = pieces[0].lowerBound
    guard depth <= limits.depth else {
      throw .unsupported("messages nest more than \(limits.depth) deep").within(.offset(start))
    }
    messageCount += 1
    guard messageCount <= limits.messages else {
      throw .unsupported("more than \(limits.messages) protobuf messages").within(.offset(start))
    }
    if isKept && message == .node {
      appendTag(Self.ownField, .fixed64)
      append(fixed64: start)
    }
    var elements: [Piece] = []
    // raw_data is a singular field: the last occurrence counts.
    var raw: Piece?
    // Singular messages that were joined already, one bit per field number.
    var joined: UInt64 = 0
    for (index, piece) in pieces.enumerated() {
      var offset = piece.lowerBound
      while offset < piece.upperBound {
        let field = try next(&offset, end: piece.upperBound)
        guard let content = Self.content(of: field.number, in: message) else { continue }
        switch content {
        case .scalar(let type):
          try expect(type, of: field, in: message)
          if isKept { try keep(field.start..<offset) }
        case .scalars(let type):
          if field.type != .bytes { try expect(type, of: field, in: message) }
          if isKept { try keep(field.start..<offset) }
        case .elements(let type):
          if field.type != .bytes { try expect(type, of: field, in: message) }
          if field.number == TensorElements.raw {
            raw = Piece(field: field.number, isTagged: false, range: field.content)
          } else if isKept {
            Self.collect(field, end: offset, into: &elements)
          }
        case .messages(let inner):
          try expect(.bytes, of: field, in: message)
          try copy(inner, [field.content], number: field.number, depth: depth, isKept: isKept)
        case .walked(let inner):
          try expect(.bytes, of: field, in: message)
          try copy(inner, [field.content], depth: depth + 1, isKept: false)
        case .message(let inner):
          try expect(.bytes, of: field, in: message)
          guard joined & (1 << UInt64(field.number)) == 0 else { continue }
          joined |= 1 << UInt64(field.number)
          var all = [field.content]
          try findMore(of: field.number, from: offset, in: pieces[index...], into: &all)
          try copy(inner, all, number: field.number, depth: depth, isKept: isKept)
        case .unsupported(let what):
          throw .unsupported("\(what) cannot be read").within(.offset(field.start))
        }
      }
    }
    if let raw, !raw.range.isEmpty { elements.append(raw) }
    if isKept && !elements.isEmpty {
      try reserve(32 * elements.count, at: start)
      appendTag(Self.ownField, .bytes)
      append(varint: UInt64(32 * elements.count))
      for element in elements {
        append(fixed64: element.field)
        append(fixed64: element.isTagged ? 1 : 0)
        append(fixed64: element.range.lowerBound)
        append(fixed64: element.range.count)
      }
    }
  }

  /// Writes a message as field `number` of the enclosing message.
  private mutating func copy(
    _ message: Message, _ pieces: [Range<Int>], number: Int, depth: Int, isKept: Bool
  ) throws(QMError) {
    guard isKept else { return try copy(message, pieces, depth: depth + 1, isKept: false) }
    appendTag(number, .bytes)
    // The length is known only afterwards, so a varint padded to four bytes (below 2^28) is
    // reserved.
    let place = skeleton.count
    skeleton.append(contentsOf: [0x80, 0x80, 0x80, 0])
    try copy(message, pieces, depth: depth + 1, isKept: true)
    var length = skeleton.count - place - 4
    for index in 0..<4 {
      skeleton[place + index] = UInt8(length & 0x7f) | (index < 3 ? 0x80 : 0)
      length >>= 7
    }
    try reserve(0, at: pieces[0].lowerBound)
  }

  /// Further occurrences of a field in the rest of a message.
  private func findMore(
    of number: Int, from start: Int, in pieces: ArraySlice<Range<Int>>,
    into found: inout [Range<Int>]
  ) throws(QMError) {
    for (index, piece) in pieces.enumerated() {
      var offset = index == 0 ? start : piece.lowerBound
      while offset < piece.upperBound {
        let field = try next(&offset, end: piece.upperBound)
        if field.number == number && field.type == .bytes { found.append(field.content) }
      }
    }
  }

  private static func collect(_ field: Field, end: Int, into elements: inout [Piece]) {
    let isTagged = field.type != .bytes
    guard !field.content.isEmpty else { return }
    let range = isTagged ? field.start..<end : field.content
    if isTagged, let last = elements.last, last.isTagged, last.field == field.number,
      last.range.upperBound == range.lowerBound
    {
      elements[elements.count - 1].range = last.range.lowerBound..<end
    } else {
      elements.append(Piece(field: field.number, isTagged: isTagged, range: range))
    }
  }

  // MARK: Reading

  /// Reads the field at `offset` and advances `offset`.
  private func next(_ offset: inout Int, end: Int) throws(QMError) -> Field {
    let start = offset
    let tag = try Self.varint(in: bytes, &offset, end: end)
    let number = tag >> 3
    guard (1..<(1 << 29)).contains(number) else {
      throw .malformed(
        "found field number \(number), expected 1 to 2^29 - 1; not an ONNX file, or a damaged one"
      ).within(.offset(start))
    }
    guard let type = WireType(rawValue: UInt8(tag & 7)) else {
      throw .malformed(
        "wire type \(tag & 7), which ONNX does not use; not an ONNX file, or a damaged one"
      ).within(.offset(start))
    }
    let length: Int
    let content: Int
    switch type {
    case .varint:
      content = offset
      _ = try Self.varint(in: bytes, &offset, end: end)
      return Field(number: Int(number), type: type, start: start, content: content..<offset)
    case .fixed32: length = 4
    case .fixed64: length = 8
    case .bytes:
      let given = try Self.varint(in: bytes, &offset, end: end)
      guard given <= UInt64(end - offset) else {
        throw .malformed(
          "a field of \(given) bytes, but only \(end - offset) are left; the file is cut off or damaged"
        ).within(.offset(start))
      }
      length = Int(given)
    }
    guard length <= end - offset else {
      throw .malformed(
        "a field of \(length) bytes, but only \(end - offset) are left; the file is cut off or damaged"
      ).within(.offset(start))
    }
    content = offset
    offset += length
    return Field(number: Int(number), type: type, start: start, content: content..<offset)
  }

  /// Reads the varint at `offset` and advances `offset`.
  static func varint(
    in bytes: UnsafeRawBufferPointer, _ offset: inout Int, end: Int
  ) throws(QMError) -> UInt64 {
    var value: UInt64 = 0
    let start = offset
    for shift in stride(from: UInt64(0), to: 70, by: 7) {
      guard offset < end else {
        throw .malformed("a number is cut off; the file is cut off or damaged").within(
          .offset(start))
      }
      let byte = bytes[offset]
      offset += 1
      value |= UInt64(byte & 0x7f) << shift
      if byte < 0x80 { return value }
    }
    throw .malformed("a number of more than ten bytes; not an ONNX file, or a damaged one").within(
      .offset(start))
  }

  private func expect(_ type: WireType, of field: Field, in message: Message) throws(QMError) {
    guard field.type == type else {
      throw .malformed(
        "field \(field.number) of \(message) is written as \(field.type), expected \(type); not an ONNX file, or a damaged one"
      ).within(.offset(field.start))
    }
  }

  // MARK: Writing

  private func reserve(_ count: Int, at offset: Int) throws(QMError) {
    // Lengths are written in four bytes.
    let limit = min(limits.skeletonBytes, (1 << 28) - 1)
    guard count <= limit - skeleton.count else {
      throw .unsupported("more than \(limit) bytes in addition to the elements of tensors").within(
        .offset(offset))
    }
  }

  private mutating func keep(_ range: Range<Int>) throws(QMError) {
    try reserve(range.count, at: range.lowerBound)
    skeleton.append(contentsOf: UnsafeRawBufferPointer(rebasing: bytes[range]))
  }

  private mutating func appendTag(_ number: Int, _ type: WireType) {
    append(varint: UInt64(number) << 3 | UInt64(type.rawValue))
  }

  private mutating func append(varint value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      skeleton.append(UInt8(rest & 0x7f) | 0x80)
      rest >>= 7
    }
    skeleton.append(UInt8(rest))
  }

  private mutating func append(fixed64 value: Int) {
    for shift in stride(from: 0, to: 64, by: 8) {
      skeleton.append(UInt8(truncatingIfNeeded: value >> shift))
    }
  }
}

/// Fields of TensorProto that hold elements.
enum TensorElements {
  static let float = 4
  static let int32 = 5
  static let int64 = 7
  static let raw = 9
  static let double = 10
  static let uint64 = 11
}
