import QMOperations
import QMQuantization
import QMTensor
import QMTestSupport
import Testing

@Suite struct KeptSamplesTests {
  private func kept(_ tensors: [Tensor], threadCount: Int = 1) throws -> KeptSamples {
    try KeptSamples(
      of: TensorSamples(tensors.map { ["x": $0] }),
      threads: ThreadPool(threadCount: threadCount))
  }

  private func tensors(_ count: Int, elements: Int = 3) throws -> [Tensor] {
    try (0..<count).map { try Tensor([elements], [Float](repeating: Float($0), count: elements)) }
  }

  private func same(_ left: KeptSamples, _ right: KeptSamples) -> Bool {
    left.samples.map(\.digest) == right.samples.map(\.digest) && left.cut == right.cut
  }

  @Test(arguments: [1, 5, 24, 25, 100]) func theyDependOnContentsAlone(count: Int) throws {
    let tensors = try tensors(count)
    let whole = try kept(tensors)
    #expect(whole.count == min(count, KeptSamples.mostSamples))
    #expect((whole.cut == nil) == (count <= KeptSamples.mostSamples))
    let digests = whole.samples.map(\.digest)
    #expect(zip(digests, digests.dropFirst()).allSatisfy { $0.lexicographicallyPrecedes($1) })
    #expect(same(try kept(tensors.reversed(), threadCount: 4), whole))
  }

  @Test(arguments: 0..<10) func partsMergeToTheWhole(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    // Of some seeds large ones, so that bytes decide and not their number.
    let size = seed % 2 == 0 ? 3 : 2_500_000
    let tensors = try tensors(size == 3 ? 90 : 12, elements: size)
    var parts: [[Tensor]] = [[], [], []]
    for tensor in tensors { parts[Int.random(in: 0..<3, using: &generator)].append(tensor) }
    let order = [0, 1, 2].shuffled(using: &generator)
    let keptParts = try parts.filter { !$0.isEmpty }.map { try kept($0) }
    var merged = keptParts[0]
    for index in order where (1..<keptParts.count).contains(index) {
      merged.merge(keptParts[index])
    }
    let whole = try kept(tensors)
    #expect(whole.count < tensors.count)
    #expect(same(merged, whole))
  }

  /// All samples count, kept or not, as often as they occur.
  @Test func theDigestOfTheSourceDependsOnContentsAlone() throws {
    let tensors = try tensors(60)
    let whole = try kept(tensors).source
    #expect(try kept(tensors.shuffled(), threadCount: 3).source == whole)
    var merged = try kept(Array(tensors[..<17]))
    merged.merge(try kept(Array(tensors[17...])))
    #expect(merged.source == whole)
    #expect(try kept(Array(tensors.dropLast())).source != whole)
    #expect(try kept(tensors + tensors.suffix(1)).source != whole)
    let single = try kept(Array(tensors.prefix(1)))
    #expect(single.source.bytes == single.samples[0].digest)
  }

  @Test func digestsOfSamplesAreAddedWithCarries() {
    var sum = SampleSetDigest()
    sum.add([UInt8](repeating: 0xff, count: 32))
    sum.add([UInt8](repeating: 0, count: 31) + [1])
    #expect(sum == SampleSetDigest())
    sum.add([UInt8](repeating: 0, count: 30) + [1, 0xfe])
    sum.add([UInt8](repeating: 0, count: 30) + [2, 3])
    #expect(sum.bytes.suffix(3) == [0, 4, 1])
  }

  /// A part may keep what the whole must not: a sample that the whole drops for its size comes
  /// before it.
  @Test func whatFitsInAPartAloneIsDropped() throws {
    let large = try (0..<3).map { index in
      try Tensor([9_000_000], [Float](repeating: Float(index), count: 9_000_000))
    }
    let small = try tensors(30)
    let whole = try kept(large + small)
    for split in [[large, small], [small, large]] {
      var merged = try kept(split[0])
      merged.merge(try kept(split[1]))
      #expect(same(merged, whole))
    }
    #expect(
      whole.samples.reduce(0) { $0 + ($1.inputs["x"]?.byteCount ?? 0) } <= KeptSamples.mostBytes)
  }

  /// Equal samples are kept once, however many there are.
  @Test func equalSamplesAreOne() throws {
    let tensors = try tensors(30)
    let many = tensors + tensors + [tensors[0]]
    let whole = try kept(many)
    #expect(same(whole, try kept(tensors)))
    var merged = try kept(Array(many[..<20]))
    merged.merge(try kept(Array(many[20...])))
    #expect(same(merged, whole))
    #expect(try kept([Tensor](repeating: tensors[3], count: 40)).count == 1)
  }

  @Test func nameTypeAndShapeAreContentsToo() throws {
    let zeros = try Tensor([4], [Float](repeating: 0, count: 4))
    let square = try Tensor([2, 2], [Float](repeating: 0, count: 4))
    let whole = try Tensor([4], [Int32](repeating: 0, count: 4))
    let kept = try KeptSamples(
      of: TensorSamples([["x": zeros], ["x": square], ["x": whole], ["y": zeros]]),
      threads: ThreadPool(threadCount: 1))
    #expect(Set(kept.samples.map(\.digest)).count == 4)
  }
}
