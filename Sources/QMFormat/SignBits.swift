/// Moves the sign of little-endian integers to their lowest bit and back: 0, −1, 1, −2, … and 0, 1, 2,
/// 3, …
enum SignBits {
  /// - Parameters:
  ///   - elements: integers of `size` bytes in two's complement.
  ///   - size: 2, 4 or 8.
  static func lowered(_ elements: [UInt8], _ size: Int) -> [UInt8] {
    var result = elements
    result.withUnsafeMutableBytes { bytes in
      switch size {
      case 2: change(bytes, as: UInt16.self) { $0 << 1 ^ (0 &- $0 >> 15) }
      case 4: change(bytes, as: UInt32.self) { $0 << 1 ^ (0 &- $0 >> 31) }
      default: change(bytes, as: UInt64.self) { $0 << 1 ^ (0 &- $0 >> 63) }
      }
    }
    return result
  }

  /// The inverse, in place.
  static func raise(_ elements: UnsafeMutableRawBufferPointer, _ size: Int) {
    switch size {
    case 2: change(elements, as: UInt16.self) { $0 >> 1 ^ (0 &- $0 & 1) }
    case 4: change(elements, as: UInt32.self) { $0 >> 1 ^ (0 &- $0 & 1) }
    default: change(elements, as: UInt64.self) { $0 >> 1 ^ (0 &- $0 & 1) }
    }
  }

  private static func change<Bits: FixedWidthInteger>(
    _ bytes: UnsafeMutableRawBufferPointer, as: Bits.Type, _ body: (Bits) -> Bits
  ) {
    let size = MemoryLayout<Bits>.size
    for offset in stride(from: 0, to: bytes.count - size + 1, by: size) {
      let bits = Bits(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Bits.self))
      bytes.storeBytes(of: body(bits).littleEndian, toByteOffset: offset, as: Bits.self)
    }
  }
}
