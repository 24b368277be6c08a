import QMTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

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
  func read(at offset: Int, count: Int) throws(QMError) -> Buffer {
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
    return buffer
  }
}
