import QMNumPy
import QMTensor
import QMTestSupport
import Testing

@Suite struct CheckpointReaderTests {
  private func numbers(_ count: Int) throws -> Tensor {
    try Tensor([count], (0..<count).map(Float.init))
  }

  @Test func anArrayHasTheNameOfItsFile() throws {
    try withTemporaryFolder { folder in
      for (file, name) in [("w.npy", "w"), ("W.NPY", "W"), ("a.b", "a.b"), (".npy", "array")] {
        try NPY.write(numbers(3), to: folder + "/" + file)
        let reader = try NPYArray.open(folder + "/" + file)
        #expect(reader.names == [name])
        #expect(try reader.arrays().map(\.tensor.shape) == [[3]])
        let error = #expect(throws: QMError.invalidInput("")) { try reader.tensor(named: "other") }
        #expect(error?.context == [.file("\(folder)/\(file)")])
      }
    }
  }

  @Test func anArchiveGivesItsArraysInOrder() throws {
    try withTemporaryFolder { folder in
      try NPZArchive.write([("b", numbers(2)), ("a", numbers(1))], to: folder + "/w.npz")
      let arrays = try NPZArchive.open(folder + "/w.npz").arrays()
      #expect(arrays.map(\.name) == ["b", "a"])
      #expect(arrays.map(\.tensor.elementCount) == [2, 1])
    }
  }

  @Test func formatsAreToldApartByTheirFirstBytes() throws {
    try withTemporaryFolder { folder in
      try NPY.write(numbers(1), to: folder + "/a")
      try NPZArchive.write([("a", numbers(1))], to: folder + "/z")
      for (file, isArchive) in [("a", false), ("z", true)] {
        let bytes = try Buffer.reading(path: folder + "/" + file)
        let start = withExtendedLifetime(bytes) { Array(bytes.bytes.prefix(8)) }
        #expect(NPZArchive.recognizes(start) == isArchive)
        #expect(NPYArray.recognizes(start) == !isArchive)
      }
      #expect(!NPYArray.recognizes([]) && !NPZArchive.recognizes([0x50]))
    }
  }
}
