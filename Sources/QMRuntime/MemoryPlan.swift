import QMTensor

/// Places in one arena for values that live from one step to another.
package struct MemoryPlan {
  package struct Request {
    /// Step that writes the value, and the last step that reads it.
    package let firstStep: Int
    package let lastStep: Int
    package let byteCount: Int

    package init(firstStep: Int, lastStep: Int, byteCount: Int) {
      self.firstStep = firstStep
      self.lastStep = lastStep
      self.byteCount = byteCount
    }
  }

  /// Offset of each request, in their order; aligned to ``Buffer/alignment``.
  package let offsets: [Int]
  /// Size of the arena.
  package let byteCount: Int

  /// Largest first, each at the lowest offset where it overlaps no value that lives with it.
  /// - Throws: `outOfMemory` if the sizes overflow.
  package init(_ requests: [Request]) throws(QMError) {
    var offsets = [Int](repeating: 0, count: requests.count)
    var placed: [Int] = []
    var end = 0
    let order = requests.indices.sorted {
      (requests[$1].byteCount, $0) < (requests[$0].byteCount, $1)
    }
    for index in order {
      let request = requests[index]
      // Sorted by offset, so that the first gap that is wide enough is the lowest.
      let neighbours =
        placed.filter {
          requests[$0].firstStep <= request.lastStep && request.firstStep <= requests[$0].lastStep
        }
        .sorted { offsets[$0] < offsets[$1] }
      var offset = 0
      for neighbour in neighbours {
        if offset + request.byteCount <= offsets[neighbour] { break }
        offset = max(offset, MemoryPlan.aligned(offsets[neighbour] + requests[neighbour].byteCount))
      }
      let (last, overflow) = offset.addingReportingOverflow(request.byteCount)
      guard !overflow, last <= Int.max - Buffer.alignment else {
        throw .outOfMemory(byteCount: Int.max)
      }
      offsets[index] = offset
      end = max(end, last)
      placed.append(index)
    }
    self.offsets = offsets
    byteCount = MemoryPlan.aligned(end)
  }

  private static func aligned(_ offset: Int) -> Int {
    (offset + Buffer.alignment - 1) / Buffer.alignment * Buffer.alignment
  }
}
