import QMTensor

/// Consecutive parts of a scratch memory, each aligned to ``Buffer/alignment``.
struct ScratchLayout {
  private(set) var byteCount = 0

  /// - Returns: the offset of a part of `byteCount` bytes.
  mutating func reserve(_ byteCount: Int) -> Int {
    let offset = self.byteCount
    let alignment = Buffer.alignment
    self.byteCount = offset + (byteCount + alignment - 1) / alignment * alignment
    return offset
  }

  /// `byteCount` up to a multiple of the alignment, so that one part per thread keeps it.
  static func rounded(_ byteCount: Int) -> Int {
    var layout = ScratchLayout()
    _ = layout.reserve(byteCount)
    return layout.byteCount
  }
}
