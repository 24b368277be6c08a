#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A regular file that is read in parts, so that its bytes need not all be in memory.
///
/// A mapping would save a copy, but a file that shrinks while it is mapped kills the process.
package final class OpenFile: Sendable {
  package let count: Int
  let descriptor: Int32

  /// - Throws: `cannotOpen`.
  package init(path: String) throws(QMError) {
    // Without O_NONBLOCK a pipe would wait here for a writer.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw .cannotOpen(String(cString: strerror(errno))) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      let reason = String(cString: strerror(errno))
      close(descriptor)
      throw .cannotOpen(reason)
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      throw .cannotOpen("not a regular file")
    }
    self.descriptor = descriptor
    count = Int(status.st_size)
  }

  deinit { close(descriptor) }

  /// Part of the file, which must lie within its size, in memory of its own.
  /// - Throws: `cannotOpen`; `malformed` if the file has become shorter; `outOfMemory`.
  package func bytes(_ range: Range<Int>) throws(QMError) -> Buffer {
    let buffer = try Buffer.pages(byteCount: range.count)
    try read(
      range.lowerBound, into: UnsafeMutableRawBufferPointer(start: buffer.base, count: range.count))
    return buffer
  }

  /// Fills `bytes` with the file from `offset` on, which must lie within its size.
  /// - Throws: `cannotOpen`; `malformed` if the file has become shorter.
  package func read(_ offset: Int, into bytes: UnsafeMutableRawBufferPointer) throws(QMError) {
    precondition(offset >= 0 && bytes.count <= count - offset)
    var done = 0
    while done < bytes.count {
      // Linux reads at most 0x7ffff000 bytes in one call; macOS refuses more than Int32.max.
      let wanted = min(bytes.count - done, 1 << 30)
      let taken = pread(descriptor, bytes.baseAddress! + done, wanted, off_t(offset + done))
      if taken < 0 {
        if errno == EINTR { continue }
        throw .cannotOpen(String(cString: strerror(errno)))
      }
      guard taken > 0 else {
        throw QMError(
          .malformed, "the file became shorter while it was read; try again",
          context: [.offset(offset + done)])
      }
      done += taken
    }
  }
}
