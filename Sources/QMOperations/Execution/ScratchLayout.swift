import QMTensor

/// Divides scratch memory into consecutive parts, each aligned to ``Buffer/alignment``.
struct ScratchLayout {
  private(set) var byteCount = 0

  /// Reserves the next `byteCount` bytes.
  /// - Returns: their offset.
  mutating func reserve(_ byteCount: Int) -> Int {
    let offset = self.byteCount
    let alignment = Buffer.alignment
    self.byteCount = offset + (byteCount + alignment - 1) / alignment * alignment
    return offset
  }

  /// `byteCount` rounded up to a multiple of the alignment, so that consecutive parts of this size,
  /// one per thread, stay aligned.
  static func rounded(_ byteCount: Int) -> Int {
    var layout = ScratchLayout()
    _ = layout.reserve(byteCount)
    return layout.byteCount
  }
}
