/// An archive made by hand, each of whose fields can differ from what it should be.
struct TestArchive {
  /// The fields that the local header and the central directory both state.
  struct Fields {
    var name: [UInt8]
    var flags = 0
    var method = 0
    var checksum: UInt32
    var storedByteCount: Int
    var byteCount: Int

    fileprivate var bytes: [UInt8] {
      little(20, 2) + little(flags, 2) + little(method, 2) + little(0, 2) + little(33, 2)
        + little(Int(checksum), 4) + little(storedByteCount, 4) + little(byteCount, 4)
        + little(name.count, 2)
    }
  }

  struct Entry {
    var central: Fields
    var local: Fields
    var data: [UInt8]
    var extra: [UInt8] = []
    /// What follows the data: a data descriptor, or another entry's beginning.
    var after: [UInt8] = []
    var disk = 0
    /// Where the central directory says that the entry begins; nil for where it does.
    var offset: Int?

    /// An entry as it should be, deflated in one stored block or not compressed.
    init(_ name: String, _ content: [UInt8], isDeflated: Bool = false) {
      data = isDeflated ? deflated(content) : content
      local = Fields(
        name: Array(name.utf8), method: isDeflated ? 8 : 0, checksum: checksum(of: content),
        storedByteCount: data.count, byteCount: content.count)
      central = local
    }

    /// The same entry after a change of both headers.
    func with(_ change: (inout Fields) -> Void) -> Entry {
      var entry = self
      change(&entry.central)
      change(&entry.local)
      return entry
    }

    /// The same entry after a change of one field or another.
    func setting<Value>(_ path: WritableKeyPath<Entry, Value>, _ value: Value) -> Entry {
      var entry = self
      entry[keyPath: path] = value
      return entry
    }

    fileprivate var localBytes: [UInt8] {
      little(0x0403_4b50, 4) + local.bytes + little(extra.count, 2) + local.name + extra + data
        + after
    }

    fileprivate func centralBytes(at place: Int) -> [UInt8] {
      little(0x0201_4b50, 4) + little(0x314, 2) + central.bytes + little(extra.count, 2)
        + little(0, 2) + little(disk, 2) + little(0, 6) + little(offset ?? place, 4)
        + central.name + extra
    }
  }

  var entries: [Entry]
  /// The number of entries in the end record; nil for the right one.
  var count: Int?
  var disk = 0
  /// Where a zip64 locator says that the zip64 end record is; nil for an archive without them.
  var zip64Place: Int?

  init(_ entries: Entry...) { self.entries = entries }

  var bytes: [UInt8] {
    var (data, table): ([UInt8], [UInt8]) = ([], [])
    for entry in entries {
      table += entry.centralBytes(at: data.count)
      data += entry.localBytes
    }
    let count = count ?? entries.count
    var end: [UInt8] = []
    if let zip64Place {
      end += little(0x0606_4b50, 4) + little(44, 8) + little(45, 2) + little(45, 2) + little(0, 8)
      end += little(count, 8) + little(count, 8) + little(table.count, 8) + little(data.count, 8)
      end += little(0x0706_4b50, 4) + little(0, 4) + little(zip64Place, 8) + little(1, 4)
    }
    end += little(0x0605_4b50, 4) + little(disk, 2) + little(disk, 2) + little(count, 2)
    end += little(count, 2) + little(table.count, 4) + little(data.count, 4) + little(0, 2)
    return data + table + end
  }
}

/// The low `byteCount` bytes of a number, the least significant first.
func little(_ number: Int, _ byteCount: Int) -> [UInt8] {
  (0..<byteCount).map { $0 < 8 ? UInt8(truncatingIfNeeded: number >> (8 * $0)) : 0 }
}

/// A deflate stream of one block that is not compressed.
func deflated(_ content: [UInt8]) -> [UInt8] {
  [1] + little(content.count, 2) + little(~content.count, 2) + content
}

/// CRC-32 as ZIP uses it.
private func checksum(of bytes: [UInt8]) -> UInt32 {
  var remainder = ~UInt32(0)
  for byte in bytes {
    remainder ^= UInt32(byte)
    for _ in 0..<8 { remainder = remainder >> 1 ^ (remainder & 1 == 1 ? 0xedb8_8320 : 0) }
  }
  return ~remainder
}

/// An `.npy` file with any text as its type and its shape.
func npy(_ type: String, _ shape: String, _ data: [UInt8]) -> [UInt8] {
  npy(header: "{'descr': '\(type)', 'fortran_order': False, 'shape': \(shape), }\n", data)
}

/// An `.npy` file with any text as its header.
func npy(header: String, _ data: [UInt8]) -> [UInt8] {
  let text = Array(header.utf8)
  return [0x93] + Array("NUMPY".utf8) + [1, 0] + little(text.count, 2) + text + data
}
