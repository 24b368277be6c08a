import Foundation
import QMNumPy
import QMTensor
import QMTestSupport
import Testing

@Suite struct SampleFolderTests {
  private func write(_ folder: String, _ files: [String: Tensor]) throws {
    for (name, tensor) in files { try NPY.write(tensor, to: folder + "/" + name) }
  }

  private func index(_ stem: String, in samples: SampleFolder) throws -> Int {
    try #require(samples.stems.firstIndex(of: stem))
  }

  private func loaded(_ stem: String, of samples: SampleFolder) throws -> [String: Tensor] {
    try samples.inputs(of: index(stem, in: samples))
  }

  private func expected(_ stem: String, of samples: SampleFolder) throws -> [String: Tensor] {
    try samples.expectedOutputs(of: index(stem, in: samples))
  }

  private func scalar(_ value: Float) throws -> Tensor { try Tensor([1], [value]) }

  @Test func keys() {
    #expect(sampleKey(for: "save_infer_model/scale_0.tmp_1") == "save_infer_model_scale_0_tmp_1")
    #expect(sampleKey(for: "größe:0") == "gr__e_0")
    #expect(sampleKey(for: "e\u{301}") == "e_")
  }

  @Test func oneInputWithExpectedOutputs() throws {
    try withTemporaryFolder { folder in
      try write(
        folder,
        [
          "b.npy": scalar(2), "a.npy": scalar(1), "Z.npy": scalar(0), "c.d.npy": scalar(3),
          "a.out_0.npy": scalar(10), "b.other.npy": scalar(5), ".hidden.npy": scalar(9),
        ])
      try "x".write(toFile: folder + "/labels.json", atomically: true, encoding: .utf8)
      let samples = try SampleFolder(path: folder, inputs: [.init("x")], outputs: ["out:0"])
      #expect(samples.stems == ["Z", "a", "b", "b.other", "c.d"])
      #expect((0..<samples.count).map(samples.name(of:)) == samples.stems)
      #expect(try loaded("a", of: samples)["x"]?.elements(as: Float.self) == [1])
      #expect(try expected("a", of: samples)["out:0"]?.elements(as: Float.self) == [10])
      #expect(try loaded("c.d", of: samples)["x"]?.elements(as: Float.self) == [3])
      #expect(try expected("b", of: samples).isEmpty)
    }
  }

  @Test func oneInputUnderItsKey() throws {
    try withTemporaryFolder { folder in
      try write(folder, ["a.x.npy": scalar(1)])
      let samples = try SampleFolder(path: folder, inputs: [.init("x")])
      #expect(samples.stems == ["a"])
      try write(folder, ["a.npy": scalar(1)])
      #expect(throws: QMError.invalidInput("")) {
        try SampleFolder(path: folder, inputs: [.init("x")])
      }
    }
  }

  @Test func severalInputs() throws {
    try withTemporaryFolder { folder in
      try write(
        folder,
        [
          "0.a_b.npy": scalar(1), "0.c.npy": scalar(2), "0.y.npy": scalar(3),
          "note.npy": scalar(9), "0.z.npy": scalar(9),
        ])
      let inputs = [SampleInput("a/b"), .init("c")]
      let samples = try SampleFolder(path: folder, inputs: inputs, outputs: ["y"])
      #expect(samples.stems == ["0"])
      #expect(
        try samples.inputs(of: 0).mapValues { $0.elements(as: Float.self) } == [
          "a/b": [1], "c": [2],
        ])
      #expect(try samples.expectedOutputs(of: 0)["y"]?.elements(as: Float.self) == [3])

      try write(folder, ["1.c.npy": scalar(2)])
      let error = #expect(throws: QMError.self) { try SampleFolder(path: folder, inputs: inputs) }
      #expect(error == .invalidInput(""))
      #expect(error?.description.contains("sample '1'") == true)
      #expect(error?.description.contains("1.a_b.npy") == true)
    }
  }

  @Test func archives() throws {
    try withTemporaryFolder { folder in
      let arrays = [("a/b", try scalar(1)), ("c", try scalar(2)), ("y", try scalar(3))]
      try NPZArchive.write(arrays, to: folder + "/0.npz", compression: .deflated)
      let keyed = [("a_b", try scalar(4)), ("c", try scalar(5))]
      try NPZArchive.write(keyed, to: folder + "/1.npz")
      let inputs = [SampleInput("a/b"), .init("c")]
      let samples = try SampleFolder(path: folder, inputs: inputs, outputs: ["y"])
      #expect(samples.stems == ["0", "1"])
      #expect(try loaded("0", of: samples)["a/b"]?.elements(as: Float.self) == [1])
      #expect(try expected("0", of: samples)["y"]?.elements(as: Float.self) == [3])
      #expect(try loaded("1", of: samples)["a/b"]?.elements(as: Float.self) == [4])

      let others = try SampleFolder(path: folder, inputs: inputs + [.init("d")])
      let error = #expect(throws: QMError.self) { try loaded("0", of: others) }
      #expect(error == .invalidInput(""))
      #expect(error?.description.contains("0.npz") == true)

      try write(folder, ["0.a_b.npy": scalar(1)])
      #expect(throws: QMError.invalidInput("")) { try SampleFolder(path: folder, inputs: inputs) }
    }
  }

  @Test func keysThatCoincideNeedArchives() throws {
    try withTemporaryFolder { folder in
      let inputs = [SampleInput("a/b"), .init("a.b")]
      let arrays = [("a/b", try scalar(1)), ("a.b", try scalar(2))]
      try NPZArchive.write(arrays, to: folder + "/0.npz")
      let samples = try SampleFolder(path: folder, inputs: inputs)
      #expect(
        try samples.inputs(of: 0).mapValues { $0.elements(as: Float.self) } == [
          "a/b": [1], "a.b": [2],
        ])
      try write(folder, ["1.a_b.npy": scalar(1)])
      let error = #expect(throws: QMError.self) { try SampleFolder(path: folder, inputs: inputs) }
      #expect(error == .unsupported(""))
      #expect(error?.message.contains(".npz") == true)
    }
  }

  @Test func arraysAreCheckedAgainstTheInput() throws {
    try withTemporaryFolder { folder in
      try write(folder, ["a.npy": Tensor([2, 3], [1, 2, 3, 4, 5, 6] as [Int64])])
      let inputs = [SampleInput("x", ValueType(.float32, [.free("n"), 3]))]
      let found = try SampleFolder(path: folder, inputs: inputs).inputs(of: 0)["x"]
      #expect(found?.elements(as: Float.self) == [1, 2, 3, 4, 5, 6])

      try write(folder, ["b.npy": Tensor(zeros: .float32, [2, 4])])
      try write(folder, ["c.npy": Tensor(zeros: .float32, [0, 4])])
      try write(folder, ["d.npy": Tensor([1, 3], [1, 1e300, 1])])
      try write(folder, ["e.npy": Tensor([1, 3], [1, Float.nan, 1])])
      let samples = try SampleFolder(path: folder, inputs: inputs)
      for stem in ["b", "c", "d", "e"] {
        let error = #expect(throws: QMError.self) { try loaded(stem, of: samples) }
        #expect(error == .invalidInput(""))
        #expect(error?.context.first == .file("\(folder)/\(stem).npy"))
      }
    }
  }

  @Test func aFolderWithoutSamplesIsAnError() throws {
    try withTemporaryFolder { folder in
      #expect(throws: QMError.invalidInput("")) {
        try SampleFolder(path: folder, inputs: [.init("x")])
      }
      #expect(throws: QMError.cannotOpen("")) {
        try SampleFolder(path: folder + "/nothing", inputs: [.init("x")])
      }
      try write(folder, ["a.npy": scalar(1)])
      #expect(throws: QMError.cannotOpen("")) {
        try SampleFolder(path: folder + "/a.npy", inputs: [.init("x")])
      }
    }
  }

  @Test func resultsAreReadBackAsExpectedOutputs() throws {
    try withTemporaryFolder { folder in
      try write(folder, ["a.npy": scalar(1)])
      let results = try ResultFolder(path: folder, outputs: ["y/0"])
      // Stems may come from files: none leads out of the folder.
      for stem in ["../a", "/tmp/a", "a/b", "a\0b"] {
        let error = #expect(throws: QMError.self) {
          try results.write(["y/0": Tensor([1], [1 as Float])], stem: stem)
        }
        #expect(error?.code == .cannotWrite)
      }
      try results.write(["y/0": scalar(7)], stem: "a")
      let samples = try SampleFolder(path: folder, inputs: [.init("x")], outputs: ["y/0"])
      #expect(samples.stems == ["a"])
      #expect(try expected("a", of: samples)["y/0"]?.elements(as: Float.self) == [7])
      #expect(throws: QMError.unsupported("")) {
        try ResultFolder(path: folder, outputs: ["y/0", "y.0"])
      }
      #expect(throws: QMError.cannotWrite("")) {
        try ResultFolder(path: folder + "/a.npy", outputs: ["y"])
      }
    }
  }

  @Test(arguments: ["digits_mlp", "digits_cnn", "ppocr_cls"])
  func fixtureModels(_ name: String) throws {
    let samples = try SampleFolder(
      path: Fixtures.path("models/\(name)/eval"), inputs: [.init("x")])
    let labels = try FileManager.default.contentsOfDirectory(
      atPath: Fixtures.path("models/\(name)/expected"))
    #expect(samples.stems.count == labels.count)
    #expect(try samples.inputs(of: 0)["x"]?.elementType == .float32)
  }
}
