import QMTensor

extension ThreadPool {
  /// Fewer bytes than these are not worth waking a thread for.
  static let chunkByteCount = 1 << 16
  /// Of more bytes than these, about a millisecond, a cancelled run would have to wait too long.
  static let largestChunkByteCount = 1 << 22

  /// Calls `body` for consecutive parts of `0..<count`; each item touches `byteCount` bytes.
  /// Results do not depend on how the range is divided.
  func run(
    forRangesOf count: Int, byteCount: Int, _ body: (_ range: Range<Int>, _ thread: Int) -> Void
  ) {
    guard count > 0 else { return }
    let (total, overflow) = count.multipliedReportingOverflow(by: max(byteCount, 1))
    let worthwhile = overflow ? count : max(total / Self.chunkByteCount, 1)
    let shared = threadCount > 1 ? min(worthwhile, 4 * threadCount) : 1
    let chunks = min(count, overflow ? count : max(shared, total / Self.largestChunkByteCount))
    run(chunks: chunks) { chunk, thread in
      body(count * chunk / chunks..<count * (chunk + 1) / chunks, thread)
    }
  }

  /// The results of `body` for all of `0..<count`, in order.
  /// - Throws: the error of the smallest index for which `body` throws.
  public func map<Result: Sendable>(
    _ count: Int, _ body: @Sendable (_ index: Int) throws(QMError) -> Result
  ) throws(QMError) -> [Result] {
    guard threadCount > 1, count > 1 else {
      var results: [Result] = []
      results.reserveCapacity(count)
      for index in 0..<count { results.append(try body(index)) }
      return results
    }
    let slots = Locked([Swift.Result<Result, QMError>?](repeating: nil, count: count))
    run(chunks: count) { (index, _) in
      let result = Swift.Result { () throws(QMError) in try body(index) }
      slots.withLock { $0[index] = result }
    }
    var results: [Result] = []
    for slot in slots.withLock({ $0 }) { results.append(try slot!.get()) }
    return results
  }
}
