import QMFormat
import QMTensor
import QMTestSupport
import Testing

struct ProgramEncodingTests {
  @Test(arguments: Opcode.allCases)
  func `An operation with any attributes reads as it was written`(opcode: Opcode) throws {
    for seed in 0..<16 as Range<UInt64> {
      var generator = ProgramGenerator(seed: seed &* 1009 &+ UInt64(opcode.rawValue))
      let program = try generator.program([opcode])
      let file = try QMFile(buffer(program.encodedWithoutValidation()))
      #expect(try Program(withoutValidating: file) == program, "seed \(seed)")
    }
  }

  @Test func `A program of all operations reads as it was written, and its names apart`() throws {
    for seed in 0..<20 as Range<UInt64> {
      var generator = ProgramGenerator(seed: seed)
      let program = try generator.program(Opcode.allCases.shuffled(using: &generator.random))
      let bytes = try program.encodedWithoutValidation()
      let file = try QMFile(buffer(bytes))
      #expect(try Program(withoutValidating: file) == program, "seed \(seed)")
      #expect(try program.encodedWithoutValidation() == bytes, "seed \(seed)")
      try file.container.checkDigest()
      let stripped = try QMFile(buffer(program.strippedOfNames().encodedWithoutValidation()))
      #expect(try Program(withoutValidating: stripped) == program.strippedOfNames())
      #expect(!stripped.container.sections.contains { $0.kind == .names })
    }
  }

  @Test func `A valid program is written, read and validated`() throws {
    let program = try smallNetwork()
    #expect(try Program(decoding: buffer(program.encoded())) == program)
  }

  @Test func `A program of constants alone is a file of weights`() throws {
    let tensor = try Tensor([3, 2], [1, 2, 3, 4, 5, 6.5] as [Float])
    let program = Program(
      values: [Program.Value(tensor.type, name: "w", constant: 0)],
      constants: [Program.Constant(tensor)], nodes: [], inputs: [],
      outputs: [Program.Output(name: "w", value: 0)])
    #expect(try Program(decoding: buffer(program.encoded())) == program)
  }

  @Test func `A listing knows the bytes of each constant`() throws {
    let file = try QMFile(buffer(smallNetwork().encoded()))
    let data = file.data.reduce(0) { $0 + $1.storedByteCount }
    #expect(file.storedByteCounts.reduce(0, +) == data)
    #expect(file.listing.constants.count == 6)
    #expect(file.listing.metadata.inputKeys == ["image"])
  }

  @Test func `Small constants of one kind share a section, and codes where it is smaller`() throws {
    let file = try QMFile(buffer(smallNetwork().encoded()))
    #expect(file.listing.dataSections.map(\.constants) == [[0, 3], [1], [2, 4, 5]])
    #expect(try sections(ofCodesWithin: [7, 1, 1]) == [[0], [1, 2]])
    #expect(try sections(ofCodesWithin: [7, 1, 7]) == [[0, 2], [1]])
  }

  /// The data sections of a program with 5000 codes within each limit.
  private func sections(ofCodesWithin limits: [Int8]) throws -> [[Int]] {
    var random = SeededGenerator(seed: 5)
    let constants = try limits.map { limit in
      Program.Constant(
        try Tensor([5000], (0..<5000).map { _ in Int8.random(in: -limit...limit, using: &random) }),
        .weights(bits: BitWidth(4)!, granularity: .perTensor))
    }
    let program = Program(
      values: constants.enumerated().map { .init($1.type, constant: $0) }, constants: constants,
      nodes: [], inputs: [], outputs: [.init(name: "w", value: 0)])
    return try QMFile(buffer(program.encodedWithoutValidation())).listing.dataSections
      .map(\.constants)
  }
}
