import QMTensor

/// Assigns memory in one arena to values by their lifetimes; values that are not needed at the same
/// time may share bytes.
package struct MemoryPlan {
  /// One value.
  package struct Request {
    /// The step that writes the value.
    package let firstStep: Int
    /// The last step that reads the value.
    package let lastStep: Int
    /// Size of the value, in bytes.
    package let byteCount: Int

    /// A request for one value.
    package init(firstStep: Int, lastStep: Int, byteCount: Int) {
      self.firstStep = firstStep
      self.lastStep = lastStep
      self.byteCount = byteCount
    }
  }

  /// Offset of each request in the arena, in bytes; a multiple of ``Buffer/alignment``.
  package let offsets: [Int]
  /// Size of the arena, in bytes.
  package let byteCount: Int

  /// Plans the arena: largest requests first, each at the lowest offset where it overlaps no value
  /// that is needed at the same time.
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
      // Sorted by offset, so that the first gap that is large enough is the lowest.
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
