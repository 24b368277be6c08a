import CZlib
import QMTensor

/// The bytes of an archive, in memory or in a file.
enum ArchiveBytes: Sendable {
  case memory(Buffer)
  case file(OpenFile)

  var count: Int {
    switch self {
    case .memory(let buffer): buffer.count
    case .file(let file): file.count
    }
  }

  /// `count` bytes from `offset` on, which must lie within the archive.
  func read(at offset: Int, count: Int) throws(QMError) -> Bytes {
    switch self {
    case .memory(let buffer): Bytes(buffer: buffer, range: offset..<offset + count)
    case .file(let file): Bytes(buffer: try file.bytes(offset..<offset + count), range: 0..<count)
    }
  }
}

/// One entry of a ZIP archive (APPNOTE.TXT 6.3.10), the claims of its two headers checked against
/// each other.
struct ZIPEntry: Sendable {
  enum Method: Int, Sendable {
    case stored = 0
    case deflated = 8
  }

  let name: String
  let method: Method
  let checksum: UInt32
  let storedByteCount: Int
  /// Bytes after inflation.
  let byteCount: Int
  /// Where the local header begins.
  let offset: Int
  /// Where the stored bytes begin, and where the entry ends, its data descriptor included.
  private var dataOffset = 0
  private var end = 0
  private var flags = 0

  static let localSignature: UInt32 = 0x0403_4b50
  static let centralSignature: UInt32 = 0x0201_4b50
  static let endSignature: UInt32 = 0x0605_4b50
  static let wideEndSignature: UInt32 = 0x0606_4b50
  static let wideLocatorSignature: UInt32 = 0x0706_4b50
  static let descriptorSignature: UInt32 = 0x0807_4b50
  static let wideExtra = 1

  private static let flagEncrypted = 1
  private static let flagDescriptor = 1 << 3
  /// Bits 1 and 2 tell how hard the writer tried, bit 11 that the name is UTF-8.
  private static let knownFlags = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 11
}

private func malformed(_ offset: Int, _ message: String) -> QMError {
  QMError(.malformed, message, context: [.offset(offset)])
}

private func unsupported(_ offset: Int, _ message: String) -> QMError {
  QMError(.unsupported, message, context: [.offset(offset)])
}

// The table of entries.
extension ZIPEntry {
  /// All entries, in the order of the central directory.
  static func directory(of archive: ArchiveBytes, _ limits: NumPyLimits) throws(QMError)
    -> [ZIPEntry]
  {
    let place = try Directory(of: archive)
    guard place.entryCount <= limits.entryCount else {
      throw .unsupported("\(place.entryCount) entries; the limit is \(limits.entryCount)")
    }
    let table = try archive.read(at: place.offset, count: place.byteCount)
    var entries: [ZIPEntry] = []
    entries.reserveCapacity(place.entryCount)
    var names: Set<String> = []
    var position = 0
    var total = 0
    let allowed = max(limits.expandedByteCount, saturatingProduct(archive.count, limits.expansion))
    for _ in 0..<place.entryCount {
      var entry = try ZIPEntry(central: table, at: &position, tableOffset: place.offset)
      try within(.entry(entry.name)) { () throws(QMError) in
        guard names.insert(entry.name).inserted else {
          throw malformed(place.offset + position, "the name stands twice")
        }
        // Deflate cannot shrink further than 1 to 1,032.
        guard entry.byteCount / 1032 <= entry.storedByteCount else {
          throw malformed(
            entry.offset, "\(entry.storedByteCount) bytes cannot inflate to \(entry.byteCount)")
        }
        try entry.readLocalHeader(in: archive, directoryOffset: place.offset)
        let sum = total.addingReportingOverflow(entry.byteCount)
        guard !sum.overflow, sum.partialValue <= allowed else {
          throw QMError.unsupported(
            "an archive of \(archive.count) bytes that inflates to more than \(allowed)")
        }
        total = sum.partialValue
      }
      entries.append(entry)
    }
    guard position == table.count else {
      throw malformed(
        place.offset + position,
        "\(table.count - position) bytes behind the \(place.entryCount) entries of the table")
    }
    var previousEnd = 0
    for entry in entries.sorted(by: { $0.offset < $1.offset }) {
      guard entry.offset >= previousEnd else {
        throw malformed(entry.offset, "begins inside another entry").within(.entry(entry.name))
      }
      previousEnd = entry.end
    }
    return entries
  }

  /// The central header at `position`, which moves behind it.
  private init(central table: Bytes, at position: inout Int, tableOffset: Int) throws(QMError) {
    let start = position
    let place = tableOffset + start
    guard table.count - start >= 46, table.uint32(start) == ZIPEntry.centralSignature else {
      throw malformed(place, "no entry where the archive's table should have one")
    }
    let nameLength = table.uint16(start + 28)
    let extraLength = table.uint16(start + 30)
    let commentLength = table.uint16(start + 32)
    guard nameLength + extraLength + commentLength <= table.count - start - 46 else {
      throw malformed(place, "an entry that reaches beyond the archive's table")
    }
    position = start + 46 + nameLength + extraLength + commentLength
    let nameBytes = table.part(start + 46..<start + 46 + nameLength)
    guard let name = nameBytes.withBytes({ (bytes) in String(validating: bytes, as: UTF8.self) })
    else {
      throw unsupported(place, "an entry's name is not UTF-8; save the arrays under ASCII names")
    }
    guard !name.isEmpty, !name.utf8.contains(0) else {
      throw malformed(place, "an entry's name is empty or holds a NUL")
    }
    guard !name.split(separator: "/").contains("..") else {
      throw malformed(place, "an entry's name leads out of the archive").within(.entry(name))
    }

    flags = table.uint16(start + 8)
    let wanted = table.uint16(start + 10)
    guard flags & ZIPEntry.flagEncrypted == 0 else {
      throw unsupported(place, "the entry is encrypted; save the archive without a password")
        .within(.entry(name))
    }
    guard flags & ~ZIPEntry.knownFlags == 0 else {
      throw unsupported(place, "the entry has flags 0x\(String(flags, radix: 16))")
        .within(.entry(name))
    }
    guard let method = Method(rawValue: wanted) else {
      throw unsupported(
        place,
        "compression method \(wanted); save it with numpy.savez or numpy.savez_compressed"
      ).within(.entry(name))
    }
    // Zip64: a field that is all ones has its value in the extra field, in this order.
    var numbers = [
      UInt64(table.uint32(start + 24)), UInt64(table.uint32(start + 20)),
      UInt64(table.uint32(start + 42)),
    ]
    var disk = table.uint16(start + 34)
    let extra = table.part(start + 46 + nameLength..<start + 46 + nameLength + extraLength)
    let wide = try ZIPEntry.wideField(of: extra, at: place)
    var next = 0
    for field in numbers.indices where numbers[field] == UInt64(UInt32.max) {
      guard let wide, wide.count - next >= 8 else {
        throw malformed(place, "the zip64 field is missing or too short").within(.entry(name))
      }
      numbers[field] = wide.uint64(next)
      next += 8
    }
    if disk == 0xffff, let wide, wide.count - next >= 4 { disk = Int(wide.uint32(next)) }
    guard disk == 0 else {
      throw unsupported(place, "the entry lies on disk \(disk) of a divided archive")
        .within(.entry(name))
    }
    guard let byteCount = Int(exactly: numbers[0]), let storedByteCount = Int(exactly: numbers[1]),
      let offset = Int(exactly: numbers[2])
    else {
      throw malformed(place, "a size or offset over 2^63").within(.entry(name))
    }
    guard method == .deflated || byteCount == storedByteCount else {
      throw malformed(
        place, "stored as it is, yet \(storedByteCount) bytes stand for \(byteCount)"
      ).within(.entry(name))
    }
    self.name = name
    self.method = method
    self.byteCount = byteCount
    self.storedByteCount = storedByteCount
    self.offset = offset
    checksum = table.uint32(start + 16)
  }

  /// The content of the zip64 extra field, if there is one.
  private static func wideField(of extra: Bytes, at place: Int) throws(QMError) -> Bytes? {
    var position = 0
    var wide: Bytes?
    // Some writers pad the fields with up to three bytes.
    while extra.count - position >= 4 {
      let length = extra.uint16(position + 2)
      guard length <= extra.count - position - 4 else {
        throw malformed(place, "an extra field that reaches beyond the others")
      }
      if extra.uint16(position) == wideExtra {
        guard wide == nil else { throw malformed(place, "two zip64 fields") }
        wide = extra.part(position + 4..<position + 4 + length)
      }
      position += 4 + length
    }
    return wide
  }

  /// Reads the header that stands before the data, and the descriptor behind it where there is
  /// one, and compares both with the table.
  private mutating func readLocalHeader(in archive: ArchiveBytes, directoryOffset: Int)
    throws(QMError)
  {
    guard offset <= directoryOffset, directoryOffset - offset >= 30 else {
      throw malformed(offset, "the entry begins beyond the archive's data")
    }
    let fixed = try archive.read(at: offset, count: 30)
    guard fixed.uint32(0) == ZIPEntry.localSignature else {
      throw malformed(offset, "no entry where the archive's table says")
    }
    let nameLength = fixed.uint16(26)
    let extraLength = fixed.uint16(28)
    let room = directoryOffset - offset - 30
    guard nameLength + extraLength <= room,
      storedByteCount <= room - nameLength - extraLength
    else {
      throw malformed(offset, "the entry reaches beyond the archive's data")
    }
    dataOffset = offset + 30 + nameLength + extraLength
    end = dataOffset + storedByteCount
    let variable = try archive.read(at: offset + 30, count: nameLength + extraLength)
    guard
      variable.part(0..<nameLength).withBytes({ (bytes) in bytes.elementsEqual(name.utf8) })
    else {
      throw malformed(offset, "another name than in the archive's table")
    }
    let localFlags = fixed.uint16(6)
    guard localFlags & ~ZIPEntry.flagDescriptor == flags & ~ZIPEntry.flagDescriptor else {
      throw malformed(offset, "other flags than in the archive's table")
    }
    guard fixed.uint16(8) == method.rawValue else {
      throw malformed(offset, "another compression method than in the archive's table")
    }

    var localByteCount = UInt64(fixed.uint32(22))
    var localStoredByteCount = UInt64(fixed.uint32(18))
    let extra = variable.part(nameLength..<nameLength + extraLength)
    if let wide = try ZIPEntry.wideField(of: extra, at: offset), wide.count >= 16 {
      if localByteCount == UInt64(UInt32.max) { localByteCount = wide.uint64(0) }
      if localStoredByteCount == UInt64(UInt32.max) { localStoredByteCount = wide.uint64(8) }
    }
    let isRepeated =
      fixed.uint32(14) == checksum && localByteCount == UInt64(byteCount)
      && localStoredByteCount == UInt64(storedByteCount)
    guard localFlags & ZIPEntry.flagDescriptor != 0 else {
      guard isRepeated else {
        throw malformed(offset, "another size or checksum than in the archive's table")
      }
      return
    }
    // A writer that could not go back leaves zeros (or all ones, with zip64) and describes the
    // data behind it; one that could may still have set the flag.
    let isLeftOpen =
      fixed.uint32(14) == 0 && [0, UInt64(UInt32.max)].contains(localByteCount)
      && [0, UInt64(UInt32.max)].contains(localStoredByteCount)
    guard isRepeated || isLeftOpen else {
      throw malformed(offset, "another size or checksum than in the archive's table")
    }
    end += try descriptorByteCount(in: archive, directoryOffset: directoryOffset)
  }

  /// Length of the data descriptor: with or without a signature, sizes of 4 or 8 bytes.
  private func descriptorByteCount(in archive: ArchiveBytes, directoryOffset: Int)
    throws(QMError) -> Int
  {
    let bytes = try archive.read(at: end, count: min(24, directoryOffset - end))
    for start in [4, 0] {
      guard bytes.count >= start + 12,
        start == 0 || bytes.uint32(0) == ZIPEntry.descriptorSignature,
        bytes.uint32(start) == checksum
      else { continue }
      if bytes.count >= start + 20, bytes.uint64(start + 4) == UInt64(storedByteCount),
        bytes.uint64(start + 12) == UInt64(byteCount)
      {
        return start + 20
      }
      if UInt64(bytes.uint32(start + 4)) == UInt64(storedByteCount),
        UInt64(bytes.uint32(start + 8)) == UInt64(byteCount)
      {
        return start + 12
      }
    }
    throw malformed(end, "the descriptor behind the data does not agree with the archive's table")
  }
}

private func saturatingProduct(_ left: Int, _ right: Int) -> Int {
  let (product, overflow) = left.multipliedReportingOverflow(by: right)
  return overflow ? .max : product
}

/// Where the table of entries lies.
private struct Directory {
  let offset: Int
  let byteCount: Int
  let entryCount: Int

  /// Finds the end record at the end of the archive, and its zip64 form before it.
  init(of archive: ArchiveBytes) throws(QMError) {
    guard archive.count >= 22 else {
      throw malformed(archive.count, "not an .npz archive, or cut short")
    }
    // The end record is followed by a comment of at most 65,535 bytes.
    let tailOffset = max(0, archive.count - 22 - 0xffff)
    let tail = try archive.read(at: tailOffset, count: archive.count - tailOffset)
    var start = tail.count - 22
    while tail.uint32(start) != ZIPEntry.endSignature
      || tail.uint16(start + 20) != tail.count - start - 22
    {
      start -= 1
      guard start >= 0 else {
        throw malformed(
          archive.count,
          "not an .npz archive, or cut short: it does not end with the record of a ZIP archive")
      }
    }
    let end = tailOffset + start
    let disks = [tail.uint16(start + 4), tail.uint16(start + 6)]
    let counts = [tail.uint16(start + 8), tail.uint16(start + 10)]
    let size = tail.uint32(start + 12)
    let position = tail.uint32(start + 16)

    let wide = try Directory.wideRecord(in: archive, before: end)
    guard let wide else {
      guard disks == [0, 0], counts[0] == counts[1] else {
        throw unsupported(end, "an archive that is divided over several disks")
      }
      try self.init(UInt64(position), UInt64(size), UInt64(counts[0]), before: end)
      return
    }
    // What fits into the short record must agree with the long one.
    guard disks.allSatisfy({ $0 == 0 || $0 == 0xffff }),
      counts.allSatisfy({ $0 == 0xffff || UInt64($0) == wide.entryCount }),
      size == .max || UInt64(size) == wide.byteCount,
      position == .max || UInt64(position) == wide.position
    else {
      throw malformed(end, "the two end records do not agree")
    }
    try self.init(wide.position, wide.byteCount, wide.entryCount, before: wide.offset)
  }

  private init(_ position: UInt64, _ size: UInt64, _ count: UInt64, before end: Int)
    throws(QMError)
  {
    guard let offset = Int(exactly: position), let byteCount = Int(exactly: size), offset <= end,
      byteCount == end - offset
    else {
      throw malformed(
        end, "the archive's table should be \(size) bytes from byte \(position) on, and is not")
    }
    // An entry takes 46 bytes and its name.
    guard count <= UInt64(byteCount / 46) else {
      throw malformed(end, "\(count) entries do not fit into a table of \(byteCount) bytes")
    }
    self.offset = offset
    self.byteCount = byteCount
    entryCount = Int(count)
  }

  private static func wideRecord(in archive: ArchiveBytes, before end: Int) throws(QMError)
    -> (offset: Int, position: UInt64, byteCount: UInt64, entryCount: UInt64)?
  {
    guard end >= 20 else { return nil }
    let locator = try archive.read(at: end - 20, count: 20)
    guard locator.uint32(0) == ZIPEntry.wideLocatorSignature else { return nil }
    guard locator.uint32(4) == 0, locator.uint32(16) <= 1 else {
      throw unsupported(end - 20, "an archive that is divided over several disks")
    }
    guard let offset = Int(exactly: locator.uint64(8)), offset <= end - 20,
      end - 20 - offset >= 56
    else {
      throw malformed(end - 20, "the zip64 end record is not where it should be")
    }
    let record = try archive.read(at: offset, count: 56)
    guard record.uint32(0) == ZIPEntry.wideEndSignature,
      record.uint64(4) == UInt64(end - 20 - offset - 12)
    else {
      throw malformed(offset, "not a zip64 end record")
    }
    guard record.uint32(16) == 0, record.uint32(20) == 0, record.uint64(24) == record.uint64(32)
    else {
      throw unsupported(offset, "an archive that is divided over several disks")
    }
    return (offset, record.uint64(48), record.uint64(40), record.uint64(32))
  }
}

// The content of an entry.
extension ZIPEntry {
  /// The entry's bytes, inflated, their checksum compared.
  /// - Throws: `malformed`, `outOfMemory`.
  func content(in archive: ArchiveBytes) throws(QMError) -> Bytes {
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
        "the CRC-32 is \(String(found, radix: 16)), the archive's table says "
          + "\(String(checksum, radix: 16)): the file is damaged")
    }
    return content
  }

  /// CRC-32 as ZIP uses it.
  static func checksum(of bytes: UnsafeRawBufferPointer) -> UInt32 {
    guard let base = bytes.baseAddress else { return 0 }
    return UInt32(
      crc32_z(0, base.assumingMemoryBound(to: UInt8.self), bytes.count))
  }

  private func inflated(_ source: UnsafeRawBufferPointer) throws(QMError) -> Bytes {
    // One byte more than promised, so that a stream that gives more is noticed.
    let result = try Buffer.allocate(byteCount: byteCount + 1)
    var stream = z_stream()
    // Negative: a bare deflate stream, as ZIP has it, with the largest window.
    guard
      inflateInit2_(&stream, -15, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
    else { throw .outOfMemory(byteCount: 1 << 15) }
    defer { inflateEnd(&stream) }
    var (taken, given) = (0, 0)
    var status = Z_OK
    while status == Z_OK {
      // zlib counts with 32 bits.
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
        ? "it gives more than the \(byteCount) bytes that are promised"
        : stream.msg.map { String(cString: $0) } ?? "it ends too early"
      throw malformed(dataOffset + taken, "the deflate stream is damaged: \(reason)")
    }
    guard given == byteCount, taken == source.count else {
      throw malformed(
        dataOffset + taken,
        "the deflate stream ends after \(taken) of \(source.count) bytes and gives \(given) of "
          + "\(byteCount)")
    }
    return Bytes(buffer: result, range: 0..<byteCount)
  }
}
