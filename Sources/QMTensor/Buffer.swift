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
/// Only the code that allocates a buffer writes to it, and only before it shares the buffer.
public final class Buffer: @unchecked Sendable {
  /// Alignment of owned memory and of every tensor in an arena, in bytes: one cache line.
  public static let alignment = 64

  private enum Ownership {
    /// The start of the heap block, which lies up to ``alignment`` bytes before `base`.
    case heap(UnsafeMutableRawPointer)
    case pages
    case mapping
  }

  /// The first byte. Only the code that allocated the buffer may write here; a mapping is
  /// read-only.
  public let base: UnsafeMutableRawPointer
  /// Size in bytes.
  public let count: Int
  private let ownership: Ownership
  /// Bytes at the start that were returned to the system.
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

  /// Memory that the buffer itself occupies, in bytes; 0 for a mapping.
  package var ownedByteCount: Int { isWritable ? count - discardedByteCount : 0 }

  private static let held = Atomic(0)
  private static let mostHeld = Atomic(0)

  /// Memory of all buffers in the process, in bytes, without mappings.
  package static var heldByteCount: Int { held.load(ordering: .relaxed) }
  /// The highest value of ``heldByteCount`` so far, in bytes.
  package static var mostHeldByteCount: Int { mostHeld.load(ordering: .relaxed) }

  private static func account(_ byteCount: Int) {
    guard byteCount != 0 else { return }
    let now = held.add(byteCount, ordering: .relaxed).newValue
    if byteCount > 0 { mostHeld.max(now, ordering: .relaxed) }
  }

  /// Physical memory of the machine, in bytes. Larger requests are refused: a system that
  /// overcommits would grant them, and kill the process when it touches the memory.
  package static let physicalByteCount: Int = {
    let (pages, size) = (sysconf(Int32(_SC_PHYS_PAGES)), sysconf(Int32(_SC_PAGESIZE)))
    guard pages > 0, size > 0 else { return .max }
    let (byteCount, overflow) = Int(pages).multipliedReportingOverflow(by: Int(size))
    return overflow ? .max : byteCount
  }()

  /// Zeroed memory, aligned to ``alignment``.
  /// - Throws: `outOfMemory`, also for more than the physical memory.
  public static func allocate(byteCount: Int) throws(QMError) -> Buffer {
    try allocate(byteCount: byteCount) { calloc(1, $0) }
  }

  /// Aligns the block itself: asked for aligned blocks, the heap does not reuse freed ones and
  /// grows.
  /// - Parameter block: allocates a heap block of the given size in bytes.
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

  /// Zeroed memory for large, long-lived content: whole pages, which occupy memory only once they
  /// are written and return to the system with the buffer.
  /// - Throws: `outOfMemory`, also for more than the physical memory.
  package static func pages(byteCount: Int) throws(QMError) -> Buffer {
    guard byteCount >= leastPagesByteCount else { return try allocate(byteCount: byteCount) }
    let flags = MAP_PRIVATE | MAP_ANONYMOUS
    guard byteCount <= physicalByteCount,
      let base = mmap(nil, byteCount, PROT_READ | PROT_WRITE, flags, -1, 0), base != MAP_FAILED
    else { throw .outOfMemory(byteCount: byteCount) }
    return Buffer(base: base, count: byteCount, ownership: .pages)
  }

  /// Smaller buffers are not worth a system call.
  private static let leastPagesByteCount = 1 << 15

  /// Returns the pages before `end` to the system; does nothing unless the buffer was made by
  /// ``pages(byteCount:)``. The caller must be the buffer's only user, and nobody may read the
  /// bytes before `end` afterwards.
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

  /// Returns the pages of a mapped file to the system, which reads them again when they are touched;
  /// does nothing for other memory.
  package func returnPages() {
    guard case .mapping = ownership else { return }
    madvise(base, count, MADV_DONTNEED)
  }

  /// A multiple of the page size of every supported system.
  private static let discardedPartByteCount = 1 << 16

  /// Read-only zeros that occupy no memory.
  /// - Throws: `outOfMemory`.
  package static func zeros(byteCount: Int) throws(QMError) -> Buffer {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS
    guard byteCount > 0, byteCount <= physicalByteCount,
      let base = mmap(nil, byteCount, PROT_READ, flags, -1, 0), base != MAP_FAILED
    else { return try allocate(byteCount: byteCount) }
    return Buffer(base: base, count: byteCount, ownership: .mapping)
  }

  /// Memory of undefined content, aligned to ``alignment``: write it before reading it.
  /// - Throws: `outOfMemory`, also for more than the physical memory.
  package static func uninitialized(byteCount: Int) throws(QMError) -> Buffer {
    try allocate(byteCount: byteCount) { malloc($0) }
  }

  /// A copy of `bytes`.
  /// - Throws: `outOfMemory`.
  public static func copying(_ bytes: UnsafeRawBufferPointer) throws(QMError) -> Buffer {
    let buffer = try uninitialized(byteCount: bytes.count)
    if let source = bytes.baseAddress { memcpy(buffer.base, source, bytes.count) }
    return buffer
  }

  /// A copy of `bytes`.
  /// - Throws: `outOfMemory`.
  public static func copying(_ bytes: some Collection<UInt8>) throws(QMError) -> Buffer {
    let copy = bytes.withContiguousStorageIfAvailable { bytes in
      Result { () throws(QMError) in try copying(UnsafeRawBufferPointer(bytes)) }
    }
    if let copy { return try copy.get() }
    let buffer = try uninitialized(byteCount: bytes.count)
    UnsafeMutableRawBufferPointer(start: buffer.base, count: buffer.count).copyBytes(from: bytes)
    return buffer
  }

  /// A regular file, mapped read-only. Pages are read when they are first touched. If the file is
  /// truncated meanwhile, the process receives SIGBUS; ``reading(path:)`` avoids that.
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

  /// The bytes of a regular file, copied into memory.
  /// - Throws: `cannotOpen`; `malformed` if the file is truncated meanwhile; `outOfMemory`; with
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

  /// Whether the memory may be written: false for mappings.
  public var isWritable: Bool { if case .mapping = ownership { false } else { true } }
}
