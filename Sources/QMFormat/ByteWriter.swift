import QMTensor

/// Writes the encodings that ``ByteReader`` reads.
struct ByteWriter {
  private(set) var bytes: [UInt8] = []
  /// Scale and zero point of the last output or type.
  var lastParameters: Quantization?

  mutating func byte(_ byte: UInt8) { bytes.append(byte) }

  mutating func append(_ more: some Sequence<UInt8>) { bytes.append(contentsOf: more) }

  mutating func integer(_ number: some FixedWidthInteger) {
    withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
  }

  /// - Precondition: `number` is not negative.
  mutating func varint(_ number: Int) {
    var rest = UInt64(number)
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
  }

  /// - Precondition: `number` is within −2³¹…2³¹−1.
  mutating func signed(_ number: Int) {
    varint(Int(UInt32(bitPattern: (Int32(number) << 1) ^ (Int32(number) >> 31))))
  }

  mutating func float(_ number: Float) { integer(number.bitPattern) }

  mutating func flag(_ flag: Bool) { bytes.append(flag ? 1 : 0) }

  mutating func code<Code: RawRepresentable>(_ code: Code) where Code.RawValue == UInt8 {
    bytes.append(code.rawValue)
  }

  mutating func string(_ string: String) {
    varint(string.utf8.count)
    bytes.append(contentsOf: string.utf8)
  }
}
