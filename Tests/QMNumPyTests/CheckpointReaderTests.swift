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

  /// What ml_dtypes, which JAX and MLX use, makes of a bfloat16 array.
  @Test func twoBytesWithoutATypeAreBFloat16() throws {
    let bits: [UInt8] = [0x80, 0x3f, 0x20, 0xc0, 0x00, 0x00]
    for (type, bytes) in [
      ("<V2", bits), ("|V2", bits), ("V2", bits), (">V2", [0x3f, 0x80, 0xc0, 0x20, 0, 0]),
    ] {
      let content = npy(type, "(3,)", bytes)
      let tensor = try Tensor(npyBytes: Tensor([content.count], content).buffer)
      #expect(tensor.elementType == .bfloat16)
      #expect(try tensor.converted(to: .float32).elements(as: Float.self) == [1, -2.5, 0])
    }
    // One byte may be any of several float types.
    let content = npy("<V1", "(3,)", [1, 2, 3])
    #expect(throws: QMError.unsupported("")) {
      try Tensor(npyBytes: Tensor([content.count], content).buffer)
    }
  }

  private func archive(_ entries: TestArchive.Entry...) throws -> NPZArchive {
    var archive = TestArchive()
    archive.entries = entries
    return try NPZArchive(bytes: Tensor([archive.bytes.count], archive.bytes).buffer)
  }

  @Test(arguments: [false, true]) func theContentMakesAnArray(isDeflated: Bool) throws {
    let array = try NPY.encode(numbers(3))
    let found = try archive(
      .init("w", array, isDeflated: isDeflated), .init("b.npy", array),
      .init("README", Array("hello".utf8)), .init("folder/", []))
    #expect(found.names == ["w", "b"])
    #expect(try found.tensor(named: "w").elements(as: Float.self) == [0, 1, 2])
  }

  @Test(arguments: [false, true]) func textsAndObjectsAreLeftOut(isDeflated: Bool) throws {
    let found = try archive(
      .init("names.npy", npy("<U2", "(1,)", [65, 0, 0, 0, 66, 0, 0, 0]), isDeflated: isDeflated),
      .init("w.npy", NPY.encode(numbers(2)), isDeflated: isDeflated),
      .init("state.npy", npy("|O", "()", [0x80, 4, 0x4e, 0x2e]), isDeflated: isDeflated),
      .init("bytes.npy", npy("|S3", "()", [65, 66, 67]), isDeflated: isDeflated))
    #expect(found.namesWithoutNumbers == ["names", "state", "bytes"])
    #expect(try found.arrays().map(\.name) == ["w"])
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
