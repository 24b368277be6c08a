import Synchronization

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

  private enum Ownership {
    /// Where the block of the heap begins.
    case heap(UnsafeMutableRawPointer)
    case pages
    case mapping
  }

  /// The first byte. It may be written only by whoever allocated the buffer, and not in a mapping.
  public let base: UnsafeMutableRawPointer
  /// Size in bytes.
  public let count: Int
  private let ownership: Ownership
  /// Bytes at the start that went back to the system.
  private var discardedByteCount = 0

  private init(base: UnsafeMutableRawPointer, count: Int, ownership: Ownership) {
    self.base = base
    self.count = count
    self.ownership = ownership
    Buffer.account(ownedByteCount)
  }

  deinit {
    Buffer.account(-ownedByteCount)
    switch ownership {
    case .heap(let block): free(block)
    case .pages, .mapping: munmap(base, count)
    }
  }

  /// Memory that the buffer alone takes: that of a mapping is the file's, or none.
  package var ownedByteCount: Int { isWritable ? count - discardedByteCount : 0 }

  private static let held = Atomic(0)
  private static let mostHeld = Atomic(0)

  /// Memory of all buffers of the process, in bytes, without mappings.
  package static var heldByteCount: Int { held.load(ordering: .relaxed) }
  /// The most that ``heldByteCount`` ever was.
  package static var mostHeldByteCount: Int { mostHeld.load(ordering: .relaxed) }

  private static func account(_ byteCount: Int) {
    guard byteCount != 0 else { return }
    let now = held.add(byteCount, ordering: .relaxed).newValue
    if byteCount > 0 { mostHeld.max(now, ordering: .relaxed) }
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
    try allocate(byteCount: byteCount) { calloc(1, $0) }
  }

  /// Aligned here: a heap that is asked for aligned blocks does not find the ones it was given
  /// back, and grows.
  /// - Parameter block: memory from the heap of a size in bytes.
  private static func allocate(
    byteCount: Int, _ block: (Int) -> UnsafeMutableRawPointer?
  ) throws(QMError) -> Buffer {
    precondition(byteCount >= 0)
    guard byteCount <= physicalByteCount, byteCount < .max - alignment,
      let block = block(byteCount + alignment)
    else { throw .outOfMemory(byteCount: byteCount) }
    return Buffer(
      base: block.alignedUp(toMultipleOf: alignment), count: byteCount, ownership: .heap(block))
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

  /// Gives pages in front of `end` back to the system, where the memory is pages: nobody may read
  /// there afterwards. Whoever calls it must be the buffer's only user.
  package func discard(before end: UnsafeRawPointer) {
    guard case .pages = ownership else { return }
    let byteCount =
      (end - UnsafeRawPointer(base)) / Self.discardedPartByteCount
      * Self.discardedPartByteCount
    guard byteCount > discardedByteCount else { return }
    madvise(base + discardedByteCount, byteCount - discardedByteCount, MADV_DONTNEED)
    Buffer.account(discardedByteCount - byteCount)
    discardedByteCount = byteCount
  }

  /// A multiple of every system's page.
  private static let discardedPartByteCount = 1 << 16

  /// Zeros that take no memory, for reading only.
  /// - Throws: `outOfMemory`.
  package static func zeros(byteCount: Int) throws(QMError) -> Buffer {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS
    guard byteCount > 0, byteCount <= physicalByteCount,
      let base = mmap(nil, byteCount, PROT_READ, flags, -1, 0), base != MAP_FAILED
    else { return try allocate(byteCount: byteCount) }
    return Buffer(base: base, count: byteCount, ownership: .mapping)
  }

  /// Memory of any content, aligned to ``alignment``, for what is written before it is read.
  /// - Throws: `outOfMemory`, also for more than the machine has.
  package static func uninitialized(byteCount: Int) throws(QMError) -> Buffer {
    try allocate(byteCount: byteCount) { malloc($0) }
  }

  /// A copy of `bytes`.
  public static func copying(_ bytes: UnsafeRawBufferPointer) throws(QMError) -> Buffer {
    let buffer = try uninitialized(byteCount: bytes.count)
    if let source = bytes.baseAddress { memcpy(buffer.base, source, bytes.count) }
    return buffer
  }

  /// A regular file, mapped read-only. Pages are read when they are touched: a file that is made
  /// shorter meanwhile raises SIGBUS, which a process that must live avoids with
  /// ``reading(path:)``.
  /// - Throws: `cannotOpen`, with the path as context.
  public static func mapping(path: String) throws(QMError) -> Buffer {
    try within(.file(path)) { () throws(QMError) in
      let file = try OpenFile(path: path)
      guard file.count > 0 else { return try allocate(byteCount: 0) }
      guard let base = mmap(nil, file.count, PROT_READ, MAP_PRIVATE, file.descriptor, 0),
        base != MAP_FAILED
      else { throw .cannotOpen(String(cString: strerror(errno))) }
      return Buffer(base: base, count: file.count, ownership: .mapping)
    }
  }

  /// The bytes of a regular file, in memory of their own.
  /// - Throws: `cannotOpen`; `malformed` if the file becomes shorter meanwhile; `outOfMemory`; with
  ///   the path as context.
  public static func reading(path: String) throws(QMError) -> Buffer {
    try within(.file(path)) { () throws(QMError) in
      let file = try OpenFile(path: path)
      return try file.bytes(0..<file.count)
    }
  }

  /// Whether the bytes are equal.
  package func isIdentical(to other: Buffer) -> Bool {
    self === other || (count == other.count && memcmp(base, other.base, count) == 0)
  }

  /// All bytes, valid while the buffer lives.
  public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

  /// Whether the memory may be written: a mapping may not.
  public var isWritable: Bool { if case .mapping = ownership { false } else { true } }
}
