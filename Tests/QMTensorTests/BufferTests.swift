import QMTensor
import Testing

@Suite struct BufferTests {
  @Test func ownedMemoryIsAlignedAndZero() throws {
    for byteCount in [0, 1, 63, 64, 65, 4096, 1 << 15, 1 << 21] {
      for buffer in [
        try Buffer.allocate(byteCount: byteCount), try Buffer.pages(byteCount: byteCount),
        try Buffer.zeros(byteCount: byteCount),
      ] {
        #expect(buffer.count == byteCount)
        #expect(Int(bitPattern: buffer.base) % Buffer.alignment == 0)
        #expect(buffer.bytes.allSatisfy { $0 == 0 })
      }
    }
  }

  @Test func copiesAreAlignedAndEqual() throws {
    for byteCount in [0, 1, 67, 1 << 18] {
      let bytes = (0..<byteCount).map { UInt8(truncatingIfNeeded: $0 * 7) }
      let (one, two) = try bytes.withUnsafeBytes { bytes in
        (try Buffer.copying(bytes), try Buffer.copying(bytes))
      }
      #expect(Array(one.bytes) == bytes)
      #expect(Int(bitPattern: one.base) % Buffer.alignment == 0)
      #expect(one.isIdentical(to: two))
      guard byteCount > 0 else { continue }
      two.base.storeBytes(of: bytes[byteCount - 1] ^ 1, toByteOffset: byteCount - 1, as: UInt8.self)
      #expect(!one.isIdentical(to: two))
    }
  }

  @Test func moreThanTheMachineHasIsRefused() {
    for byteCount in [Int.max, .max - 1, .max - Buffer.alignment, 1 << 60] {
      #expect(throws: QMError.outOfMemory(byteCount: byteCount)) {
        try Buffer.allocate(byteCount: byteCount)
      }
    }
  }

  @Test func whatIsOwnedIsCounted() async {
    // A process of its own: buffers are counted for all threads together.
    await #expect(processExitsWith: .success) {
      let before = Buffer.heldByteCount
      do {
        let heap = try Buffer.allocate(byteCount: 1000)
        let pages = try Buffer.pages(byteCount: 1 << 20)
        let zeros = try Buffer.zeros(byteCount: 1 << 20)
        precondition(Buffer.heldByteCount == before + 1000 + (1 << 20))
        withExtendedLifetime((heap, pages, zeros)) {}
      }
      precondition(Buffer.heldByteCount == before)
      precondition(Buffer.mostHeldByteCount == before + 1000 + (1 << 20))
    }
  }
}
