import QMOperations
import QMTensor

/// The content digest of a container. It is computed from the inflated sections, and so does not
/// depend on how they are deflated.
struct ContentDigest {
  private var digest = Digest()

  mutating func append(_ kind: Container.Kind, _ inflated: UnsafeRawBufferPointer) {
    var section = Digest()
    section.update(inflated)
    var writer = ByteWriter()
    writer.byte(kind.rawValue)
    writer.integer(UInt64(inflated.count))
    writer.append(section.finished())
    writer.bytes.withUnsafeBytes { digest.update($0) }
  }

  func finished() -> [UInt8] { digest.finished() }
}

extension Container {
  /// The bytes of a file with the given sections, in order.
  /// - Parameters:
  ///   - boundaries: for each section, where the distribution of its bytes may change; for sections
  ///     without an entry, nowhere.
  ///   - threads: deflate the sections in parallel.
  /// - Throws: `outOfMemory`.
  @_spi(Testing) public static func file(
    of contents: [(kind: Kind, bytes: [UInt8])], boundaries: [Int: [Int]] = [:],
    threads: ThreadPool = ThreadPool(threadCount: 1)
  ) throws(QMError) -> [UInt8] {
    var table = ByteWriter()
    var stored: [[UInt8]] = []
    var digest = ContentDigest()
    let smallest = try threads.map(contents.count) { (index) throws(QMError) in
      try Deflate.smallest(contents[index].bytes, boundaries: boundaries[index] ?? [])
    }
    for ((kind, bytes), deflated) in zip(contents, smallest) {
      bytes.withUnsafeBytes { digest.append(kind, $0) }
      let isSmaller = deflated.count < bytes.count
      let section = isSmaller ? deflated : bytes
      stored.append(section)
      table.byte(kind.rawValue)
      table.code(isSmaller ? Encoding.deflated : Encoding.stored)
      table.varint(section.count)
      table.varint(bytes.count)
      table.integer(section.withUnsafeBytes { Deflate.crc32($0) })
    }
    var file = ByteWriter()
    file.append(magic)
    file.integer(writeVersion)
    file.integer(readVersion)
    file.integer(UInt32(table.bytes.count))
    file.integer(UInt32(contents.count))
    file.integer(UInt32(0))
    file.integer(
      UInt64(stored.reduce(headerByteCount + table.bytes.count) { $0 + $1.count }))
    file.append(digest.finished())
    let checksum = file.bytes.withUnsafeBytes { Deflate.crc32($0) }
    file.integer(table.bytes.withUnsafeBytes { Deflate.crc32($0, from: checksum) })
    file.append(table.bytes)
    for section in stored { file.append(section) }
    return file.bytes
  }

  /// Recomputes the checksums and the digest of a damaged file, as far as its table can be read.
  /// Tests use it to get damaged content past the checksums and to the code that decodes it.
  @_spi(Testing) public static func reseal(_ damaged: [UInt8]) -> [UInt8] {
    var bytes = damaged
    guard bytes.count >= headerByteCount else { return bytes }
    func crc32(_ range: Range<Int>, from start: UInt32 = 0) -> UInt32 {
      bytes.withUnsafeBytes {
        Deflate.crc32(UnsafeRawBufferPointer(rebasing: $0[range]), from: start)
      }
    }
    func store(_ checksum: UInt32, at offset: Int) {
      withUnsafeBytes(of: checksum.littleEndian) {
        bytes.replaceSubrange(offset..<offset + 4, with: $0)
      }
    }
    let claimed = bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 12, as: UInt32.self) }
    let tableEnd = min(headerByteCount + Int(UInt32(littleEndian: claimed)), bytes.count)
    let table = Array(bytes[headerByteCount..<tableEnd])
    table.withUnsafeBytes { table in
      var reader = ByteReader(table, limits: .standard)
      var offset = tableEnd
      while reader.remaining >= smallestRowByteCount,
        (try? reader.take(2)) != nil, let stored = try? reader.varint(),
        (try? reader.varint()) != nil, reader.remaining >= 4, stored <= bytes.count - offset
      {
        store(crc32(offset..<offset + stored), at: headerByteCount + reader.offset)
        _ = try? reader.take(4)
        offset += stored
      }
    }
    func sealHeader() {
      let header = crc32(0..<checksumOffset)
      store(crc32(headerByteCount..<tableEnd, from: header), at: checksumOffset)
    }
    sealHeader()
    if let digest = try? Container(bytes.withUnsafeBytes(Buffer.copying)).contentDigest() {
      bytes.replaceSubrange(digestOffset..<digestOffset + digest.count, with: digest)
      sealHeader()
    }
    return bytes
  }
}
