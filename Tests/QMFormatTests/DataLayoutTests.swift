import QMFormat
import QMTensor
import QMTestSupport
import Testing

struct DataLayoutTests {
  private func decoded(_ bytes: [UInt8], _ layout: DataLayout, _ type: ElementType, _ count: Int)
    throws -> [UInt8]
  {
    var elements = [UInt8](repeating: 0xEE, count: count * type.byteCount)
    try bytes.withUnsafeBytes { bytes in
      try elements.withUnsafeMutableBytes { try layout.decode(bytes, type, into: $0) }
    }
    return elements
  }

  @Test func `Codes of every width come back from every layout that holds them`() throws {
    var random = SeededGenerator(seed: 3)
    for bits in 2...8 {
      let width = BitWidth(bits)!
      for count in Array(0...67) + [1000] {
        let codes = (0..<count).map { _ in
          UInt8(bitPattern: Int8(Int32.random(in: width.allCodes, using: &random)))
        }
        var layouts: [DataLayout] = [.plain, .bits(width), .planes, .planeDifferences]
        for radix in DataLayout.radixes where radix >= 1 << bits {
          layouts.append(.digits(radix: radix, minimum: Int(width.allCodes.lowerBound)))
        }
        for layout in layouts {
          let bytes = layout.encoded(codes, .int8)
          #expect(bytes.count == layout.byteCount(of: .int8, count: count))
          #expect(try decoded(bytes, layout, .int8, count) == codes, "\(layout), \(count) codes")
        }
      }
    }
  }

  @Test(arguments: ElementType.allCases)
  func `Elements of every type come back from their planes`(type: ElementType) throws {
    var random = SeededGenerator(seed: 4)
    for count in 0...33 {
      let elements = (0..<count * type.byteCount).map { _ in
        UInt8.random(in: 0...255, using: &random)
      }
      var layouts: [DataLayout] = [.plain, .planes, .planeDifferences]
      if [.int16, .int32, .int64].contains(type) { layouts.append(.signPlanes) }
      for layout in layouts {
        let bytes = layout.encoded(elements, type)
        #expect(try decoded(bytes, layout, type, count) == elements, "\(layout)")
      }
    }
  }

  @Test func `Parts of a section give what the whole gives`() throws {
    var random = SeededGenerator(seed: 6)
    for bits in 2...8 {
      let width = BitWidth(bits)!
      let codes = (0..<3 * DataDecoder.partByteCount + 13).map { _ in
        UInt8(bitPattern: Int8(Int32.random(in: width.allCodes, using: &random)))
      }
      var layouts: [DataLayout] = [.plain, .bits(width), .planeDifferences]
      if bits <= 4 {
        let radix = 1 << bits
        layouts.append(.digits(radix: radix, minimum: Int(width.allCodes.lowerBound)))
      }
      for layout in layouts {
        let bytes = layout.encoded(codes, .int8)
        #expect(try joined(bytes, layout, .int8, codes.count) == codes, "\(layout)")
      }
    }
    let numbers = (0..<DataDecoder.partByteCount / 4 * 6).map { _ in
      UInt8.random(in: 0...255, using: &random)
    }
    for layout in [DataLayout.planes, .planeDifferences] {
      let bytes = layout.encoded(numbers, .float32)
      #expect(try joined(bytes, layout, .float32, numbers.count / 4) == numbers, "\(layout)")
    }
  }

  private func joined(_ bytes: [UInt8], _ layout: DataLayout, _ type: ElementType, _ count: Int)
    throws -> [UInt8]
  {
    var elements = [UInt8](repeating: 0xEE, count: count * type.byteCount)
    try elements.withUnsafeMutableBytes { elements in
      var decoder = DataDecoder(layout, type, into: elements)
      for start in stride(from: 0, to: bytes.count, by: DataDecoder.partByteCount) {
        let end = min(start + DataDecoder.partByteCount, bytes.count)
        try Array(bytes[start..<end]).withUnsafeBytes { try decoder.append($0) }
      }
    }
    return elements
  }

  @Test func `Bytes that stand for no codes are refused`() throws {
    // Three digits of radix 6 are below 216; the last byte holds one digit only.
    let layout = DataLayout.digits(radix: 6, minimum: -3)
    #expect(throws: QMError.malformed("")) { try decoded([216, 0], layout, .int8, 4) }
    #expect(throws: QMError.malformed("")) { try decoded([215, 6], layout, .int8, 4) }
    #expect(try decoded([215, 5], layout, .int8, 4).map { Int8(bitPattern: $0) } == [2, 2, 2, 2])
    #expect(throws: QMError.malformed("")) {
      try decoded([0, 0b10000], .bits(BitWidth(3)!), .int8, 4)
    }
  }

  @Test func `Codes of few bits are packed by digits, scales by planes, tables by differences`() {
    var random = SeededGenerator(seed: 5)
    let ternary = (0..<5000).map { _ in UInt8(bitPattern: Int8.random(in: -1...1, using: &random)) }
    let best = DataLayout.best(for: ternary, .int8, width: BitWidth(2)!)
    #expect(best.layout == .digits(radix: 3, minimum: -1))
    #expect(best.bytes.count == 1000)

    let scales = (0..<500).map { _ in Float.random(in: 0.01...0.02, using: &random) }
    let bytes = scales.flatMap { withUnsafeBytes(of: $0) { Array($0) } }
    #expect(DataLayout.best(for: bytes, .float32, width: nil).layout == .planes)

    let table = (-128...127).map { UInt8(bitPattern: Int8($0 / 2)) }
    #expect(DataLayout.best(for: table, .int8, width: nil).layout == .planeDifferences)
  }

  @Test func `Tuples of codes come back, with escapes and a tuple that is not full`() throws {
    var random = SeededGenerator(seed: 7)
    var sizesWithEscapes: Set<Int> = []
    for size in 2...8 {
      for (count, spread) in [(1, 0), (16, 1), (1001, 1), (20_003, 3), (5000, 7), (60_000, 20)] {
        // Small codes are the frequent ones.
        let codes = (0..<count).map { _ in
          UInt8(
            bitPattern: Int8(
              Int.random(in: 0...spread, using: &random) * Int.random(in: 0...1, using: &random)
                * Int.random(in: -1...1, using: &random)))
        }
        guard let (table, bytes) = TupleTable.encoded(codes, size: size) else { continue }
        let layout = DataLayout.tuples(table)
        #expect(bytes.count == layout.byteCount(of: .int8, count: count))
        #expect(layout.encoded(codes, .int8) == bytes)
        #expect(try decoded(bytes, layout, .int8, count) == codes, "\(size), \(count)")
        #expect(try joined(bytes, layout, .int8, count) == codes, "\(size), \(count)")
        if table.escapeCount > 0 { sizesWithEscapes.insert(size) }
      }
    }
    #expect(sizesWithEscapes.count > 2)
  }

  @Test func `Codes of less than a bit take less than a bit`() throws {
    var random = SeededGenerator(seed: 8)
    for share in [20, 8, 3] {
      let codes = (0..<200_000).map { _ in
        Int.random(in: 0..<share, using: &random) == 0
          ? UInt8(bitPattern: Int8.random(in: -3...3, using: &random)) : 0
      }
      var counts = [Int](repeating: 0, count: 256)
      for code in codes { counts[Int(code)] += 1 }
      let entropy = Entropy.bits(counts)
      let best = DataLayout.best(for: codes, .int8, width: .eight)
      let deflated = 8 * (try Deflate.smallest(best.bytes, boundaries: best.boundaries)).count
      #expect(deflated <= entropy + entropy / 8, "1 of \(share): \(best.layout)")
    }
  }

  @Test func `The entropy is that of the formula`() {
    #expect(Entropy.bits([]) == 0 && Entropy.bits([0, 7]) == 0)
    #expect(Entropy.bits([8, 8]) == 16 && Entropy.bits([1, 1, 2]) == 6)
    // 1000 · log₂(10/7) + …, by NumPy: 700, 200 and 100 of 1000.
    #expect(Entropy.bits([700, 200, 100]) == 1156)
  }

  @Test func `The layout is found whatever the codes are`() throws {
    var random = SeededGenerator(seed: 6)
    for _ in 0..<300 {
      let ends = [
        Int8.random(in: -128...127, using: &random), .random(in: -128...127, using: &random),
      ]
      let codes = (0..<Int.random(in: 0...40, using: &random)).map { _ in
        UInt8(bitPattern: Int8.random(in: ends.min()!...ends.max()!, using: &random))
      }
      let best = DataLayout.best(for: codes, .int8, width: .eight)
      #expect(try decoded(best.bytes, best.layout, .int8, codes.count) == codes)
    }
  }
}
