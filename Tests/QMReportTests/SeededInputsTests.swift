import QMFormat
import QMOperations
import QMReport
import QMRuntime
import QMTensor
import Testing

@Suite struct SeededInputsTests {
  @Test func axesOfOneNameHaveOneExtent() throws {
    let types: [ValueType] = [
      ValueType(.float32, [.free("batch"), .free("n")]),
      ValueType(.float32, [2, .free("batch"), .free("n")]),
    ]
    let program = Program(
      values: [
        .init(types[0], name: "x"), .init(types[1], name: "state"), .init(types[1], name: "y"),
      ], constants: [],
      nodes: [.init(.binary(Binary(.add)), inputs: [0, 1], outputs: [2])], inputs: [0, 1],
      outputs: [.init(name: "y", value: 2)])
    let tensors = try SeededInputs(Model(program)).tensors(seed: 1)
    #expect(tensors["state"]?.shape == [2, 1, 32])
  }

  /// Only rows of 7 fit, which nobody would try; the file says so.
  @Test func theSampleThatAFileRemembersIsTried() throws {
    func program(_ entries: [Program.Metadata.Entry]) throws -> Program {
      var metadata = Program.Metadata(producer: "test")
      metadata.entries = entries
      return Program(
        values: [
          .init(ValueType(.float32, [.free("n"), .free("m")]), name: "x"),
          .init(ValueType(.int32, [.free("k")]), name: "which"),
          .init(ValueType(.int64, [2]), constant: 0),
          .init(ValueType(.float32, [3, 7])),
          .init(ValueType(.float32, [.free(""), 7]), name: "y"),
        ], constants: [.init(try Tensor([2], [Int64(3), 7]))],
        nodes: [
          .init(.reshape(Reshape()), inputs: [0, 2], outputs: [3]),
          .init(.gather(Gather(axis: 0)), inputs: [3, 1], outputs: [4]),
        ], inputs: [0, 1], outputs: [.init(name: "y", value: 4)], metadata: metadata)
    }
    #expect(throws: QMError.self) { try SeededInputs(Model(program([]))) }
    let samples = [
      "x": try Tensor(zeros: .float32, [1, 21]), "which": try Tensor([2], [Int32(-1), 2]),
    ]
    let entries = try samples.map { try InputExample($1).entry(for: $0) }
    #expect(Set(entries.map(\.value)) == ["1x21", "2 = -1 2"])
    let bytes = try program(entries).encoded()
    let again = try Program(decoding: bytes.withUnsafeBytes(Buffer.copying))
    let tensors = try SeededInputs(Model(again)).tensors(seed: 1)
    #expect(tensors["x"]?.shape == [1, 21])
    #expect(tensors["which"]?.elements(as: Int32.self) == [-1, 2])
    let port = try Model(program([])).inputs[0]
    for damaged in ["", "1x", "9x9x9", "-1x21", "1x21 = 4", "1x2y"] {
      var metadata = Program.Metadata(producer: "test")
      metadata.entries = [.init("sample x", damaged)]
      #expect(InputExample(of: port, in: metadata) == nil, "\(damaged)")
    }
  }
}
