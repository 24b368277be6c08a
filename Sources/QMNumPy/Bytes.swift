import QMTensor

/// Part of a buffer, read as little-endian numbers. Offsets count from the start of the part.
struct Bytes: Sendable {
  let buffer: Buffer
  let range: Range<Int>

  var count: Int { range.count }

  /// Calls `body` with the bytes; they are valid during the call only.
  func withBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    defer { withExtendedLifetime(buffer) {} }
    return try body(UnsafeRawBufferPointer(rebasing: buffer.bytes[range]))
  }

  func part(_ part: Range<Int>) -> Bytes {
    precondition(part.lowerBound >= 0 && part.upperBound <= count)
    let start = range.lowerBound + part.lowerBound
    return Bytes(buffer: buffer, range: start..<start + part.count)
  }

  func uint16(_ offset: Int) -> Int { Int(load(offset, as: UInt16.self)) }
  func uint32(_ offset: Int) -> UInt32 { load(offset, as: UInt32.self) }
  func uint64(_ offset: Int) -> UInt64 { load(offset, as: UInt64.self) }

  private func load<Number: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, as: Number.Type)
    -> Number
  {
    withBytes { (bytes) in
      bytes.loadUnaligned(fromByteOffset: offset, as: Number.self).littleEndian
    }
  }
}

extension FileBytes {
  /// `count` bytes from `offset` on; the range must lie within the file. Those in memory are not copied.
  func read(at offset: Int, count: Int) throws(QMError) -> Bytes {
    switch self {
    case .memory(let buffer): Bytes(buffer: buffer, range: offset..<offset + count)
    case .file: Bytes(buffer: try copy(offset..<offset + count), range: 0..<count)
    }
  }
}

/// An error with a byte offset as its context.
func malformed(_ offset: Int, _ message: String) -> QMError {
  QMError(.malformed, message, context: [.offset(offset)])
}

/// An error with a byte offset as its context.
func unsupported(_ offset: Int, _ message: String) -> QMError {
  QMError(.unsupported, message, context: [.offset(offset)])
}
