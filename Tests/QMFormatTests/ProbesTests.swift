import QMFormat
import QMOperations
import QMTensor
import QMTestSupport
import Testing

/// Probes as the bytes of a file; `fixtures/qm` has malformed ones.
struct ProbesTests {
  /// `y = relu(x)`, x `[n, 2]`, and a chosen `k`, int64 `[]`.
  private func program() throws -> Program {
    let x = ValueType(.float32, Shape([.free("n"), .fixed(2)]))
    let k = ValueType(.int64, [])
    return Program(
      values: [.init(x, name: "x"), .init(k, name: "k"), .init(x, name: "y")], constants: [],
      nodes: [.init(.unary(Unary(.relu)), inputs: [0], outputs: [2])], inputs: [0, 1],
      outputs: [.init(name: "y", value: 2), .init(name: "k", value: 1)])
  }

  private func probe(rows: Int, _ seed: UInt64 = 1) throws -> Program.Probes.Probe {
    var generator = SeededGenerator(seed: seed)
    let (x, y) = (try generator.tensor([rows, 2]), try generator.tensor([rows, 2]))
    let k = try Tensor([], [Int64(seed)])
    return .init(inputs: [x, k], floatOutputs: [y, k], outputs: [y, k])
  }

  @Test func `Probes are read as they were written`() throws {
    let program = try program()
    for count in [1, 5, 64] {
      let probes = Program.Probes(
        try (0..<count).map { try probe(rows: $0 % 3, UInt64($0)) }, areInputsMade: count == 5)
      let bytes = try program.encoded(probes: probes)
      let file = try QMFile(buffer(bytes))
      #expect(try file.probes() == probes)
      #expect(try Program(file) == program)
      try file.container.checkDigest()
      #expect(try program.encoded(probes: probes, threads: ThreadPool(threadCount: 2)) == bytes)
      // They are content: the digest tells files with other probes apart.
      #expect(try file.container.digest != Container(buffer(program.encoded())).digest)
    }
    #expect(try QMFile(buffer(program.encoded())).probes() == nil)
  }

  /// SHA-256 of `02 01 02`, the numbers 1 and 2 as float32, `00` and 7 as int64, by Python's hashlib.
  @Test func `The digest is of ranks, extents and elements`() throws {
    let outputs = [
      try Tensor([1, 2], [1, 2] as [Float]), try Tensor([], [Int64(7)]),
    ]
    #expect(
      Program.Probes.digest(of: outputs).map { String($0, radix: 16) }.joined(separator: " ")
        == "7e 21 44 90 d3 bb cd d3 ab fe b5 22 5f b9 e2 c3 "
        + "de 57 9e f0 e8 88 bb 75 23 b0 80 2b 1c 8d d9 12")
  }

  @Test func `Probes of another program are refused`() throws {
    let program = try program()
    let good = try probe(rows: 1)
    let row = try Tensor([1, 3], [1, 2, 3] as [Float])
    let double = try Tensor([1, 2], [1, 2] as [Double])
    for (inputs, outputs) in [
      ([good.inputs[0]], good.floatOutputs), (good.inputs, [good.floatOutputs[0]]),
      ([row, good.inputs[1]], good.floatOutputs), ([double, good.inputs[1]], good.floatOutputs),
      (good.inputs, [row, good.inputs[1]]),
    ] {
      let other = Program.Probes.Probe(inputs: inputs, floatOutputs: outputs, outputs: [])
      #expect(throws: QMError.invalidInput("")) {
        try program.encoded(probes: .init([good, other], areInputsMade: false))
      }
    }
    for count in [0, 65] {
      let probes = [Program.Probes.Probe](repeating: good, count: count)
      #expect(throws: QMError.usage("")) {
        try program.encoded(probes: .init(probes, areInputsMade: false))
      }
    }
    let large = try probe(rows: 1 << 20)
    #expect(throws: QMError.unsupported("")) {
      try program.encoded(probes: .init([large], areInputsMade: false))
    }
  }

  @Test func `A program is opened without its probes, but their damage is found`() throws {
    var bytes = try program().encoded(probes: .init([probe(rows: 40)], areInputsMade: false))
    let section = try #require(
      try Container(buffer(bytes)).sections.first { $0.kind == .probes })
    bytes[section.offset + 5] ^= 1
    #expect(throws: QMError.malformed("")) { try Program(decoding: buffer(bytes)) }
  }
}
