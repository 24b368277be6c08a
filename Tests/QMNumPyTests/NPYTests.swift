import Foundation
import QMNumPy
import QMTensor
import QMTestSupport
import Testing

/// An array as `fixtures/generate/npy.py` describes it.
struct ExpectedArray: Decodable {
  let type: String
  let shape: [Int]
  /// Row-major, little-endian, in hexadecimal.
  let bytes: String

  func tensor() throws -> Tensor {
    let elementType = try #require(ElementType.allCases.first { $0.description == type })
    let digits = Array(bytes.utf8)
    let bytes = try stride(from: 0, to: digits.count, by: 2).map { index in
      try #require(UInt8(String(decoding: digits[index..<index + 2], as: UTF8.self), radix: 16))
    }
    return try Tensor(elementType, shape, buffer: Tensor([bytes.count], bytes).buffer)
  }
}

/// The codes that the refusals of fixtures carry.
func code(_ name: String) throws -> QMError.Code {
  switch name {
  case "malformed": .malformed
  case "unsupported": .unsupported
  default: try #require(nil, "no code \(name)")
  }
}

func fileBytes(_ path: String) throws -> [UInt8] {
  try Array(Data(contentsOf: URL(filePath: path)))
}

func buffer(of path: String) throws -> Buffer {
  let bytes = try fileBytes(path)
  return try Tensor([bytes.count], bytes).buffer
}

@Suite struct NPYTests {
  @Test func readsWhatNumPyReads() throws {
    let expected = try Fixtures.json("npy/expected.json", as: [String: ExpectedArray].self)
    #expect(expected.count >= 60)
    #expect(try Fixtures.names(in: "npy", ending: ".npy") == expected.keys.sorted())
    for (file, array) in expected {
      let path = Fixtures.path("npy/" + file)
      let wanted = try array.tensor()
      #expect(firstDifference(try NPY.read(path: path), wanted) == nil, "\(file)")
      let fromMemory = try Tensor(npyBytes: buffer(of: path))
      #expect(firstDifference(fromMemory, wanted) == nil, "\(file) in memory")
      #expect(try NPY.header(path: path).shape == array.shape, "\(file)")
    }
  }

  @Test func refusesWithTheCodeAndThePlace() throws {
    let expected = try Fixtures.json("npy/reject/expected.json", as: [String: String].self)
    #expect(try Fixtures.names(in: "npy/reject", ending: ".npy") == expected.keys.sorted())
    for (file, name) in expected {
      let path = Fixtures.path("npy/reject/" + file)
      let error = #expect(throws: QMError.self, "\(file)") { try NPY.read(path: path) }
      #expect(try error?.code == code(name), "\(file): \(String(describing: error))")
      #expect(error?.context.first == .file(path))
      #expect(error?.context.contains { if case .offset = $0 { true } else { false } } == true)
      let inMemory = #expect(throws: QMError.self, "\(file)") {
        try Tensor(npyBytes: buffer(of: path))
      }
      #expect(inMemory == error)
    }
  }

  /// What NumPy takes without a word: made in memory, so that no such file lies about.
  @Test func refusesWhatMeansNothingOrTwoThings() throws {
    let data = [UInt8](repeating: 0, count: 24)
    for (file, code) in [
      (npy("<f4", "(2, 3)", data + [0]), QMError.Code.malformed),
      (npy("<f4", "(0x2, 3)", data), .malformed), (npy("\\x3cf4", "(2, 3)", data), .malformed),
      (npy("|f4", "(2, 3)", data), .malformed),
      (
        npy(
          header: "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}\n",
          data), .malformed
      ),
      (
        npy(header: "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 3)}\n", data),
        .unsupported
      ),
    ] {
      let error = #expect(throws: QMError.self) {
        try Tensor(npyBytes: Tensor([file.count], file).buffer)
      }
      #expect(error?.code == code)
    }
    let right = npy("<f4", "(2, 3)", data)
    #expect(try Tensor(npyBytes: Tensor([right.count], right).buffer).shape == [2, 3])
  }

  @Test func everyCutOfAFileIsRefused() throws {
    let bytes = try NPY.encode(Tensor([3, 5], (0..<15).map(Float.init)))
    for count in 0..<bytes.count {
      let buffer = try Tensor([count], Array(bytes[..<count])).buffer
      #expect(throws: QMError.malformed("")) { try Tensor(npyBytes: buffer) }
    }
  }

  @Test func aChangedHeaderByteIsRefusedOrGivesSomeArray() throws {
    let bytes = try NPY.encode(Tensor([3, 5], (0..<15).map(Float.init)))
    for position in 0..<128 {
      for bit in 0..<8 {
        var changed = bytes
        changed[position] ^= 1 << bit
        let buffer = try Tensor([changed.count], changed).buffer
        do {
          let tensor = try Tensor(npyBytes: buffer)
          #expect(tensor.byteCount == 60)
        } catch {
          #expect([.malformed, .unsupported].contains(error.code), "byte \(position): \(error)")
        }
      }
    }
  }

  @Test func elementsThatAreInOrderShareTheBuffer() throws {
    let bytes = try NPY.encode(Tensor([3, 5], (0..<15).map(Float.init)))
    let buffer = try Tensor([bytes.count], bytes).buffer
    #expect(try Tensor(npyBytes: buffer).buffer === buffer)
    let behindOneByte = try Tensor([bytes.count + 1], [0] + bytes).buffer
    let tensor = try Tensor(npyBytes: behindOneByte, in: 1..<bytes.count + 1)
    #expect(tensor.buffer !== behindOneByte)
    #expect(tensor.elements(as: Float.self) == (0..<15).map(Float.init))
  }

  @Test func roundTrips() throws {
    var generator = SeededGenerator(seed: 1)
    for type in ElementType.allCases where type != .bfloat16 {
      for shape in [[], [1], [7], [3, 0, 2], [2, 3, 4, 5], [1, 1, 1]] {
        let tensor = try generator.bits(type, shape)
        let bytes = try NPY.encode(tensor)
        #expect((bytes.count - tensor.byteCount) % 64 == 0)
        let back = try Tensor(npyBytes: Tensor([bytes.count], bytes).buffer)
        #expect(firstDifference(back, tensor) == nil)
        try withTemporaryFolder { folder in
          try NPY.write(tensor, to: folder + "/a.npy")
          #expect(firstDifference(try NPY.read(path: folder + "/a.npy"), tensor) == nil)
          #expect(try fileBytes(folder + "/a.npy") == bytes)
        }
      }
    }
  }

  @Test func writesTheBytesThatNumPyWrites() throws {
    for name in ["float32_C_little", "int64_C_little", "bool_C_byte", "one_axis", "scalar"] {
      let path = Fixtures.path("npy/\(name).npy")
      let bytes = try NPY.encode(NPY.read(path: path))
      #expect(try fileBytes(path) == bytes, "\(name)")
    }
  }

  @Test func refusesToWriteWhatNumPyDoesNotHave() throws {
    let tensor = try Tensor(zeros: .bfloat16, [2])
    #expect(throws: QMError.unsupported("")) { try NPY.encode(tensor) }
  }

  @Test func limitsArrays() throws {
    var limits = NumPyLimits()
    limits.arrayByteCount = 95
    let path = Fixtures.path("npy/float32_C_little.npy")
    #expect(throws: QMError.unsupported("")) { try NPY.read(path: path, limits: limits) }
    limits.arrayByteCount = 96
    #expect(throws: Never.self) { try NPY.read(path: path, limits: limits) }
  }

  @Test func opensRegularFilesOnly() throws {
    #expect(throws: QMError.cannotOpen("")) { try NPY.read(path: Fixtures.path("nothing.npy")) }
    #expect(throws: QMError.cannotOpen("")) { try NPY.read(path: Fixtures.path("npy")) }
    #expect(throws: QMError.cannotOpen("")) { try NPY.read(path: "/dev/zero") }
    try withTemporaryFolder { folder in
      #expect(mkfifo(folder + "/pipe.npy", 0o600) == 0)
      #expect(throws: QMError.cannotOpen("")) { try NPY.read(path: folder + "/pipe.npy") }
    }
  }
}
