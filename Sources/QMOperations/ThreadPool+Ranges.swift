extension ThreadPool {
  /// Bytes that are worth waking a thread for.
  static let chunkByteCount = 1 << 16

  /// Calls `body` for consecutive parts of `0..<count`, items that each touch `byteCount` bytes.
  /// The parts never change a result.
  func run(
    forRangesOf count: Int, byteCount: Int, _ body: (_ range: Range<Int>, _ thread: Int) -> Void
  ) {
    guard count > 0 else { return }
    guard threadCount > 1 else { return body(0..<count, 0) }
    let (total, overflow) = count.multipliedReportingOverflow(by: max(byteCount, 1))
    let worthwhile = overflow ? count : max(total / Self.chunkByteCount, 1)
    let chunks = min(worthwhile, count, 4 * threadCount)
    run(chunks: chunks) { chunk, thread in
      body(count * chunk / chunks..<count * (chunk + 1) / chunks, thread)
    }
  }
}
