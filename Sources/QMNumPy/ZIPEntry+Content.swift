import CZlib
import QMTensor

// The content of an entry.
extension ZIPEntry {
  /// The inflated bytes of the entry, after comparing their checksum.
  /// - Throws: `malformed`, `outOfMemory`.
  func content(in archive: FileBytes) throws(QMError) -> Bytes {
    let stored = try archive.read(at: dataOffset, count: storedByteCount)
    let content: Bytes
    switch method {
    case .stored: content = stored
    case .deflated:
      content = try stored.withBytes { (bytes) throws(QMError) in try inflated(bytes) }
    }
    let found = content.withBytes { (bytes) in ZIPEntry.checksum(of: bytes) }
    guard found == checksum else {
      throw QMError.malformed(
        "the CRC-32 is \(String(found, radix: 16)), expected \(String(checksum, radix: 16)): "
          + "the file is damaged")
    }
    return content
  }

  /// The first bytes of the inflated entry, at most `count`, without comparing the checksum; none if
  /// the entry is damaged there, which reading it whole reports.
  func start(in archive: FileBytes, count: Int) -> [UInt8] {
    let wanted = min(count, byteCount)
    // A stream that begins with a table of codes needs a few hundred bytes for it.
    let stored = min(storedByteCount, method == .stored ? wanted : wanted + 1024)
    guard let bytes = try? archive.read(at: dataOffset, count: stored) else { return [] }
    return bytes.withBytes { (bytes) in
      guard method == .deflated else { return Array(bytes) }
      return [UInt8](unsafeUninitializedCapacity: wanted) { result, given in
        var stream = z_stream()
        guard inflateInit2_(&stream, -15, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
        else { return }
        defer { inflateEnd(&stream) }
        stream.next_in = UnsafeMutablePointer(
          mutating: bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
        stream.avail_in = UInt32(bytes.count)
        stream.next_out = result.baseAddress
        stream.avail_out = UInt32(wanted)
        _ = inflate(&stream, Z_NO_FLUSH)
        given = wanted - Int(stream.avail_out)
      }
    }
  }

  /// CRC-32 as ZIP uses it.
  static func checksum(of bytes: UnsafeRawBufferPointer) -> UInt32 {
    guard let base = bytes.baseAddress else { return 0 }
    return UInt32(
      crc32_z(0, base.assumingMemoryBound(to: UInt8.self), bytes.count))
  }

  private func inflated(_ source: UnsafeRawBufferPointer) throws(QMError) -> Bytes {
    // One extra byte, to detect a stream that yields more than the directory states.
    let result = try Buffer.allocate(byteCount: byteCount + 1)
    var stream = z_stream()
    // Negative: a raw deflate stream, as in ZIP archives, with the largest window.
    guard
      inflateInit2_(&stream, -15, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
    else { throw .outOfMemory(byteCount: 1 << 15) }
    defer { inflateEnd(&stream) }
    var (taken, given) = (0, 0)
    var status = Z_OK
    while status == Z_OK {
      // zlib counts in 32 bits.
      let input = min(source.count - taken, 1 << 30)
      let room = min(byteCount + 1 - given, 1 << 30)
      if let base = source.baseAddress {
        stream.next_in = UnsafeMutablePointer(
          mutating: (base + taken).assumingMemoryBound(to: UInt8.self))
      }
      stream.avail_in = UInt32(input)
      stream.next_out = (result.base + given).assumingMemoryBound(to: UInt8.self)
      stream.avail_out = UInt32(room)
      status = inflate(&stream, Z_NO_FLUSH)
      taken += input - Int(stream.avail_in)
      given += room - Int(stream.avail_out)
    }
    guard status == Z_STREAM_END else {
      let reason =
        given > byteCount
        ? "it yields more than the expected \(byteCount) bytes"
        : stream.msg.map { String(cString: $0) } ?? "it ends too early"
      throw malformed(dataOffset + taken, "the deflate stream is damaged: \(reason)")
    }
    guard given == byteCount, taken == source.count else {
      throw malformed(
        dataOffset + taken,
        "the deflate stream ends after \(taken) of \(source.count) bytes and yields \(given) of "
          + "\(byteCount)")
    }
    return Bytes(buffer: result, range: 0..<byteCount)
  }
}
