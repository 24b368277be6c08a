import QMTensor

/// Limits on what a file may require. A file beyond a limit is refused as `unsupported`.
public struct NumPyLimits: Hashable, Sendable {
  /// Maximum size of one array, in bytes. The largest arrays of today's checkpoints are embeddings
  /// of a few GiB.
  public var arrayByteCount = 16 << 30
  /// Maximum number of entries in an archive.
  public var entryCount = 1 << 20
  /// Maximum ratio of the inflated size of all entries to the size of the archive; it applies above
  /// ``expandedByteCount``. Trained weights deflate by a factor under 20 even when most are zero;
  /// the maximum of deflate is 1,032.
  public var expansion = 128
  /// Inflated size of all entries that is always allowed, in bytes.
  public var expandedByteCount = 64 << 20

  /// Limits for files from untrusted sources.
  public static let standard = NumPyLimits()

  /// The standard limits; each may then be changed.
  public init() {}

  /// - Throws: `unsupported` if an array of `found` bytes exceeds the limit.
  func check(arrayByteCount found: Int) throws(QMError) {
    guard found <= arrayByteCount else {
      throw .unsupported("the array has \(found) bytes; the limit is \(arrayByteCount)")
    }
  }
}
