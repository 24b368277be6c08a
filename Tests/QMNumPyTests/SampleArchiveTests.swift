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

  @Test func oneArrayIsEnoughForOneInput() throws {
    try withTemporaryFolder { folder in
      try NPY.write(numbers([4, 3]), to: folder + "/data.npy")
      let samples = try SampleArchive(path: folder + "/data.npy", inputs: [x])
      #expect(samples.count == 4)
      #expect(try samples.inputs(of: 2)["x"]?.elements(as: Float.self) == [6, 7, 8])
      let error = #expect(throws: QMError.invalidInput("")) {
        try SampleArchive(path: folder + "/data.npy", inputs: [x, mask])
      }
      #expect(error?.description.contains("'data'") == true)
    }
  }

  @Test func arraysMayHaveOtherNamesThanTheInputs() throws {
    let arrays = [("X", try numbers([2, 3])), ("x", try numbers([2, 5]))]
    try withArchive(arrays) { path in
      let named = SampleInput("x", x.type, arrayName: "X")
      let samples = try SampleArchive(path: path, inputs: [named])
      let shape = try samples.inputs(of: 0)["x"]?.shape
      #expect(shape == [1, 3])
    }
  }

  /// Axes of extent 1 in front may be missing, or be there in addition.
  @Test func axesOfOneInFrontDoNotMatter() throws {
    func shape(_ given: [Int], for expected: Shape) throws -> [Int]? {
      let input = SampleInput("x", ValueType(.float32, expected))
      return try? input.tensor(from: numbers(given)).shape
    }
    #expect(try shape([3, 2, 2], for: [1, 3, 2, 2]) == [1, 3, 2, 2])
    #expect(try shape([3, 2, 2], for: [.free("n"), 3, 2, 2]) == [1, 3, 2, 2])
    #expect(try shape([1], for: []) == [])
    #expect(try shape([], for: [1]) == [1])
    #expect(try shape([1, 4], for: [4]) == [4])
    #expect(try shape([2, 4], for: [4]) == nil)
    #expect(try shape([2, 2], for: [2, 2, 2]) == nil)
    #expect(try shape([3, 2], for: [1, 2, 3]) == nil)
  }

  @Test func itemsFillAFixedBatch() throws {
    let fixed = SampleInput("x", ValueType(.float32, [4, 3]))
    try withArchive([("x", numbers([6, 3])), ("y", numbers([6, 2]))]) { path in
      let batches = try #require(
        try SampleBatches(of: [fixed]) { (inputs) throws(QMError) in
          try SampleArchive(path: path, inputs: inputs, outputs: ["y"])
        })
      #expect(batches.count == 2)
      #expect(batches.name(of: 1) == "0004…0005")
      let last = try #require(try batches.inputs(of: 1)["x"])
      #expect(last.shape == [4, 3])
      // The last item stands for those that are missing.
      #expect(last.elements(as: Float.self) == [12, 13, 14, 15, 16, 17, 15, 16, 17, 15, 16, 17])
      #expect(
        try batches.expectedOutputs(of: 1)["y"]?.elements(as: Float.self)
          == [8, 9, 10, 11, 10, 11, 10, 11])
      let parts = try batches.outputs(["y": numbers([4, 2]), "z": numbers([1])], of: 1)
      #expect(parts.map(\.name) == ["0004", "0005"])
      #expect(parts[1].outputs["y"]?.elements(as: Float.self) == [2, 3])
      #expect(parts[1].outputs["z"]?.shape == [1])
    }
  }

  @Test func aSmallerLastBatchIsFilled() throws {
    let fixed = SampleInput("x", ValueType(.float32, [4, 3]))
    try withTemporaryFolder { folder in
      try NPY.write(numbers([4, 3]), to: folder + "/a.npy")
      try NPY.write(numbers([2, 3]), to: folder + "/b.npy")
      func open(_ inputs: [SampleInput]) throws(QMError) -> any SampleSource {
        try SampleFolder(path: folder, inputs: inputs)
      }
      let batches = try #require(try SampleBatches(of: [fixed], open: open))
      #expect(batches.count == 2)
      #expect(
        try batches.inputs(of: 1)["x"]?.elements(as: Float.self)
          == [0, 1, 2, 3, 4, 5, 3, 4, 5, 3, 4, 5])
      let parts = try batches.outputs(["y": numbers([4])], of: 1)
      #expect(parts.map(\.name) == ["b"])
      #expect(parts[0].outputs["y"]?.elements(as: Float.self) == [0, 1])
      try NPY.write(numbers([5, 3]), to: folder + "/c.npy")
      let more = try #require(try SampleBatches(of: [fixed], open: open))
      #expect(throws: QMError.invalidInput("")) { try more.inputs(of: 2) }
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
