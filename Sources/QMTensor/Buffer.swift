#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Bytes that several tensors may share: owned memory, or a file mapped for reading.
///
/// Owned memory is written only by whoever allocated it, before it is shared.
public final class Buffer: @unchecked Sendable {
  /// Start of owned memory and of every tensor within an arena, in bytes: one cache line.
  public static let alignment = 64

  private enum Ownership { case heap, pages, mapping }

  public let base: UnsafeMutableRawPointer
  public let count: Int
  private let ownership: Ownership

  private init(base: UnsafeMutableRawPointer, count: Int, ownership: Ownership) {
    self.base = base
    self.count = count
    self.ownership = ownership
  }

  deinit {
    switch ownership {
    case .heap: free(base)
    case .pages, .mapping: munmap(base, count)
    }
  }

  /// Memory of the machine, in bytes. A system that promises more than it has ends the process
  /// when the promise is called in, and not with an error.
  package static let physicalByteCount: Int = {
    let (pages, size) = (sysconf(Int32(_SC_PHYS_PAGES)), sysconf(Int32(_SC_PAGESIZE)))
    guard pages > 0, size > 0 else { return .max }
    let (byteCount, overflow) = Int(pages).multipliedReportingOverflow(by: Int(size))
    return overflow ? .max : byteCount
  }()

  /// Zeroed memory, aligned to ``alignment``.
  /// - Throws: `outOfMemory`, also for more than the machine has.
  public static func allocate(byteCount: Int) throws(QMError) -> Buffer {
    precondition(byteCount >= 0)
    var pointer: UnsafeMutableRawPointer?
    guard byteCount <= physicalByteCount,
      posix_memalign(&pointer, alignment, max(byteCount, 1)) == 0, let pointer
    else {
      throw .outOfMemory(byteCount: byteCount)
    }
    memset(pointer, 0, byteCount)
    return Buffer(base: pointer, count: byteCount, ownership: .heap)
  }

  /// As ``allocate(byteCount:)``, for what is large and lasts: whole pages, which take memory when
  /// they are first written and go back to the system with the buffer.
  package static func pages(byteCount: Int) throws(QMError) -> Buffer {
    guard byteCount >= leastPagesByteCount else { return try allocate(byteCount: byteCount) }
    let flags = MAP_PRIVATE | MAP_ANONYMOUS
    guard byteCount <= physicalByteCount,
      let base = mmap(nil, byteCount, PROT_READ | PROT_WRITE, flags, -1, 0), base != MAP_FAILED
    else { throw .outOfMemory(byteCount: byteCount) }
    return Buffer(base: base, count: byteCount, ownership: .pages)
  }

  /// Less is not worth a call of the system.
  private static let leastPagesByteCount = 1 << 15

  /// Zeros that take no memory, for reading only.
  /// - Throws: `outOfMemory`.
  package static func zeros(byteCount: Int) throws(QMError) -> Buffer {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS
    guard byteCount > 0, byteCount <= physicalByteCount,
      let base = mmap(nil, byteCount, PROT_READ, flags, -1, 0), base != MAP_FAILED
    else { return try allocate(byteCount: byteCount) }
    return Buffer(base: base, count: byteCount, ownership: .mapping)
  }

  /// A copy of `bytes`.
  public static func copying(_ bytes: UnsafeRawBufferPointer) throws(QMError) -> Buffer {
    let buffer = try allocate(byteCount: bytes.count)
    if let source = bytes.baseAddress { memcpy(buffer.base, source, bytes.count) }
    return buffer
  }

  /// A regular file, mapped read-only. Pages are read when they are touched: a file that is made
  /// shorter meanwhile raises SIGBUS, which a process that must live avoids with
  /// ``reading(path:)``.
  /// - Throws: `cannotOpen`, with the path as context.
  public static func mapping(path: String) throws(QMError) -> Buffer {
    try withFile(path) { (descriptor, count) throws(QMError) in
      guard count > 0 else { return try allocate(byteCount: 0) }
      guard let base = mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), base != MAP_FAILED
      else { throw .cannotOpen(String(cString: strerror(errno))) }
      return Buffer(base: base, count: count, ownership: .mapping)
    }
  }

  /// The bytes of a regular file, in memory of their own.
  /// - Throws: `cannotOpen`; `malformed` if the file becomes shorter meanwhile; `outOfMemory`; with
  ///   the path as context.
  public static func reading(path: String) throws(QMError) -> Buffer {
    try withFile(path) { (descriptor, count) throws(QMError) in
      let buffer = try allocate(byteCount: count)
      try read(descriptor, from: 0, into: buffer)
      return buffer
    }
  }

  /// Fills `buffer` with the bytes of a file from `offset` on.
  fileprivate static func read(
    _ descriptor: Int32, from offset: Int, into buffer: Buffer
  ) throws(QMError) {
    var done = 0
    while done < buffer.count {
      // Linux reads at most 0x7ffff000 bytes in one call; macOS refuses more than Int32.max.
      let taken = pread(
        descriptor, buffer.base + done, min(buffer.count - done, 1 << 30), off_t(offset + done))
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

  /// - Parameter body: gets an open file and its size in bytes.
  private static func withFile(
    _ path: String, _ body: (_ descriptor: Int32, _ count: Int) throws(QMError) -> Buffer
  ) throws(QMError) -> Buffer {
    let (descriptor, count) = try opened(path)
    defer { close(descriptor) }
    return try within(.file(path)) { () throws(QMError) in try body(descriptor, count) }
  }

  /// A regular file, open for reading, and its size in bytes.
  fileprivate static func opened(_ path: String) throws(QMError) -> (descriptor: Int32, count: Int) {
    try within(.file(path)) { () throws(QMError) in
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
      return (descriptor, Int(status.st_size))
    }
  }

  public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

  /// Whether the memory may be written: a mapping may not.
  public var isWritable: Bool { ownership != .mapping }
}

/// A regular file that is read in parts, so that its bytes need not all be in memory.
package final class OpenFile: Sendable {
  package let count: Int
  private let descriptor: Int32

  /// - Throws: `cannotOpen`, with the path as context.
  package init(path: String) throws(QMError) {
    (descriptor, count) = try Buffer.opened(path)
  }

  deinit { close(descriptor) }

  /// - Throws: `cannotOpen`; `malformed` if the file has become shorter; `outOfMemory`.
  package func bytes(_ range: Range<Int>) throws(QMError) -> Buffer {
    let buffer = try Buffer.pages(byteCount: range.count)
    try Buffer.read(descriptor, from: range.lowerBound, into: buffer)
    return buffer
  }
}
