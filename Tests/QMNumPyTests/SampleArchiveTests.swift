import QMNumPy
import QMTensor
import QMTestSupport
import Testing

@Suite struct SampleArchiveTests {
  private let x = SampleInput("x", ValueType(.float32, [.free("n"), 3]))
  private let mask = SampleInput("in/mask", ValueType(.int64, [2]))

  private func withArchive(
    _ arrays: [(String, Tensor)], _ body: (_ path: String) throws -> Void
  ) throws {
    try withTemporaryFolder { folder in
      try NPZArchive.write(arrays, to: folder + "/samples.npz")
      try body(folder + "/samples.npz")
    }
  }

  private func numbers(_ shape: [Int]) throws -> Tensor {
    try Tensor(shape, (0..<shape.reduce(1, *)).map { Float($0) })
  }

  @Test func theFirstAxisCountsTheSamples() throws {
    let arrays = [
      ("x", try numbers([5, 3])), ("in_mask", try Tensor([5, 2], (0..<10).map { Int64($0) })),
      ("y", try numbers([5, 4])), ("labels", try numbers([9])),
    ]
    try withArchive(arrays) { path in
      let archive = try SampleArchive(path: path, inputs: [x, mask], outputs: ["y", "z"])
      #expect(archive.count == 5)
      #expect(archive.name(of: 3) == "0003")
      let (inputs, expected) = (try archive.inputs(of: 3), try archive.expectedOutputs(of: 3))
      // As many axes as the input: an item with a leading axis; one more: the item.
      #expect(inputs["x"]?.shape == [1, 3])
      #expect(inputs["x"]?.elements(as: Float.self) == [9, 10, 11])
      #expect(inputs["in/mask"]?.shape == [2])
      #expect(inputs["in/mask"]?.elements(as: Int64.self) == [6, 7])
      #expect(expected.keys.sorted() == ["y"])
      #expect(expected["y"]?.elements(as: Float.self) == [12, 13, 14, 15])
    }
  }

  @Test func aLoneArrayMayHaveAnyName() throws {
    try withArchive([("images", numbers([2, 3]))]) { path in
      let inputs = try SampleArchive(path: path, inputs: [x]).inputs(of: 1)
      #expect(inputs["x"]?.shape == [1, 3])
    }
  }

  @Test func whatDoesNotFitIsRefusedByName() throws {
    func refusal(_ arrays: [(String, Tensor)], _ inputs: [SampleInput]) throws -> String {
      var message = ""
      try withArchive(arrays) { path in
        let error = #expect(throws: QMError.invalidInput("")) {
          try SampleArchive(path: path, inputs: inputs).inputs(of: 0)
        }
        message = error?.description ?? ""
      }
      return message
    }
    #expect(try refusal([("a", numbers([5, 3])), ("b", numbers([5, 3]))], [x]).contains("'x'"))
    #expect(
      try refusal([("x", numbers([5, 3])), ("in_mask", numbers([4, 2]))], [x, mask])
        .contains("in_mask"))
    #expect(try refusal([("x", numbers([5, 4]))], [x]).contains("[1, 4]"))
    #expect(try refusal([("x", numbers([0, 3]))], [x]).contains("first axis"))
    #expect(try refusal([("x", try Tensor([], [Float(1)]))], [x]).contains("first axis"))
  }
}
