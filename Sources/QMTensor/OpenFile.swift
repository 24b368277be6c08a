#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A regular file that is read in parts, so that its bytes need not all be in memory.
///
/// A mapping would save a copy, but a file that is truncated while it is mapped kills the process.
package final class OpenFile: Sendable {
  /// Size of the file when it was opened, in bytes.
  package let count: Int
  let descriptor: Int32

  /// Opens a regular file for reading.
  /// - Throws: `cannotOpen`.
  package init(path: String) throws(QMError) {
    // Without O_NONBLOCK, opening a named pipe would wait for a writer.
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
      throw .cannotOpen("is not a regular file")
    }
    self.descriptor = descriptor
    count = Int(status.st_size)
  }

  deinit { close(descriptor) }

  /// Part of the file, copied into memory.
  /// - Parameter range: in bytes, within ``count``.
  /// - Throws: `cannotOpen`; `malformed` if the file has been truncated; `outOfMemory`.
  package func bytes(_ range: Range<Int>) throws(QMError) -> Buffer {
    let buffer = try Buffer.pages(byteCount: range.count)
    try read(
      range.lowerBound, into: UnsafeMutableRawBufferPointer(start: buffer.base, count: range.count))
    return buffer
  }

  /// Fills `bytes` with the content of the file from `offset` on; all of it must lie within
  /// ``count``.
  /// - Throws: `cannotOpen`; `malformed` if the file has been truncated.
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
