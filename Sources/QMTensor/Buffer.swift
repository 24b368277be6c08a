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

  private enum Ownership { case heap, mapping }

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
    case .mapping: munmap(base, count)
    }
  }

  /// Zeroed memory, aligned to ``alignment``.
  /// - Throws: `outOfMemory`.
  public static func allocate(byteCount: Int) throws(QMError) -> Buffer {
    precondition(byteCount >= 0)
    var pointer: UnsafeMutableRawPointer?
    guard posix_memalign(&pointer, alignment, max(byteCount, 1)) == 0, let pointer else {
      throw .outOfMemory(byteCount: byteCount)
    }
    memset(pointer, 0, byteCount)
    return Buffer(base: pointer, count: byteCount, ownership: .heap)
  }

  /// A copy of `bytes`.
  public static func copying(_ bytes: UnsafeRawBufferPointer) throws(QMError) -> Buffer {
    let buffer = try allocate(byteCount: bytes.count)
    if let source = bytes.baseAddress { memcpy(buffer.base, source, bytes.count) }
    return buffer
  }

  /// A regular file, mapped read-only. Pages are read when they are touched.
  /// - Throws: `cannotOpen`, with the path as context.
  public static func mapping(path: String) throws(QMError) -> Buffer {
    try within(.file(path)) { () throws(QMError) -> Buffer in
      let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
      guard descriptor >= 0 else { throw .cannotOpen(String(cString: strerror(errno))) }
      defer { close(descriptor) }
      var status = stat()
      guard fstat(descriptor, &status) == 0 else {
        throw .cannotOpen(String(cString: strerror(errno)))
      }
      guard status.st_mode & S_IFMT == S_IFREG else { throw .cannotOpen("not a regular file") }
      let count = Int(status.st_size)
      guard count > 0 else { return try allocate(byteCount: 0) }
      guard let base = mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), base != MAP_FAILED
      else { throw .cannotOpen(String(cString: strerror(errno))) }
      return Buffer(base: base, count: count, ownership: .mapping)
    }
  }

  public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

  /// Whether the memory may be written: a mapping may not.
  public var isWritable: Bool { ownership == .heap }
}
