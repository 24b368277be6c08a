import CZlib
import QMTensor

extension NPZArchive {
  /// How entries are compressed: `stored` (not at all), as by `numpy.savez`, or `deflated`, as by
  /// `numpy.savez_compressed`.
  public enum Compression: Hashable, Sendable { case stored, deflated }

  /// The bytes of an archive. Equal arrays give equal bytes; if deflated, with equal versions of
  /// zlib.
  /// - Throws: `invalidInput` for a name that is empty, repeated, contains a NUL or is over 65,531
  ///   bytes long; `unsupported` for bfloat16; `outOfMemory`.
  public static func encode(_ arrays: [(String, Tensor)], compression: Compression = .stored)
    throws(QMError) -> [UInt8]
  {
    var bytes: [UInt8] = []
    var entries = Entries(compression)
    for (name, tensor) in arrays {
      try entries.append(name, tensor) { (part) throws(QMError) in bytes += part }
    }
    try entries.finish { (part) throws(QMError) in bytes += part }
    return bytes
  }

  /// Writes an archive, which appears whole or not at all (``AtomicFile``).
  /// - Throws: `cannotWrite` with the path as context; as ``encode(_:compression:)``.
  public static func write(
    _ arrays: [(String, Tensor)], to path: String, compression: Compression = .stored
  ) throws(QMError) {
    var writer = try Writer(path: path, compression: compression)
    for (name, tensor) in arrays { try writer.append(name, tensor) }
    try writer.finish()
  }

  /// Writes an archive array by array, so that they need not be in memory together.
  ///
  /// ```swift
  /// var writer = try NPZArchive.Writer(path: "activations.npz")
  /// for (name, tensor) in session { try writer.append(name, tensor) }
  /// try writer.finish()
  /// ```
  public struct Writer: ~Copyable {
    private var file: AtomicFile
    private var entries: Entries

    /// Begins an unfinished file in the folder of `path`.
    /// - Throws: `cannotWrite` with the path as context.
    public init(path: String, compression: Compression = .stored) throws(QMError) {
      file = try AtomicFile(path: path)
      entries = Entries(compression)
    }

    /// Writes an array.
    /// - Throws: `cannotWrite`; as ``NPZArchive/encode(_:compression:)``.
    public mutating func append(_ name: String, _ tensor: Tensor) throws(QMError) {
      try entries.append(name, tensor) { (part) throws(QMError) in try file.write(part) }
    }

    /// Writes the central directory and puts the file in its place.
    /// - Throws: `cannotWrite`.
    public consuming func finish() throws(QMError) {
      try entries.finish { (part) throws(QMError) in try file.write(part) }
      try file.commit()
    }
  }

  /// The entries written so far.
  private struct Entries {
    private let compression: Compression
    private var names: Set<String> = []
    private var table: [UInt8] = []
    private var offset = 0

    init(_ compression: Compression) { self.compression = compression }

    mutating func append(
      _ name: String, _ tensor: Tensor, to sink: (UnsafeRawBufferPointer) throws(QMError) -> Void
    ) throws(QMError) {
      guard !name.isEmpty, !name.utf8.contains(0), name.utf8.count <= 0xffff - 4 else {
        throw .invalidInput(
          "array name '\(name.abbreviated)'; a name has 1 to 65,531 bytes and no NUL; rename it")
      }
      guard names.insert(name).inserted else {
        throw .invalidInput("two arrays are named '\(name.abbreviated)'; rename one")
      }
      let header = try within(.value(name)) { () throws(QMError) -> [UInt8] in
        try NPYHeader(tensor.elementType, tensor.shape).encoded()
      }
      var entry = EntryRecord(name: name + ".npy", offset: offset, compression)
      entry.byteCount = header.count + tensor.byteCount
      entry.checksum = header.withUnsafeBytes { ZIPEntry.checksum(of: $0) }
      entry.checksum = UInt32(
        crc32_z(
          UInt(entry.checksum),
          tensor.bytes.baseAddress!.assumingMemoryBound(to: UInt8.self), tensor.byteCount))
      switch compression {
      case .stored:
        entry.storedByteCount = entry.byteCount
        try put(entry.local(), to: sink)
        try put(header, to: sink)
        try sink(tensor.bytes)
      case .deflated:
        let packed = try deflated(header, tensor.bytes)
        entry.storedByteCount = packed.count
        try put(entry.local(), to: sink)
        try packed.withBytes { (bytes) throws(QMError) in try sink(bytes) }
      }
      offset += entry.local().count + entry.storedByteCount
      table += entry.central()
    }

    func finish(
      to sink: (UnsafeRawBufferPointer) throws(QMError) -> Void
    ) throws(QMError) {
      try put(table, to: sink)
      try put(
        EntryRecord.end(entryCount: names.count, tableByteCount: table.count, offset: offset),
        to: sink)
    }

    private func put(
      _ bytes: [UInt8], to sink: (UnsafeRawBufferPointer) throws(QMError) -> Void
    ) throws(QMError) {
      try bytes.withUnsafeBufferPointer { (bytes) throws(QMError) in
        try sink(UnsafeRawBufferPointer(bytes))
      }
    }
  }

  /// Header and elements as one deflate stream.
  private static func deflated(_ header: [UInt8], _ elements: UnsafeRawBufferPointer)
    throws(QMError) -> Bytes
  {
    var stream = z_stream()
    guard
      deflateInit2_(
        &stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION,
        Int32(MemoryLayout<z_stream>.size)) == Z_OK
    else { throw .outOfMemory(byteCount: 1 << 18) }
    defer { deflateEnd(&stream) }
    let bound = Int(deflateBound(&stream, UInt(header.count + elements.count)))
    let result = try Buffer.allocate(byteCount: bound)
    var given = 0
    func pack(_ source: UnsafeRawBufferPointer, isLast: Bool) {
      var taken = 0
      var status = Z_OK
      repeat {
        // zlib counts in 32 bits.
        let input = min(source.count - taken, 1 << 30)
        let room = min(bound - given, 1 << 30)
        stream.next_in = source.baseAddress.map {
          UnsafeMutablePointer(mutating: ($0 + taken).assumingMemoryBound(to: UInt8.self))
        }
        stream.avail_in = UInt32(input)
        stream.next_out = (result.base + given).assumingMemoryBound(to: UInt8.self)
        stream.avail_out = UInt32(room)
        let isFinal = isLast && taken + input == source.count
        status = deflate(&stream, isFinal ? Z_FINISH : Z_NO_FLUSH)
        taken += input - Int(stream.avail_in)
        given += room - Int(stream.avail_out)
      } while status == Z_OK && (isLast || taken < source.count)
    }
    header.withUnsafeBytes { pack($0, isLast: false) }
    pack(elements, isLast: true)
    return Bytes(buffer: result, range: 0..<given)
  }
}

/// Encodes the headers of one entry. Sizes and offsets over 32 bits go into a zip64 extra field.
private struct EntryRecord {
  let name: String
  let offset: Int
  let method: Int
  var checksum: UInt32 = 0
  var byteCount = 0
  var storedByteCount = 0

  init(name: String, offset: Int, _ compression: NPZArchive.Compression) {
    self.name = name
    self.offset = offset
    let method: ZIPEntry.Method = compression == .stored ? .stored : .deflated
    self.method = method.rawValue
  }

  /// 1 January 1980, the earliest time in a ZIP archive, as NumPy writes it.
  private static let time = 0
  private static let date = 33
  private static let zip64Version = 45
  private static let version = 20
  private var needsZip64: Bool { max(byteCount, storedByteCount) >= Int(UInt32.max) }
  private var flags: Int { name.utf8.allSatisfy { $0 < 0x80 } ? 0 : 1 << 11 }

  func local() -> [UInt8] {
    var extra: [UInt8] = []
    if needsZip64 {
      extra += little(ZIPEntry.zip64Extra, 2) + little(16, 2)
      extra += little(byteCount, 8) + little(storedByteCount, 8)
    }
    return little(Int(ZIPEntry.localSignature), 4)
      + common(version: needsZip64 ? EntryRecord.zip64Version : EntryRecord.version, needsZip64)
      + little(extra.count, 2) + Array(name.utf8) + extra
  }

  func central() -> [UInt8] {
    let hasZip64Offset = offset >= Int(UInt32.max)
    var fields: [UInt8] = []
    if needsZip64 { fields += little(byteCount, 8) + little(storedByteCount, 8) }
    if hasZip64Offset { fields += little(offset, 8) }
    let extra =
      fields.isEmpty ? [] : little(ZIPEntry.zip64Extra, 2) + little(fields.count, 2) + fields
    let version = fields.isEmpty ? EntryRecord.version : EntryRecord.zip64Version
    // Made on Unix (3); mode: a regular file that everybody may read.
    return little(Int(ZIPEntry.centralSignature), 4) + little(3 << 8 | version, 2)
      + common(version: version, needsZip64) + little(extra.count, 2) + little(0, 2) + little(0, 2)
      + little(0, 2) + little(0o100644 << 16, 4)
      + little(hasZip64Offset ? Int(UInt32.max) : offset, 4) + Array(name.utf8) + extra
  }

  /// The fields that both headers have in common, from the version to the length of the name.
  private func common(version: Int, _ needsZip64: Bool) -> [UInt8] {
    little(version, 2) + little(flags, 2) + little(method, 2) + little(EntryRecord.time, 2)
      + little(EntryRecord.date, 2) + little(Int(checksum), 4)
      + little(needsZip64 ? Int(UInt32.max) : storedByteCount, 4)
      + little(needsZip64 ? Int(UInt32.max) : byteCount, 4) + little(name.utf8.count, 2)
  }

  /// The end record, preceded by its zip64 form and locator if a number needs them.
  static func end(entryCount: Int, tableByteCount: Int, offset: Int) -> [UInt8] {
    let needsZip64 =
      entryCount >= 0xffff || tableByteCount >= Int(UInt32.max) || offset >= Int(UInt32.max)
    var bytes: [UInt8] = []
    if needsZip64 {
      bytes += little(Int(ZIPEntry.zip64EndSignature), 4) + little(44, 8)
      bytes += little(3 << 8 | zip64Version, 2) + little(zip64Version, 2) + little(0, 4)
      bytes += little(0, 4) + little(entryCount, 8) + little(entryCount, 8)
      bytes += little(tableByteCount, 8) + little(offset, 8)
      bytes += little(Int(ZIPEntry.zip64LocatorSignature), 4) + little(0, 4)
      bytes += little(offset + tableByteCount, 8) + little(1, 4)
    }
    bytes += little(Int(ZIPEntry.endSignature), 4) + little(0, 4)
    bytes += little(min(entryCount, 0xffff), 2) + little(min(entryCount, 0xffff), 2)
    bytes += little(min(tableByteCount, Int(UInt32.max)), 4)
    bytes += little(min(offset, Int(UInt32.max)), 4) + little(0, 2)
    return bytes
  }
}

/// The low `count` bytes of `value`, least significant first.
private func little(_ value: Int, _ count: Int) -> [UInt8] {
  (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
}
