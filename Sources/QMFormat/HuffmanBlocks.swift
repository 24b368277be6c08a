/// A raw deflate stream (RFC 1951) whose blocks have Huffman codes of their own, without matches other
/// than runs of one byte.
///
/// zlib ends a block after 16,384 symbols, whatever they are. Codes of weights have the same
/// distribution from end to end, so that one block saves the other headers; the planes of an element's
/// bytes have distributions of their own.
package struct HuffmanBlocks {
  private let blocks: [Block]

  /// Size of the stream, in bits.
  let bitCount: Int

  /// - Parameters:
  ///   - bytes: at least one.
  ///   - boundaries: where the distribution may change, ascending. Blocks end at some of them.
  init(_ bytes: [UInt8], boundaries: [Int] = []) {
    var blocks: [Block] = []
    var start = 0
    for end in boundaries + [bytes.count] where end > start && end <= bytes.count {
      let block = Block([start..<end], Statistics(bytes[start..<end]))
      start = end
      if let last = blocks.last {
        let joined = Block(
          last.parts + block.parts, last.statistics.joined(with: block.statistics))
        if joined.bitCount <= last.bitCount + block.bitCount {
          blocks[blocks.count - 1] = joined
          continue
        }
      }
      blocks.append(block)
    }
    self.blocks = blocks
    bitCount = blocks.reduce(0) { $0 + $1.bitCount }
  }

  /// The stream.
  /// - Parameter bytes: those from which the blocks were made.
  func encoded(_ bytes: [UInt8]) -> [UInt8] {
    var writer = BitWriter()
    for (index, block) in blocks.enumerated() {
      block.write(bytes, isLast: index == blocks.count - 1, to: &writer)
    }
    return writer.finished()
  }

  /// The stream of at least one byte.
  package static func stream(_ bytes: [UInt8], boundaries: [Int]) -> [UInt8] {
    HuffmanBlocks(bytes, boundaries: boundaries).encoded(bytes)
  }

  /// What a Huffman code of some bytes depends on.
  private struct Statistics {
    /// Occurrences of each byte.
    private(set) var literals = [Int](repeating: 0, count: 256)
    /// The runs of at least the length of ``leastRuns``.
    private(set) var runs = Statistics.leastRuns.map { _ in Runs() }

    struct Runs {
      /// Bytes that no literal has to say.
      var covered = [Int](repeating: 0, count: 256)
      /// Occurrences of each symbol for a length.
      var lengths = [Int](repeating: 0, count: 29)
      var extraBits = 0
    }

    /// A run may be longer than its literals, if its byte is frequent.
    static let leastRuns = [4, 20]

    init(_ bytes: ArraySlice<UInt8>) {
      bytes.withUnsafeBufferPointer { bytes in
        var index = 0
        while index < bytes.count {
          let byte = bytes[index]
          var end = index + 1
          while end < bytes.count, bytes[end] == byte { end += 1 }
          literals[Int(byte)] += end - index
          if end - index >= Statistics.leastRuns[0] { count(end - index, of: Int(byte)) }
          index = end
        }
      }
    }

    private mutating func count(_ run: Int, of byte: Int) {
      for (number, least) in Statistics.leastRuns.enumerated() where run >= least {
        for length in RunLength.all(of: run) {
          runs[number].covered[byte] += length.count
          runs[number].lengths[length.symbol] += 1
          runs[number].extraBits += length.extraBitCount
        }
      }
    }

    func joined(with other: Statistics) -> Statistics {
      var sum = self
      for byte in 0..<256 { sum.literals[byte] += other.literals[byte] }
      for number in runs.indices {
        for byte in 0..<256 { sum.runs[number].covered[byte] += other.runs[number].covered[byte] }
        for symbol in 0..<29 {
          sum.runs[number].lengths[symbol] += other.runs[number].lengths[symbol]
        }
        sum.runs[number].extraBits += other.runs[number].extraBits
      }
      return sum
    }
  }

  private struct Block {
    /// Ranges of the bytes, one behind the other. Runs end with them.
    let parts: [Range<Int>]
    let statistics: Statistics
    private var header: Header?
    /// The shortest run that is written as one.
    private var leastRun = Int.max
    /// With its header.
    private(set) var bitCount: Int

    init(_ parts: [Range<Int>], _ statistics: Statistics) {
      self.parts = parts
      self.statistics = statistics
      let count = parts.reduce(0) { $0 + $1.count }
      // Stored bytes begin at a whole byte; their length has 16 bits.
      bitCount = 8 * count + 42 * ((count + 65534) / 65535)
      offer(statistics.literals + [1], extraBits: 0, leastRun: .max)
      for (least, runs) in zip(Statistics.leastRuns, statistics.runs)
      where runs.lengths.contains(where: { $0 > 0 }) {
        let literals = zip(statistics.literals, runs.covered).map { $0 - $1 }
        offer(literals + [1] + runs.lengths, extraBits: runs.extraBits, leastRun: least)
      }
    }

    private mutating func offer(_ counts: [Int], extraBits: Int, leastRun: Int) {
      let code = HuffmanCode(counts: counts, longest: 15)
      let header = Header(code, hasRuns: leastRun < .max)
      let lengthCount = counts.dropFirst(257).reduce(0, +)
      // Each run has a distance of one bit.
      let bits = header.bitCount + code.bitCount(of: counts) + extraBits + lengthCount
      guard bits < bitCount else { return }
      (bitCount, self.header, self.leastRun) = (bits, header, leastRun)
    }

    func write(_ bytes: [UInt8], isLast: Bool, to writer: inout BitWriter) {
      guard let header else {
        let (start, end) = (parts[0].lowerBound, parts[parts.count - 1].upperBound)
        writeStored(bytes[start..<end], isLast: isLast, to: &writer)
        return
      }
      writer.append(isLast ? 1 : 0, bits: 1)
      writer.append(2, bits: 2)
      header.write(to: &writer)
      let words = header.code.words
      for part in parts { write(bytes[part], header.code, words, to: &writer) }
      writer.append(words[256], bits: Int(header.code.lengths[256]))
    }

    private func write(
      _ bytes: ArraySlice<UInt8>, _ code: HuffmanCode, _ words: [UInt32],
      to writer: inout BitWriter
    ) {
      func write(_ symbol: Int) {
        writer.append(words[symbol], bits: Int(code.lengths[symbol]))
      }
      var index = bytes.startIndex
      while index < bytes.endIndex {
        let byte = bytes[index]
        var end = index + 1
        while end < bytes.endIndex, bytes[end] == byte { end += 1 }
        var literalCount = end - index
        if literalCount >= leastRun {
          write(Int(byte))
          literalCount -= 1
          for length in RunLength.all(of: end - index) {
            write(257 + length.symbol)
            writer.append(length.extra, bits: length.extraBitCount)
            writer.append(0, bits: 1)
            literalCount -= length.count
          }
        }
        for _ in 0..<literalCount { write(Int(byte)) }
        index = end
      }
    }

    private func writeStored(_ bytes: ArraySlice<UInt8>, isLast: Bool, to writer: inout BitWriter) {
      for start in stride(from: bytes.startIndex, to: bytes.endIndex, by: 65535) {
        let end = min(start + 65535, bytes.endIndex)
        writer.append(isLast && end == bytes.endIndex ? 1 : 0, bits: 1)
        writer.append(0, bits: 2)
        writer.align()
        let count = UInt32(end - start)
        writer.append(count, bits: 16)
        writer.append(~count & 0xFFFF, bits: 16)
        for byte in bytes[start..<end] { writer.append(UInt32(byte), bits: 8) }
      }
    }
  }

  /// A length of a run as deflate writes it: a symbol and bits after it.
  private struct RunLength {
    /// 0 for the symbol 257.
    let symbol: Int
    let extra: UInt32
    let extraBitCount: Int
    let count: Int

    /// - Parameter count: 3 to 258.
    init(_ count: Int) {
      self.count = count
      let offset = count - 3
      if count == 258 {
        (symbol, extra, extraBitCount) = (28, 0, 0)
      } else if offset < 8 {
        (symbol, extra, extraBitCount) = (offset, 0, 0)
      } else {
        let power = Int.bitWidth - 1 - offset.leadingZeroBitCount
        extraBitCount = power - 2
        symbol = 4 * (power - 1) + offset >> extraBitCount & 3
        extra = UInt32(offset & (1 << extraBitCount - 1))
      }
    }

    /// The lengths that follow the first byte of a run; up to two more bytes are left.
    static func all(of run: Int) -> [RunLength] {
      var lengths: [RunLength] = []
      var rest = run - 1
      while rest >= 3 {
        let length = RunLength(min(rest, 258))
        lengths.append(length)
        rest -= length.count
      }
      return lengths
    }
  }

  /// The header of a block with Huffman codes of its own (RFC 1951, 3.2.7).
  private struct Header {
    let code: HuffmanCode
    let bitCount: Int
    private let codeOfLengths: HuffmanCode
    private let symbols: [(symbol: Int, extra: UInt32, extraBitCount: Int)]
    private let literalCount: Int
    private let lengthCount: Int

    /// The order in which deflate lists the lengths of the code of lengths.
    private static let order = [
      16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
    ]

    init(_ code: HuffmanCode, hasRuns: Bool) {
      self.code = code
      let lengths = Array(code.lengths[..<(1 + (code.lengths.lastIndex { $0 > 0 } ?? 256))])
      literalCount = lengths.count
      // One distance, 1, or none.
      symbols = Header.symbols(lengths + [hasRuns ? 1 : 0])
      var counts = [Int](repeating: 0, count: 19)
      for symbol in symbols { counts[symbol.symbol] += 1 }
      let codeOfLengths = HuffmanCode(counts: counts, longest: 7)
      self.codeOfLengths = codeOfLengths
      let used = Header.order.lastIndex { codeOfLengths.lengths[$0] > 0 } ?? 3
      lengthCount = max(used + 1, 4)
      bitCount =
        17 + 3 * lengthCount + codeOfLengths.bitCount(of: counts)
        + symbols.reduce(0) { $0 + $1.extraBitCount }
    }

    /// The lengths of words, with repetitions.
    private static func symbols(
      _ lengths: [UInt8]
    ) -> [(symbol: Int, extra: UInt32, extraBitCount: Int)] {
      var symbols: [(symbol: Int, extra: UInt32, extraBitCount: Int)] = []
      var index = 0
      while index < lengths.count {
        let length = lengths[index]
        var run = 1
        while index + run < lengths.count, lengths[index + run] == length { run += 1 }
        index += run
        if length > 0 {
          symbols.append((Int(length), 0, 0))
          run -= 1
        }
        while run >= 3 {
          let repeated: Int
          if length > 0 {
            repeated = min(run, 6)
            symbols.append((16, UInt32(repeated - 3), 2))
          } else if run <= 10 {
            repeated = run
            symbols.append((17, UInt32(repeated - 3), 3))
          } else {
            repeated = min(run, 138)
            symbols.append((18, UInt32(repeated - 11), 7))
          }
          run -= repeated
        }
        for _ in 0..<run { symbols.append((Int(length), 0, 0)) }
      }
      return symbols
    }

    func write(to writer: inout BitWriter) {
      writer.append(UInt32(literalCount - 257), bits: 5)
      writer.append(0, bits: 5)
      writer.append(UInt32(lengthCount - 4), bits: 4)
      for symbol in Header.order.prefix(lengthCount) {
        writer.append(UInt32(codeOfLengths.lengths[symbol]), bits: 3)
      }
      let words = codeOfLengths.words
      for (symbol, extra, extraBitCount) in symbols {
        writer.append(words[symbol], bits: Int(codeOfLengths.lengths[symbol]))
        writer.append(extra, bits: extraBitCount)
      }
    }
  }
}

/// Packs numbers of a few bits, from the lowest bit of each byte up.
private struct BitWriter {
  private var bytes: [UInt8] = []
  private var pending: UInt64 = 0
  private var pendingBits = 0

  /// - Parameter bits: at most 32; higher bits of `number` are 0.
  mutating func append(_ number: UInt32, bits: Int) {
    pending |= UInt64(number) << UInt64(pendingBits)
    pendingBits += bits
    while pendingBits >= 8 {
      bytes.append(UInt8(truncatingIfNeeded: pending))
      pending >>= 8
      pendingBits -= 8
    }
  }

  /// Fills the last byte with zeros.
  mutating func align() {
    if pendingBits > 0 { append(0, bits: 8 - pendingBits) }
  }

  mutating func finished() -> [UInt8] {
    align()
    return bytes
  }
}
