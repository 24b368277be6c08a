import Foundation
import QMNumPy
import QMTensor
import QMTestSupport
import Testing

@Suite struct NPZArchiveTests {
  @Test func readsWhatNumPyReads() throws {
    let expected = try Fixtures.json(
      "npz/expected.json", as: [String: [String: ExpectedArray]].self)
    #expect(expected.count >= 14)
    for (file, arrays) in expected {
      let path = Fixtures.path("npz/" + file)
      for archive in [try NPZArchive(path: path), try NPZArchive(bytes: buffer(of: path))] {
        #expect(archive.names.sorted() == arrays.keys.sorted(), "\(file)")
        for (name, array) in arrays {
          let found = try archive.tensor(named: name)
          #expect(firstDifference(found, try array.tensor()) == nil, "\(file): \(name)")
        }
      }
    }
  }

  @Test func readsAnArrayThatIsAllButNothing() throws {
    let archive = try NPZArchive(path: Fixtures.path("npz/one_array_of_zeros.npz"))
    let zeros = try archive.tensor(named: "z")
    #expect(zeros.shape == [512, 512])
    #expect(zeros.elements(as: Float.self).allSatisfy { $0 == 0 })
  }

  @Test func refusesWithTheCodeAndThePath() throws {
    let expected = try Fixtures.json("npz/reject/expected.json", as: [String: String].self)
    #expect(try Fixtures.names(in: "npz/reject", ending: ".npz") == expected.keys.sorted())
    for (file, name) in expected {
      let path = Fixtures.path("npz/reject/" + file)
      let error = #expect(throws: QMError.self, "\(file)") {
        try readAll(NPZArchive(path: path))
      }
      #expect(try error?.code == code(name), "\(file): \(String(describing: error))")
      #expect(error?.context.first == .file(path))
      #expect(throws: QMError.self, "\(file)") { try readAll(NPZArchive(bytes: buffer(of: path))) }
    }
  }

  private func readAll(_ archive: NPZArchive) throws(QMError) {
    for name in archive.names { _ = try archive.tensor(named: name) }
  }

  @Test(arguments: ["savez", "savez_compressed", "descriptor", "zip64_end_record"])
  func everyCutIsRefused(_ name: String) throws {
    let bytes = try fileBytes(Fixtures.path("npz/\(name).npz"))
    for count in 0..<bytes.count {
      let buffer = try Tensor([count], Array(bytes[..<count])).buffer
      #expect(throws: QMError.self) { try readAll(NPZArchive(bytes: buffer)) }
    }
  }

  /// What a flipped bit may change without being noticed: fields that nothing depends on (times,
  /// attributes, versions), and a name, which is read as another one.
  @Test(arguments: ["savez", "savez_compressed", "descriptor", "zip64_sizes"])
  func noFlippedBitChangesAnElement(_ name: String) throws {
    let bytes = try fileBytes(Fixtures.path("npz/\(name).npz"))
    let intact = try NPZArchive(bytes: Tensor([bytes.count], bytes).buffer)
    let arrays = try intact.names.map { name in try intact.tensor(named: name) }
    for position in bytes.indices {
      for bit in 0..<8 {
        var changed = bytes
        changed[position] ^= 1 << bit
        let buffer = try Tensor([changed.count], changed).buffer
        guard let archive = try? NPZArchive(bytes: buffer) else { continue }
        for name in archive.names {
          guard let tensor = try? archive.tensor(named: name) else { continue }
          #expect(
            arrays.contains { $0.isIdentical(to: tensor) }, "bit \(bit) of byte \(position)")
        }
      }
    }
  }

  @Test(arguments: [NPZArchive.Compression.stored, .deflated])
  func roundTrips(_ compression: NPZArchive.Compression) throws {
    var generator = SeededGenerator(seed: 2)
    var arrays: [(String, Tensor)] = []
    for type in ElementType.allCases where type != .bfloat16 {
      arrays.append(("block/\(type) ü", try generator.bits(type, [3, 5])))
    }
    arrays.append(("empty", try Tensor(zeros: .float32, [0])))
    arrays.append(("zeros", try Tensor(zeros: .float32, [1000, 100])))
    let bytes = try NPZArchive.encode(arrays, compression: compression)
    #expect((bytes.count < 100_000) == (compression == .deflated))
    #expect(try NPZArchive.encode(arrays, compression: compression) == bytes)
    let archive = try NPZArchive(bytes: Tensor([bytes.count], bytes).buffer)
    #expect(archive.names == arrays.map(\.0))
    for (name, tensor) in arrays {
      #expect(firstDifference(try archive.tensor(named: name), tensor) == nil)
    }
    try withTemporaryFolder { folder in
      try NPZArchive.write(arrays, to: folder + "/a.npz", compression: compression)
      #expect(try fileBytes(folder + "/a.npz") == bytes)
    }
  }

  @Test func writesMoreEntriesThanTheShortRecordCounts() throws {
    let tensor = try Tensor([1], [UInt8(1)])
    let arrays = (0..<70_000).map { ("\($0)", tensor) }
    let bytes = try NPZArchive.encode(arrays)
    let archive = try NPZArchive(bytes: Tensor([bytes.count], bytes).buffer)
    #expect(archive.names.count == 70_000)
    #expect(firstDifference(try archive.tensor(named: "69999"), tensor) == nil)
  }

  @Test func refusesNamesThatItCouldNotReadBack() throws {
    let tensor = try Tensor([1], [Float(1)])
    for names in [[""], ["a", "a"], ["a\0b"], [String(repeating: "a", count: 65_532)]] {
      #expect(throws: QMError.invalidInput("")) {
        try NPZArchive.encode(names.map { ($0, tensor) })
      }
    }
  }

  @Test func anUnknownNameIsAnErrorThatListsTheNames() throws {
    let archive = try NPZArchive(path: Fixtures.path("npz/savez.npz"))
    let error = #expect(throws: QMError.self) { try archive.tensor(named: "c") }
    #expect(error == .invalidInput(""))
    #expect(error?.message.contains("'a', 'b'") == true)
  }

  @Test func limitsAreAValue() throws {
    let path = Fixtures.path("npz/savez.npz")
    var limits = NumPyLimits()
    limits.entryCount = 1
    #expect(throws: QMError.unsupported("")) { try NPZArchive(path: path, limits: limits) }
    limits = NumPyLimits()
    limits.arrayByteCount = 100
    #expect(throws: QMError.unsupported("")) {
      try readAll(NPZArchive(path: path, limits: limits))
    }
    limits = NumPyLimits()
    limits.expandedByteCount = 1 << 20
    let zeros = Fixtures.path("npz/one_array_of_zeros.npz")
    #expect(throws: QMError.unsupported("")) { try NPZArchive(path: zeros, limits: limits) }
    limits.expansion = 1032
    #expect(throws: Never.self) { try NPZArchive(path: zeros, limits: limits) }
  }

  @Test func aFileThatShrinksIsAnError() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/a.npz"
      try NPZArchive.write([("a", Tensor(zeros: .float32, [1000]))], to: path)
      let archive = try NPZArchive(path: path)
      #expect(truncate(path, 100) == 0)
      #expect(throws: QMError.malformed("")) { try archive.tensor(named: "a") }
    }
  }
}
