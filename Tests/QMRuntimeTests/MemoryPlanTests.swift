import QMRuntime
import QMTensor
import QMTestSupport
import Testing

@Suite struct MemoryPlanTests {
  @Test(arguments: 0..<50) func valuesThatLiveTogetherDoNotOverlap(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let requests = (0..<40).map { _ in
      let first = Int.random(in: 0..<30, using: &generator)
      return MemoryPlan.Request(
        firstStep: first, lastStep: first + Int.random(in: 0..<8, using: &generator),
        byteCount: Int.random(in: 0..<5000, using: &generator))
    }
    let plan = try MemoryPlan(requests)
    for (i, left) in requests.enumerated() {
      #expect(plan.offsets[i] % Buffer.alignment == 0)
      #expect(plan.offsets[i] + left.byteCount <= plan.byteCount)
      for (j, right) in requests.enumerated().dropFirst(i + 1)
      where left.firstStep <= right.lastStep && right.firstStep <= left.lastStep {
        let isApart =
          plan.offsets[i] + left.byteCount <= plan.offsets[j]
          || plan.offsets[j] + right.byteCount <= plan.offsets[i]
        #expect(isApart || left.byteCount == 0 || right.byteCount == 0, "requests \(i) and \(j)")
      }
    }
  }

  @Test func aChainNeedsTwoBuffers() throws {
    let chain = (0..<10).map {
      MemoryPlan.Request(firstStep: $0, lastStep: $0 + 1, byteCount: 1024)
    }
    #expect(try MemoryPlan(chain).byteCount == 2048)
  }
}
