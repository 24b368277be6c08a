/// The bytes of a file: in memory, or on disk, where parts are read when they are needed.
package enum FileBytes: Sendable {
  case memory(Buffer)
  case file(OpenFile)

  /// Number of bytes.
  package var count: Int {
    switch self {
    case .memory(let buffer): buffer.count
    case .file(let file): file.count
    }
  }

  /// A copy of a part.
  /// - Parameter range: within ``count``.
  /// - Throws: `cannotOpen`; `malformed` if the file has been truncated; `outOfMemory`.
  package func copy(_ range: Range<Int>) throws(QMError) -> Buffer {
    switch self {
    case .memory(let buffer):
      defer { withExtendedLifetime(buffer) {} }
      return try .copying(UnsafeRawBufferPointer(rebasing: buffer.bytes[range]))
    case .file(let file): return try file.bytes(range)
    }
  }
}
