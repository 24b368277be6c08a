import QMTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A part of a buffer. Numbers in it are little-endian.
struct Bytes: Sendable {
  let buffer: Buffer
  let range: Range<Int>

  var count: Int { range.count }

  /// The bytes, which stay where they are until `body` returns.
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

/// A regular file that is read piece by piece.
///
/// A mapping would save a copy, but a file that shrinks while it is mapped kills the process.
final class FileBytes: Sendable {
  let count: Int
  private let descriptor: Int32

  /// - Throws: `cannotOpen`.
  init(path: String) throws(QMError) {
    // Without O_NONBLOCK a pipe would wait here for a writer.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw .cannotOpen(String(cString: strerror(errno))) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      let reason = errno
      close(descriptor)
      throw .cannotOpen(String(cString: strerror(reason)))
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      throw .cannotOpen("not a regular file")
    }
    self.descriptor = descriptor
    count = Int(status.st_size)
  }

  deinit { close(descriptor) }

  /// `count` bytes from `offset` on, at the start of a buffer of their own.
  /// The range must lie within the file's size.
  /// - Throws: `cannotOpen` if reading fails, `malformed` if the file has become shorter.
  func read(at offset: Int, count: Int) throws(QMError) -> Bytes {
    precondition(offset >= 0 && count >= 0 && count <= self.count - offset)
    let buffer = try Buffer.allocate(byteCount: count)
    var done = 0
    while done < count {
      // Linux reads at most 0x7ffff000 bytes in one call; macOS refuses more than Int32.max.
      let wanted = min(count - done, 1 << 30)
      let read = pread(descriptor, buffer.base + done, wanted, off_t(offset + done))
      if read < 0 {
        if errno == EINTR { continue }
        throw .cannotOpen(String(cString: strerror(errno)))
      }
      guard read > 0 else {
        throw QMError(
          .malformed, "the file became shorter while it was read; try again",
          context: [.offset(offset + done)])
      }
      done += read
    }
    return Bytes(buffer: buffer, range: 0..<count)
  }
}
