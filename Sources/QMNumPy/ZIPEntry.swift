import QMTensor

/// One entry of a ZIP archive (APPNOTE.TXT 6.3.10). Its local header is checked against its header
/// in the central directory.
struct ZIPEntry: Sendable {
  enum Method: Int, Sendable {
    case stored = 0
    case deflated = 8
  }

  let name: String
  let method: Method
  let checksum: UInt32
  /// Size in the archive, in bytes.
  let storedByteCount: Int
  /// Size after inflation, in bytes.
  let byteCount: Int
  /// Offset of the local header in the archive.
  let offset: Int
  /// Offset of the stored bytes in the archive.
  private(set) var dataOffset = 0
  /// Offset of the end of the entry, including its data descriptor.
  private(set) var end = 0
  private var flags = 0

  static let localSignature: UInt32 = 0x0403_4b50
  static let centralSignature: UInt32 = 0x0201_4b50
  static let endSignature: UInt32 = 0x0605_4b50
  static let zip64EndSignature: UInt32 = 0x0606_4b50
  static let zip64LocatorSignature: UInt32 = 0x0706_4b50
  static let descriptorSignature: UInt32 = 0x0807_4b50
  /// The identifier of the zip64 extra field.
  static let zip64Extra = 1

  private static let flagEncrypted = 1
  private static let flagDescriptor = 1 << 3
  /// Bits 1 and 2 state the compression level, bit 11 that the name is UTF-8.
  private static let knownFlags = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 11
}

// The header in the central directory.
extension ZIPEntry {
  /// Reads the central header at `position` and advances `position` past it.
  init(central table: Bytes, at position: inout Int, tableOffset: Int) throws(QMError) {
    let start = position
    let place = tableOffset + start
    guard table.count - start >= 46, table.uint32(start) == ZIPEntry.centralSignature else {
      throw malformed(place, "expected an entry of the central directory")
    }
    let nameLength = table.uint16(start + 28)
    let extraLength = table.uint16(start + 30)
    let commentLength = table.uint16(start + 32)
    guard nameLength + extraLength + commentLength <= table.count - start - 46 else {
      throw malformed(place, "the entry reaches beyond the central directory")
    }
    position = start + 46 + nameLength + extraLength + commentLength
    let header = table.part(start..<position)
    let name = try ZIPEntry.name(header.part(46..<46 + nameLength), at: place)
    let extra = header.part(46 + nameLength..<46 + nameLength + extraLength)
    self = try within(.entry(name)) { () throws(QMError) in
      try ZIPEntry(central: header, named: name, extra: extra, at: place)
    }
  }

  private static func name(_ bytes: Bytes, at place: Int) throws(QMError) -> String {
    guard let name = bytes.withBytes({ (bytes) in String(validating: bytes, as: UTF8.self) })
    else {
      throw unsupported(place, "an entry's name is not UTF-8; save the arrays under ASCII names")
    }
    guard !name.isEmpty, !name.utf8.contains(0) else {
      throw malformed(place, "an entry's name is empty or contains a NUL")
    }
    guard !name.split(separator: "/").contains("..") else {
      throw malformed(place, "the entry's name contains '..'").within(.entry(name))
    }
    return name
  }

  private init(
    central header: Bytes, named name: String, extra: Bytes, at place: Int
  ) throws(QMError) {
    flags = header.uint16(8)
    guard flags & ZIPEntry.flagEncrypted == 0 else {
      throw unsupported(place, "the entry is encrypted; save the archive without a password")
    }
    guard flags & ~ZIPEntry.knownFlags == 0 else {
      throw unsupported(place, "the entry has unknown flags: 0x\(String(flags, radix: 16))")
    }
    let wanted = header.uint16(10)
    guard let method = Method(rawValue: wanted) else {
      throw unsupported(
        place,
        "compression method \(wanted); stored and deflate are read; save the arrays with "
          + "numpy.savez or numpy.savez_compressed")
    }
    let numbers = try ZIPEntry.numbers(of: header, extra, at: place)
    guard numbers.disk == 0 else {
      throw unsupported(place, "the entry lies on disk \(numbers.disk) of a divided archive")
    }
    guard let byteCount = Int(exactly: numbers.byteCount),
      let storedByteCount = Int(exactly: numbers.storedByteCount),
      let offset = Int(exactly: numbers.offset)
    else {
      throw malformed(place, "the entry has a size or offset over 2^63")
    }
    guard method == .deflated || byteCount == storedByteCount else {
      throw malformed(
        place, "the entry is not compressed but has the sizes \(storedByteCount) and \(byteCount)")
    }
    self.name = name
    self.method = method
    self.byteCount = byteCount
    self.storedByteCount = storedByteCount
    self.offset = offset
    checksum = header.uint32(16)
  }

  /// The sizes, offset and disk number of a central header. A field that is all ones has its value
  /// in the zip64 extra field, which lists such values in the order of the result.
  private static func numbers(
    of header: Bytes, _ extra: Bytes, at place: Int
  ) throws(QMError) -> (byteCount: UInt64, storedByteCount: UInt64, offset: UInt64, disk: Int) {
    var numbers = [24, 20, 42].map { UInt64(header.uint32($0)) }
    var disk = header.uint16(34)
    let zip64 = try zip64Field(of: extra, at: place)
    var next = 0
    for field in numbers.indices where numbers[field] == UInt64(UInt32.max) {
      guard let zip64, zip64.count - next >= 8 else {
        throw malformed(place, "the zip64 field is missing or too short")
      }
      numbers[field] = zip64.uint64(next)
      next += 8
    }
    if disk == 0xffff, let zip64, zip64.count - next >= 4 { disk = Int(zip64.uint32(next)) }
    return (numbers[0], numbers[1], numbers[2], disk)
  }

  /// The content of the zip64 extra field, if there is one.
  private static func zip64Field(of extra: Bytes, at place: Int) throws(QMError) -> Bytes? {
    var position = 0
    var zip64: Bytes?
    // Some writers pad the extra fields with up to three bytes.
    while extra.count - position >= 4 {
      let length = extra.uint16(position + 2)
      guard length <= extra.count - position - 4 else {
        throw malformed(place, "an extra field reaches beyond the header")
      }
      if extra.uint16(position) == zip64Extra {
        guard zip64 == nil else { throw malformed(place, "the entry has two zip64 fields") }
        zip64 = extra.part(position + 4..<position + 4 + length)
      }
      position += 4 + length
    }
    return zip64
  }
}

// The local header, before the data.
extension ZIPEntry {
  /// Reads the local header and, if there is one, the data descriptor after the data, and compares
  /// both with the central directory.
  /// - Parameter directoryOffset: where the central directory begins; the entry must end before it.
  mutating func readLocalHeader(in archive: FileBytes, directoryOffset: Int)
    throws(QMError)
  {
    guard offset <= directoryOffset, directoryOffset - offset >= 30 else {
      throw malformed(offset, "the entry begins after the archive's data")
    }
    let fixed = try archive.read(at: offset, count: 30)
    guard fixed.uint32(0) == ZIPEntry.localSignature else {
      throw malformed(offset, "expected a local header, as the central directory states")
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
      throw malformed(offset, "the name differs from that in the central directory")
    }
    let localFlags = fixed.uint16(6)
    guard localFlags & ~ZIPEntry.flagDescriptor == flags & ~ZIPEntry.flagDescriptor else {
      throw malformed(offset, "the flags differ from those in the central directory")
    }
    guard fixed.uint16(8) == method.rawValue else {
      throw malformed(offset, "the compression method differs from that in the central directory")
    }

    var localByteCount = UInt64(fixed.uint32(22))
    var localStoredByteCount = UInt64(fixed.uint32(18))
    let extra = variable.part(nameLength..<nameLength + extraLength)
    if let zip64 = try ZIPEntry.zip64Field(of: extra, at: offset), zip64.count >= 16 {
      if localByteCount == UInt64(UInt32.max) { localByteCount = zip64.uint64(0) }
      if localStoredByteCount == UInt64(UInt32.max) { localStoredByteCount = zip64.uint64(8) }
    }
    let isRepeated =
      fixed.uint32(14) == checksum && localByteCount == UInt64(byteCount)
      && localStoredByteCount == UInt64(storedByteCount)
    guard localFlags & ZIPEntry.flagDescriptor != 0 else {
      guard isRepeated else {
        throw malformed(offset, "the size or checksum differs from that in the central directory")
      }
      return
    }
    // A writer that cannot seek back leaves zeros (with zip64, all ones) here and writes the values
    // into a descriptor after the data. Other writers may set the flag and write both.
    let isDeferred =
      fixed.uint32(14) == 0 && [0, UInt64(UInt32.max)].contains(localByteCount)
      && [0, UInt64(UInt32.max)].contains(localStoredByteCount)
    guard isRepeated || isDeferred else {
      throw malformed(offset, "the size or checksum differs from that in the central directory")
    }
    end += try descriptorByteCount(in: archive, directoryOffset: directoryOffset)
  }

  /// Length of the data descriptor, in bytes. It may have a signature, and sizes of 4 or 8 bytes.
  private func descriptorByteCount(in archive: FileBytes, directoryOffset: Int)
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
    throw malformed(end, "the data descriptor disagrees with the central directory")
  }
}
