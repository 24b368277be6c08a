import QMOperations
import Testing

@Suite struct ThreadPoolTests {
  /// Adds one to a counter per chunk, each on its own so that no two chunks share a location.
  private func countsOfEachChunk(chunks: Int, on pool: ThreadPool) -> [Int] {
    var counts = [Int](repeating: 0, count: chunks)
    counts.withUnsafeMutableBufferPointer { counts in
      nonisolated(unsafe) let counts = counts
      pool.run(chunks: chunks) { (chunk, _) in counts[chunk] += 1 }
    }
    return counts
  }

  @Test(arguments: [1, 2, 3, 5]) func everyChunkRunsOnce(threads: Int) {
    let pool = ThreadPool(threadCount: threads)
    for chunks in [0, 1, 2, 3, 7, 64, 1000, 65_535, 65_536, 200_001] {
      #expect(countsOfEachChunk(chunks: chunks, on: pool).allSatisfy { $0 == 1 })
    }
  }

  @Test func loopsFollowEachOtherWithinARun() {
    let pool = ThreadPool(threadCount: 3)
    pool.beginRun()
    defer { pool.endRun() }
    for _ in 0..<2000 {
      #expect(countsOfEachChunk(chunks: 5, on: pool) == [1, 1, 1, 1, 1])
    }
  }

  @Test func aThreadNumberIsUsedByOneChunkAtATime() {
    let pool = ThreadPool(threadCount: 3)
    var sums = [Int](repeating: 0, count: 3 * 64)
    sums.withUnsafeMutableBufferPointer { sums in
      pool.run(chunks: 3000) { (chunk, thread) in sums[thread * 64] += chunk }
    }
    #expect(sums.reduce(0, +) == 3000 * 2999 / 2)
  }

  @Test func aLoopInsideALoopRunsOnItsCaller() {
    let pool = ThreadPool(threadCount: 2)
    var sums = [Int](repeating: 0, count: 8)
    sums.withUnsafeMutableBufferPointer { sums in
      pool.run(chunks: 8) { (outer, _) in
        pool.run(chunks: 10) { (inner, thread) in
          precondition(thread == 0)
          sums[outer] += inner
        }
      }
    }
    #expect(sums == [Int](repeating: 45, count: 8))
  }

  @Test func severalCallersShareAPool() async {
    let pool = ThreadPool(threadCount: 2)
    let sums = await withTaskGroup(of: Int.self) { group in
      for _ in 0..<4 {
        group.addTask {
          var total = 0
          for _ in 0..<200 { total += self.countsOfEachChunk(chunks: 16, on: pool).reduce(0, +) }
          return total
        }
      }
      return await group.reduce(0, +)
    }
    #expect(sums == 4 * 200 * 16)
  }

  @Test func poolsEndBetweenRuns() {
    for threads in 1...4 {
      for _ in 0..<20 { _ = ThreadPool(threadCount: threads) }
    }
  }
}
