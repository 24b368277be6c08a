import QMTensor
import Testing

@Suite struct TensorTests {
  /// Bytes 0, 1, 2, ….
  private func counted(_ count: Int) throws -> Buffer {
    try Tensor([count], (0..<count).map { UInt8($0) }).buffer
  }

  @Test(arguments: 0..<9) func elementsAreReadFromAnyOffset(offset: Int) throws {
    let bytes = try counted(32)
    let tensor = try Tensor(.float32, [2, 2], buffer: bytes, byteOffset: offset)
    #expect(tensor.bytes.elementsEqual((offset..<offset + 16).map { UInt8($0) }))
    #expect(Int(bitPattern: tensor.bytes.baseAddress) % 4 == 0)
    let first = bytes.bytes.loadUnaligned(fromByteOffset: offset, as: Float.self)
    #expect(tensor.elements(as: Float.self)[0].bitPattern == first.bitPattern)
    // Where nothing has to move, nothing is copied.
    #expect((tensor.buffer === bytes) == (offset % 4 == 0))
  }

  @Test func extentsBeyondTheBufferAreRefused() throws {
    let bytes = try counted(32)
    #expect(throws: QMError.malformed("")) {
      try Tensor(.float32, [2, 2], buffer: bytes, byteOffset: 17)
    }
    #expect(throws: QMError.malformed("")) {
      try Tensor(.float32, [Int.max, 2], buffer: bytes)
    }
    #expect(throws: QMError.malformed("")) {
      try Tensor(.float32, [-1], buffer: bytes)
    }
  }

  @Test func elementsThatAreNotWrittenAreZero() throws {
    let tensor = try Tensor([3], as: Int16.self) { $0[1] = 7 }
    #expect(tensor.elements(as: Int16.self) == [0, 7, 0])
    #expect(throws: QMError.malformed("")) { try Tensor([Int.max, 2], as: Int16.self) { _ in } }
  }
}
