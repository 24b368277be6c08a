import QMTensor

// The central directory.
extension ZIPEntry {
  /// All entries, in the order of the central directory.
  static func directory(of archive: FileBytes, _ limits: NumPyLimits) throws(QMError)
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
          throw malformed(place.offset + position, "another entry has the same name")
        }
        // The maximum compression ratio of deflate is 1,032.
        guard entry.byteCount / 1032 <= entry.storedByteCount else {
          throw malformed(
            entry.offset, "\(entry.storedByteCount) bytes cannot inflate to \(entry.byteCount)")
        }
        try entry.readLocalHeader(in: archive, directoryOffset: place.offset)
        let sum = total.addingReportingOverflow(entry.byteCount)
        guard !sum.overflow, sum.partialValue <= allowed else {
          throw QMError.unsupported(
            "the archive of \(archive.count) bytes inflates to more than the limit of \(allowed)")
        }
        total = sum.partialValue
      }
      entries.append(entry)
    }
    guard position == table.count else {
      throw malformed(
        place.offset + position,
        "the central directory has \(table.count - position) bytes after its "
          + "\(place.entryCount) entries")
    }
    var previousEnd = 0
    for entry in entries.sorted(by: { $0.offset < $1.offset }) {
      guard entry.offset >= previousEnd else {
        throw malformed(entry.offset, "overlaps the entry before it").within(.entry(entry.name))
      }
      previousEnd = entry.end
    }
    return entries
  }
}

private func saturatingProduct(_ left: Int, _ right: Int) -> Int {
  let (product, overflow) = left.multipliedReportingOverflow(by: right)
  return overflow ? .max : product
}

/// The location of the central directory, as the end record gives it.
private struct Directory {
  let offset: Int
  let byteCount: Int
  let entryCount: Int

  /// Finds the end record at the end of the archive, and its zip64 form before it, if there is one.
  init(of archive: FileBytes) throws(QMError) {
    guard archive.count >= 22 else {
      throw malformed(archive.count, "not an .npz archive, or truncated")
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
          "not an .npz archive, or truncated: it has no end record of a ZIP archive")
      }
    }
    let end = tailOffset + start
    let disks = [tail.uint16(start + 4), tail.uint16(start + 6)]
    let counts = [tail.uint16(start + 8), tail.uint16(start + 10)]
    let size = tail.uint32(start + 12)
    let position = tail.uint32(start + 16)

    let zip64 = try Directory.zip64Record(in: archive, before: end)
    guard let zip64 else {
      guard disks == [0, 0], counts[0] == counts[1] else {
        throw unsupported(end, "the archive is divided over several disks")
      }
      try self.init(UInt64(position), UInt64(size), UInt64(counts[0]), before: end)
      return
    }
    // A number in the 32-bit record is all ones or agrees with the zip64 record.
    guard disks.allSatisfy({ $0 == 0 || $0 == 0xffff }),
      counts.allSatisfy({ $0 == 0xffff || UInt64($0) == zip64.entryCount }),
      size == .max || UInt64(size) == zip64.byteCount,
      position == .max || UInt64(position) == zip64.position
    else {
      throw malformed(end, "the end record disagrees with the zip64 end record")
    }
    try self.init(zip64.position, zip64.byteCount, zip64.entryCount, before: zip64.offset)
  }

  /// - Parameter end: where the end record begins; the directory must end there.
  private init(_ position: UInt64, _ size: UInt64, _ count: UInt64, before end: Int)
    throws(QMError)
  {
    guard let offset = Int(exactly: position), let byteCount = Int(exactly: size), offset <= end,
      byteCount == end - offset
    else {
      throw malformed(
        end,
        "the central directory should be \(size) bytes from byte \(position) to the end record")
    }
    // An entry takes 46 bytes plus its name.
    guard count <= UInt64(byteCount / 46) else {
      throw malformed(
        end, "\(count) entries do not fit into a central directory of \(byteCount) bytes")
    }
    self.offset = offset
    self.byteCount = byteCount
    entryCount = Int(count)
  }

  /// Reads the zip64 end record; nil if no locator before the end record points to one.
  private static func zip64Record(in archive: FileBytes, before end: Int) throws(QMError)
    -> (offset: Int, position: UInt64, byteCount: UInt64, entryCount: UInt64)?
  {
    guard end >= 20 else { return nil }
    let locator = try archive.read(at: end - 20, count: 20)
    guard locator.uint32(0) == ZIPEntry.zip64LocatorSignature else { return nil }
    guard locator.uint32(4) == 0, locator.uint32(16) <= 1 else {
      throw unsupported(end - 20, "the archive is divided over several disks")
    }
    guard let offset = Int(exactly: locator.uint64(8)), offset <= end - 20,
      end - 20 - offset >= 56
    else {
      throw malformed(end - 20, "the zip64 locator points outside the archive")
    }
    let record = try archive.read(at: offset, count: 56)
    guard record.uint32(0) == ZIPEntry.zip64EndSignature,
      record.uint64(4) == UInt64(end - 20 - offset - 12)
    else {
      throw malformed(offset, "expected a zip64 end record")
    }
    guard record.uint32(16) == 0, record.uint32(20) == 0, record.uint64(24) == record.uint64(32)
    else {
      throw unsupported(offset, "the archive is divided over several disks")
    }
    return (offset, record.uint64(48), record.uint64(40), record.uint64(32))
  }
}
