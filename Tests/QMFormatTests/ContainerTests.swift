@_spi(Testing) import QMFormat
import QMTensor
import QMTestSupport
import Testing

struct ContainerTests {
  /// What becomes of damaged bytes.
  private enum Outcome: Equatable {
    case accepted
    case refused(QMError.Code)
  }

  private func outcome(_ bytes: [UInt8]) throws -> Outcome {
    let buffer = try buffer(bytes)
    do {
      _ = try Program(decoding: buffer)
      return .accepted
    } catch {
      return .refused(error.code)
    }
  }

  @Test func `Every flipped bit is refused`() throws {
    let bytes = try smallNetwork(depth: 200).encoded()
    #expect(bytes.count > 1000)
    for index in bytes.indices {
      for bit in 0..<8 as Range<UInt8> {
        var damaged = bytes
        damaged[index] ^= 1 << bit
        #expect(try outcome(damaged) == .refused(.malformed), "byte \(index), bit \(bit)")
      }
    }
  }

  @Test func `Every truncation and every appended byte is refused`() throws {
    let bytes = try smallNetwork().encoded()
    for count in bytes.indices {
      #expect(try outcome(Array(bytes[..<count])) == .refused(.malformed), "\(count) bytes")
    }
    #expect(try outcome(bytes + [0]) == .refused(.malformed))
    #expect(try outcome(bytes + bytes) == .refused(.malformed))
  }

  @Test func `Line ends converted by a transfer as text are named`() throws {
    let bytes = try smallNetwork().encoded()
    let converted = try buffer(bytes.flatMap { $0 == 0x0A ? [0x0D, 0x0A] : [$0] })
    do {
      _ = try Container(converted)
      Issue.record("accepted")
    } catch {
      #expect(error.code == .malformed && error.message.contains("as text"))
    }
  }

  @Test func `Resealing an undamaged file changes nothing`() throws {
    let bytes = try smallNetwork().encoded()
    #expect(Container.reseal(bytes) == bytes)
  }

  /// Damage behind repaired checksums: whatever comes out is an error or a valid program.
  @Test func `Resealed damage never traps`() throws {
    let bytes = try smallNetwork().encoded()
    var random = SeededGenerator(seed: 7)
    var refused = 0
    for _ in 0..<3000 {
      var damaged = bytes
      damage(&damaged, &random)
      damaged = Container.reseal(damaged)
      if try outcome(damaged) != .accepted { refused += 1 }
    }
    #expect(refused > 1500)
  }

  /// Damage to what the sections inflate to, so that it is not deflate that refuses it.
  @Test func `Damaged payload never traps`() throws {
    let container = try Container(buffer(smallNetwork().encoded()))
    let contents = try contents(of: container)
    var random = SeededGenerator(seed: 8)
    var refused = 0
    for _ in 0..<2000 {
      var damaged = contents
      // The structure most often: it is what a reader computes with.
      let index = Bool.random(using: &random) ? 0 : contents.indices.randomElement(using: &random)!
      damage(&damaged[index].bytes, &random)
      if try outcome(Container.file(of: damaged)) != .accepted { refused += 1 }
    }
    #expect(refused > 1000)
  }

  /// The same over programs of every operation, which need not be valid.
  @Test func `Damaged structure of any operations never traps`() throws {
    var random = SeededGenerator(seed: 9)
    for seed in 0..<40 as Range<UInt64> {
      var generator = ProgramGenerator(seed: seed)
      let program = try generator.program(Opcode.allCases.shuffled(using: &random))
      let container = try Container(buffer(program.encodedWithoutValidation()))
      let contents = try contents(of: container)
      for _ in 0..<25 {
        var damaged = contents
        damage(&damaged[0].bytes, &random)
        _ = try outcome(Container.file(of: damaged))
      }
    }
  }

  private func damage(_ bytes: inout [UInt8], _ random: inout SeededGenerator) {
    guard !bytes.isEmpty else { return bytes.append(0) }
    for _ in 0..<Int.random(in: 1...3, using: &random) {
      let index = Int.random(in: 0..<bytes.count, using: &random)
      switch Int.random(in: 0...6, using: &random) {
      case 0: bytes[index] ^= 1 << UInt8.random(in: 0...7, using: &random)
      case 1: bytes[index] = 0xFF
      case 2: bytes[index] = .random(in: 0...255, using: &random)
      case 3: bytes.insert(.random(in: 0...255, using: &random), at: index)
      case 4 where bytes.count > 1: bytes.remove(at: index)
      case 5: bytes.replaceSubrange(index..<index, with: [0xFF, 0xFF, 0xFF, 0xFF, 0x7F])
      default: bytes[index] = bytes[index] &+ 1
      }
    }
  }

  // MARK: Rules of the container

  private func sections() throws -> [(kind: Container.Kind, bytes: [UInt8])] {
    try contents(of: Container(buffer(smallNetwork().encoded())))
  }

  private func contents(of container: Container) throws
    -> [(kind: Container.Kind, bytes: [UInt8])]
  {
    try container.sections.map { section in
      let inflated = try container.inflated(section)
      return withExtendedLifetime(inflated) { (section.kind, Array(inflated.bytes)) }
    }
  }

  @Test func `An unknown section that may be left out is passed over, another is refused`() throws {
    let sections = try sections()
    let label = [UInt8]("later".utf8)
    #expect(
      try outcome(Container.file(of: sections + [(Container.Kind(rawValue: 200), label)]))
        == .accepted)
    #expect(
      try outcome(Container.file(of: sections + [(Container.Kind(rawValue: 3), label)]))
        == .refused(.malformed))
  }

  @Test func `Missing, doubled and surplus sections are refused`() throws {
    let sections = try sections()
    for (index, section) in sections.enumerated() {
      var fewer = sections
      fewer.remove(at: index)
      let isNeeded = section.kind == .program || section.kind == .data
      #expect(
        try outcome(Container.file(of: fewer)) == (isNeeded ? .refused(.malformed) : .accepted),
        "without section \(index)")
      #expect(
        try outcome(Container.file(of: sections + [section])) == .refused(.malformed),
        "section \(index) twice")
    }
  }

  @Test func `A file of another version is unsupported`() throws {
    var bytes = try smallNetwork().encoded()
    bytes[8] = 4
    #expect(try outcome(Container.reseal(bytes)) == .accepted)
    bytes[10] = 4
    #expect(try outcome(Container.reseal(bytes)) == .refused(.unsupported))
    bytes[8] = 1
    bytes[10] = 1
    #expect(try outcome(Container.reseal(bytes)) == .refused(.unsupported))
    bytes[8] = 2
    bytes[10] = 2
    bytes[20] = 1
    #expect(try outcome(Container.reseal(bytes)) == .refused(.malformed))
  }

  @Test func `A small file does not take much memory`() throws {
    // 65 MiB of zeros deflate to some KiB.
    let tensor = try Tensor(zeros: .int8, [65 << 20])
    let program = Program(
      values: [Program.Value(tensor.type, constant: 0)], constants: [Program.Constant(tensor)],
      nodes: [], inputs: [], outputs: [Program.Output(name: "zeros", value: 0)])
    #expect(throws: QMError.unsupported("")) { try program.encoded() }
  }

  @Test func `The limits are a reader's to set`() throws {
    let bytes = try buffer(smallNetwork().encoded())
    for change in [
      { $0.nodeCount = 3 }, { $0.valueCount = 10 }, { $0.rank = 3 }, { $0.operandCount = 3 },
      { $0.stringByteCount = 5 }, { $0.payloadByteCount = 100 }, { $0.tensorByteCount = 100 },
    ] as [(inout DecodingLimits) -> Void] {
      var limits = DecodingLimits()
      change(&limits)
      #expect(throws: QMError.malformed("")) { try Program(decoding: bytes, limits: limits) }
    }
  }

  @Test func `A wrong content digest is found when it is asked for`() throws {
    let bytes = try smallNetwork().encoded()
    try Container(buffer(bytes)).checkDigest()
    var damaged = bytes
    damaged[32] ^= 1
    #expect(throws: QMError.malformed("")) { try Container(buffer(damaged)) }
    // The checksum of header and table alone; resealing would repair the digest too.
    let tableByteCount = Int(damaged[12]) + Int(damaged[13]) << 8
    let checked = damaged[..<64] + damaged[68..<68 + tableByteCount]
    withUnsafeBytes(of: crc32(checked).littleEndian) { damaged.replaceSubrange(64..<68, with: $0) }
    let container = try Container(buffer(damaged))
    #expect(throws: QMError.malformed("")) { try container.checkDigest() }
    #expect(Container.reseal(damaged) == bytes)
  }

  /// Bit by bit, as the format's document has it.
  private func crc32(_ bytes: some Sequence<UInt8>) -> UInt32 {
    ~bytes.reduce(~0 as UInt32) { checksum, byte in
      (0..<8).reduce(checksum ^ UInt32(byte)) { checksum, _ in
        checksum & 1 == 1 ? checksum >> 1 ^ 0xEDB8_8320 : checksum >> 1
      }
    }
  }
}
