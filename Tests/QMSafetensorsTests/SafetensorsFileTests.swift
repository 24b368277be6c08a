import Foundation
import QMNumPy
import QMSafetensors
import QMTensor
import QMTestSupport
import Testing

/// The files of `fixtures/generate/safetensors_files.py`.
@Suite struct SafetensorsFileTests {
  @Test func whatTheFormatsLibraryWroteIsRead() throws {
    let file = try SafetensorsFile(path: Fixtures.path("safetensors/types.safetensors"))
    let expected = try NPZArchive(path: Fixtures.path("safetensors/types.npz"))
    let names: [String] = try Fixtures.json("safetensors/types.json")
    #expect(Set(file.names) == Set(names))
    #expect(file.names.count == 15)
    for (index, name) in names.enumerated() {
      let found = try file.tensor(named: name)
      #expect(found.isIdentical(to: try expected.tensor(named: "\(index)")), "\(name): \(found)")
    }
    #expect(throws: QMError.invalidInput("")) { try file.tensor(named: "__metadata__") }
  }

  @Test func whatWasWrittenIsReadAgain() throws {
    let arrays = try ElementType.allCases.map { type in
      (
        name: "\(type) \u{1} \"\\/é😀",
        tensor: try Tensor([2, 3], [1, 0, 1, 1, 0, 1] as [Float]).converted(to: type)
      )
    }
    try withTemporaryFolder { folder in
      let path = folder + "/w.safetensors"
      try SafetensorsWriter.write(arrays, to: path)
      let found = try SafetensorsFile.open(path).arrays()
      #expect(found.map(\.name) == arrays.map(\.name))
      #expect(zip(found, arrays).allSatisfy { $0.tensor.isIdentical(to: $1.tensor) })
    }
  }

  @Test func whatContradictsTheFormatIsRefused() throws {
    let codes: [String: String] = try Fixtures.json("safetensors/reject/expected.json")
    #expect(codes.count >= 20)
    for (name, code) in codes {
      let path = Fixtures.path("safetensors/reject/" + name)
      do {
        _ = try SafetensorsFile(path: path).arrays()
        Issue.record("\(name) was read")
      } catch {
        #expect(error.code == (code == "malformed" ? .malformed : .unsupported), "\(error)")
        #expect(error.context.first == .file(path))
      }
    }
  }

  @Test func aHeaderBeyondTheLimitIsRefused() throws {
    var limits = SafetensorsLimits.standard
    limits.headerByteCount = 100
    let path = Fixtures.path("safetensors/types.safetensors")
    #expect(throws: QMError.unsupported("")) { try SafetensorsFile(path: path, limits: limits) }
  }

  /// Any byte but 0 is true; in memory it becomes 1.
  @Test func truthHasManyBytes() throws {
    let header = #"{"b":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}}"#
    let bytes = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Array($0) }
    let content = bytes + Array(header.utf8) + [0, 1, 200]
    let file = try SafetensorsFile(bytes: Tensor([content.count], content).buffer)
    #expect(try file.tensor(named: "b").elements(as: Bool.self) == [false, true, true])
  }

  /// A folder may have a file for each sample, beside NumPy's.
  @Test func aFileForEachSample() throws {
    try withTemporaryFolder { folder in try readEachFile(in: folder) }
  }

  private func readEachFile(in folder: String) throws {
    func path(_ name: String) -> String { folder + "/" + name }
    func number(_ value: Float) throws -> Tensor { try Tensor([1], [value]) }
    try SafetensorsWriter.write([("x", number(1)), ("y", number(2))], to: path("a.b.safetensors"))
    try NPZArchive.write([("x", number(3)), ("y", number(4))], to: path("b.npz"))
    func samples(_ formats: [any CheckpointReader.Type]) throws -> SampleFolder {
      try SampleFolder(
        path: folder, inputs: [.init("x")], outputs: ["y"], formats: formats)
    }
    let both = try samples([SafetensorsFile.self])
    #expect(both.stems == ["a.b", "b"])
    for index in 0..<2 {
      let (input, output) = (Float(2 * index + 1), Float(2 * index + 2))
      #expect(try both.inputs(of: index)["x"]?.elements(as: Float.self) == [input])
      #expect(try both.expectedOutputs(of: index)["y"]?.elements(as: Float.self) == [output])
    }
    #expect(try samples([]).stems == ["b"])
    try SafetensorsWriter.write([("z", number(5))], to: path("c.safetensors"))
    let lacking = #expect(throws: QMError.self) {
      try samples([SafetensorsFile.self]).inputs(of: 2)
    }
    #expect(lacking?.code == .invalidInput && "\(lacking!)".contains("c.safetensors"))
    try SafetensorsWriter.write([("x", number(5))], to: path("b.safetensors"))
    let twice = #expect(throws: QMError.self) { try samples([SafetensorsFile.self]) }
    #expect(twice?.code == .invalidInput && "\(twice!)".contains("b.npz"))
  }
}
