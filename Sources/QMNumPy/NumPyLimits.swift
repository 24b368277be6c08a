import QMTensor

/// What a file may ask of the machine. A file beyond a limit is refused as `unsupported`.
public struct NumPyLimits: Hashable, Sendable {
  /// Bytes of one array's elements. The largest arrays of today's checkpoints are embeddings of
  /// a few GiB.
  public var arrayByteCount = 16 << 30
  /// Entries of an archive.
  public var entryCount = 1 << 20
  /// Bytes that all entries of an archive may have in memory, as a multiple of the archive's own
  /// size; ``expandedByteCount`` is allowed in any case. Trained weights shrink by less than 20 times
  /// even when most are zero; deflate's most is 1,032.
  public var expansion = 128
  /// Bytes that all entries of an archive may have in memory in any case.
  public var expandedByteCount = 64 << 20

  /// For files from anywhere.
  public static let standard = NumPyLimits()

  /// The standard limits, to be changed one by one.
  public init() {}

  func check(arrayByteCount found: Int) throws(QMError) {
    guard found <= arrayByteCount else {
      throw .unsupported("an array of \(found) bytes; the limit is \(arrayByteCount)")
    }
  }
}
