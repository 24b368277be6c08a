import QMFormat
import QMTestSupport
import Testing

/// The reader is zlib, which shares nothing with the writer.
struct HuffmanBlocksTests {
  private func check(_ bytes: [UInt8], boundaries: [Int], _ comment: String) throws {
    let stream = HuffmanBlocks.stream(bytes, boundaries: boundaries)
    var inflated = [UInt8](repeating: 0xEE, count: bytes.count)
    try stream.withUnsafeBytes { stream in
      try inflated.withUnsafeMutableBytes { try Deflate.inflate(stream, into: $0) }
    }
    #expect(inflated == bytes, "\(comment)")
  }

  @Test func `Any bytes in any blocks inflate to what they were`() throws {
    var random = SeededGenerator(seed: 11)
    for seed in 0..<400 {
      let count = Int.random(in: 1...(seed % 7 == 0 ? 5000 : 300), using: &random)
      let spread = [0, 1, 2, 20, 255].randomElement(using: &random)!
      var bytes: [UInt8] = []
      while bytes.count < count {
        let byte = UInt8(Int.random(in: 0...spread, using: &random))
        let run =
          Int.random(in: 0...9, using: &random) == 0 ? Int.random(in: 1...700, using: &random) : 1
        bytes += [UInt8](repeating: byte, count: min(run, count - bytes.count))
      }
      let boundaries = (0..<Int.random(in: 0...4, using: &random))
        .map { _ in Int.random(in: 0...count, using: &random) }.sorted()
      try check(bytes, boundaries: boundaries, "seed \(seed)")
    }
  }

  @Test func `Runs of every length have their words`() throws {
    for run in 1...1100 {
      try check([7] + [UInt8](repeating: 0, count: run) + [7, 8], boundaries: [run], "\(run)")
    }
  }

  @Test func `Counts of Fibonacci, whose words would be longer than 15 bits, are limited`() throws {
    var bytes: [UInt8] = []
    var (count, next) = (1, 1)
    for byte in 0..<24 as Range<UInt8> {
      bytes += [UInt8](repeating: byte, count: count)
      (count, next) = (next, count + next)
    }
    var random = SeededGenerator(seed: 12)
    bytes.shuffle(using: &random)
    try check(bytes, boundaries: [], "Fibonacci")
  }

  @Test func `Bytes that no code makes smaller are stored, also more than a block holds`() throws {
    var random = SeededGenerator(seed: 13)
    let bytes = (0..<200_000).map { _ in UInt8.random(in: 0...255, using: &random) }
    let stream = HuffmanBlocks.stream(bytes, boundaries: [])
    #expect(stream.count <= bytes.count + 5 * 4)
    try check(bytes, boundaries: [100_000], "noise")
  }

  @Test func `Planes with distributions of their own get blocks of their own`() throws {
    var random = SeededGenerator(seed: 14)
    let low = (0..<3000).map { _ in UInt8.random(in: 0...255, using: &random) }
    let high = (0..<3000).map { _ in UInt8.random(in: 0...3, using: &random) }
    let bytes = low + high
    let apart = HuffmanBlocks.stream(bytes, boundaries: [3000]).count
    #expect(apart < HuffmanBlocks.stream(bytes, boundaries: []).count - 300)
    // The end of the block makes one of four words longer by a bit.
    #expect(apart < 3000 + 750 + 94 + 40)
  }
}
