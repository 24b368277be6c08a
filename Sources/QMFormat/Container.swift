import QMOperations
import QMTensor

/// The outer layer of a `.qm` file: sections of bytes, each deflated on its own, under checksums.
///
/// Opening reads the header and the table of sections and checks both; a section is read and
/// checked when it is asked for.
public struct Container: Sendable {
  /// What a section holds. From 128 on a reader may leave a section out without changing what the
  /// program computes, so unknown numbers are passed over there and refused below.
  public struct Kind: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Inputs, types, nodes, outputs: the structure.
    public static let program = Kind(rawValue: 1)
    /// Elements of one or more constants.
    public static let data = Kind(rawValue: 2)
    /// Names of inner values and nodes.
    public static let names = Kind(rawValue: 128)
    public static let metadata = Kind(rawValue: 129)

    var isAncillary: Bool { rawValue >= 128 }
    var isKnown: Bool { [.program, .data, .names, .metadata].contains(self) }
  }

  public enum Encoding: UInt8, Hashable, Sendable {
    case stored = 0
    /// RFC 1951, without a wrapper.
    case deflated = 1
  }

  public struct Section: Sendable, Hashable {
    public let kind: Kind
    public let encoding: Encoding
    /// In the file.
    public let offset: Int
    public let storedByteCount: Int
    public let inflatedByteCount: Int
    /// CRC-32 of the stored bytes.
    public let checksum: UInt32
  }

  /// Two letters; a byte over 127 that a transfer in 7 bits destroys; a line end of each kind and
  /// an end-of-file mark, which a transfer as text alters; and a zero.
  static let magic: [UInt8] = [0x51, 0x4D, 0x89, 0x0D, 0x0A, 0x1A, 0x0A, 0x00]
  /// The version whose rules the writer follows.
  static let writeVersion: UInt16 = 0
  /// The least version of a reader that understands every file that the writer makes.
  static let readVersion: UInt16 = 0
  /// Of the header; the table follows.
  package static let headerByteCount = 68
  /// Offset of the CRC-32 over the rest of the header and the table.
  static let checksumOffset = 64
  static let digestOffset = 32
  /// Kind, encoding, one byte for each length, checksum.
  static let smallestRowByteCount = 8

  /// The version whose rules the writer of the file followed.
  public let writeVersion: Int
  public let sections: [Section]
  /// SHA-256 over kind, length and SHA-256 of every inflated section: the same for the same
  /// content, whatever zlib made of it.
  public let digest: [UInt8]
  private let source: Source

  /// Where the bytes of the file are.
  private enum Source {
    case memory(Buffer)
    /// Each section is read when it is asked for.
    case file(OpenFile)

    var count: Int {
      switch self {
      case .memory(let buffer): buffer.count
      case .file(let file): file.count
      }
    }
  }

  public var byteCount: Int { source.count }

  /// - Throws: `malformed` with the offset; `unsupported` for a later version of the format.
  public init(_ bytes: Buffer, limits: DecodingLimits = .standard) throws(QMError) {
    try self.init(.memory(bytes), start: bytes, limits: limits)
  }

  /// A file whose sections are read one by one.
  init(_ file: OpenFile, limits: DecodingLimits) throws(QMError) {
    let header = try file.bytes(0..<min(file.count, Container.headerByteCount))
    var end = header.count
    if end == Container.headerByteCount {
      let table = withExtendedLifetime(header) {
        header.bytes.loadUnaligned(fromByteOffset: 12, as: UInt32.self)
      }
      end = min(file.count, end + Int(UInt32(littleEndian: table)))
    }
    try self.init(.file(file), start: file.bytes(0..<end), limits: limits)
  }

  /// - Parameter start: the file up to the end of the table of sections, or all of it.
  private init(_ source: Source, start bytes: Buffer, limits: DecodingLimits) throws(QMError) {
    self.source = source
    defer { withExtendedLifetime(bytes) {} }
    var reader = ByteReader(bytes.bytes, limits: limits)
    let size = Container.headerByteCount
    guard bytes.count >= Container.magic.count,
      try reader.take(Container.magic.count).elementsEqual(Container.magic)
    else {
      throw Container.wrongMagic(bytes.bytes)
    }
    guard bytes.count >= size else {
      throw reader.malformed("the file is cut off: a header of \(size) bytes expected")
    }
    let writeVersion = try reader.integer(as: UInt16.self)
    let readVersion = try reader.integer(as: UInt16.self)
    let tableByteCount = Int(try reader.integer(as: UInt32.self))
    let sectionCount = Int(try reader.integer(as: UInt32.self))
    let reserved = try reader.integer(as: UInt32.self)
    let fileByteCount = try reader.integer(as: UInt64.self)
    digest = Array(try reader.take(32))
    let checksum = try reader.integer(as: UInt32.self)
    guard fileByteCount == UInt64(source.count) else {
      throw QMError(
        .malformed,
        "the file has \(source.count) bytes and its header says \(fileByteCount); "
          + "copy it again", context: [.offset(24)])
    }
    let table = try reader.take(tableByteCount)
    let found = Deflate.crc32(
      table, from: Deflate.crc32(UnsafeRawBufferPointer(rebasing: bytes.bytes[..<(size - 4)])))
    guard checksum == found else {
      throw QMError(
        .malformed, "the checksum of header and table is wrong; copy the file again",
        context: [.offset(Container.checksumOffset)])
    }
    guard readVersion <= writeVersion else {
      throw QMError(
        .malformed, "read version \(readVersion) is later than write version \(writeVersion)",
        context: [.offset(8)])
    }
    guard readVersion <= Container.readVersion else {
      throw .unsupported(
        "the file needs a reader of version \(readVersion) of the format, this is version "
          + "\(Container.readVersion)")
    }
    guard reserved == 0 else {
      throw QMError(.malformed, "a reserved field of the header is set", context: [.offset(20)])
    }
    self.writeVersion = Int(writeVersion)
    sections = try Container.sections(
      table, count: sectionCount, fileByteCount: source.count, limits: limits)
  }

  /// Opens a file without reading its sections.
  /// - Throws: also `cannotOpen`. The path is in the error's context.
  public init(path: String, limits: DecodingLimits = .standard) throws(QMError) {
    let bytes = try Buffer.mapping(path: path)
    self = try within(.file(path)) { () throws(QMError) in
      try Container(bytes, limits: limits)
    }
  }

  private static func wrongMagic(_ bytes: UnsafeRawBufferPointer) -> QMError {
    let isDamaged = bytes.count >= 2 && bytes[0] == magic[0] && bytes[1] == magic[1]
    let message =
      isDamaged
      ? "the first bytes are damaged, as when a file is transferred as text or cut off; copy it "
        + "again in binary"
      : "not a .qm file: it begins otherwise"
    return QMError(.malformed, message, context: [.offset(0)])
  }

  /// The rows of the table. Offsets in errors count from the start of the table.
  private static func sections(
    _ table: UnsafeRawBufferPointer, count: Int, fileByteCount: Int, limits: DecodingLimits
  ) throws(QMError) -> [Section] {
    try within(.entry("table of sections")) { () throws(QMError) in
      var reader = ByteReader(table, limits: limits)
      guard count <= table.count / smallestRowByteCount else {
        throw reader.malformed("\(count) rows do not fit into \(table.count) bytes")
      }
      var sections: [Section] = []
      sections.reserveCapacity(count)
      var offset = headerByteCount + table.count
      for _ in 0..<count {
        let kind = Kind(rawValue: try reader.byte())
        guard kind.isKnown || kind.isAncillary else {
          throw reader.malformed("section kind \(kind.rawValue) is unknown")
        }
        let encoding = try reader.code("encoding", as: Encoding.self)
        let stored = try reader.varint()
        let inflated = try reader.varint()
        guard stored <= fileByteCount - offset else {
          throw reader.malformed(
            "a section of \(stored) bytes does not fit into \(fileByteCount - offset)")
        }
        // The quotient, because the product may overflow.
        guard
          encoding == .stored
            ? inflated == stored : inflated / Deflate.largestRatio <= stored
        else {
          throw reader.malformed("\(stored) bytes cannot inflate to \(inflated)")
        }
        sections.append(
          Section(
            kind: kind, encoding: encoding, offset: offset, storedByteCount: stored,
            inflatedByteCount: inflated, checksum: try reader.integer(as: UInt32.self)))
        offset += stored
      }
      try reader.finish()
      guard offset == fileByteCount else {
        throw reader.malformed("\(fileByteCount - offset) bytes after the last section")
      }
      return sections
    }
  }

  /// What reading a section takes besides its bytes; for one thread at a time.
  final class Scratch: @unchecked Sendable {
    fileprivate let inflation: Inflation
    /// Bytes of a file.
    fileprivate let part: Buffer
    /// For ``inflate(_:into:with:_:)``.
    let window: UnsafeMutableRawBufferPointer
    private let windowBuffer: Buffer

    /// - Throws: `outOfMemory`.
    init() throws(QMError) {
      inflation = try Inflation()
      part = try Buffer.pages(byteCount: 1 << 16)
      windowBuffer = try Buffer.pages(byteCount: DataDecoder.partByteCount)
      window = UnsafeMutableRawBufferPointer(
        start: windowBuffer.base, count: DataDecoder.partByteCount)
    }
  }

  /// Gives `body` the stored bytes of a section, part by part, and checks them all: a wrong
  /// checksum comes before what it makes `body` throw.
  private func readStoredBytes(
    _ section: Section, with scratch: Scratch,
    _ body: (UnsafeRawBufferPointer) throws(QMError) -> Void
  ) throws(QMError) {
    let end = section.offset + section.storedByteCount
    var checksum: UInt32 = 0
    var failure: QMError?
    func take(_ part: UnsafeRawBufferPointer) {
      checksum = Deflate.crc32(part, from: checksum)
      guard failure == nil else { return }
      do throws(QMError) { try body(part) } catch { failure = error }
    }
    switch source {
    case .memory(let whole):
      withExtendedLifetime(whole) {
        take(UnsafeRawBufferPointer(rebasing: whole.bytes[section.offset..<end]))
      }
    case .file(let file):
      let base = scratch.part.base
      var offset = section.offset
      while offset < end {
        let count = min(scratch.part.count, end - offset)
        try file.read(offset, into: UnsafeMutableRawBufferPointer(start: base, count: count))
        take(UnsafeRawBufferPointer(start: base, count: count))
        offset += count
      }
    }
    guard checksum == section.checksum else {
      throw QMError(
        .malformed, "the checksum of a section is wrong; copy the file again",
        context: [.offset(section.offset)])
    }
    if let failure { throw failure }
  }

  /// Checks the stored bytes of a section without inflating them.
  /// - Throws: `malformed`.
  public func check(_ section: Section) throws(QMError) {
    try readStoredBytes(section, with: Scratch()) { (_) throws(QMError) in }
  }

  /// The bytes of a section, in memory of its own: a mapped file may change after it was checked.
  /// - Throws: `malformed`, `outOfMemory`.
  public func inflated(_ section: Section) throws(QMError) -> Buffer {
    try inflated(section, with: Scratch())
  }

  func inflated(_ section: Section, with scratch: Scratch) throws(QMError) -> Buffer {
    let buffer = try Buffer.pages(byteCount: section.inflatedByteCount)
    try inflate(
      section, into: UnsafeMutableRawBufferPointer(start: buffer.base, count: buffer.count),
      with: scratch
    ) { (_) throws(QMError) in }
    return buffer
  }

  /// Inflates a section into a window that `consume` gets whenever it is full, and at the end. The
  /// checksum is known only behind the last part.
  /// - Throws: `malformed`, `outOfMemory`, what `consume` throws.
  func inflate(
    _ section: Section, into window: UnsafeMutableRawBufferPointer, with scratch: Scratch,
    _ consume: (UnsafeRawBufferPointer) throws(QMError) -> Void
  ) throws(QMError) {
    guard section.encoding == .deflated else {
      var (filled, total) = (0, 0)
      return try readStoredBytes(section, with: scratch) { (part) throws(QMError) in
        var rest = part[...]
        while !rest.isEmpty {
          let taken = rest.prefix(window.count - filled)
          UnsafeMutableRawBufferPointer(rebasing: window[filled...])
            .copyMemory(from: UnsafeRawBufferPointer(rebasing: taken))
          filled += taken.count
          total += taken.count
          rest = rest.dropFirst(taken.count)
          guard filled == window.count || total == section.inflatedByteCount else { continue }
          try within(.offset(section.offset)) { () throws(QMError) in
            try consume(UnsafeRawBufferPointer(rebasing: window[..<filled]))
          }
          filled = 0
        }
      }
    }
    let inflation = scratch.inflation
    inflation.begin(byteCount: section.inflatedByteCount, into: window)
    try readStoredBytes(section, with: scratch) { (part) throws(QMError) in
      try within(.offset(section.offset)) { () throws(QMError) in
        try inflation.append(part, consume)
      }
    }
    try within(.offset(section.offset)) { () throws(QMError) in try inflation.finish() }
  }

  /// Inflates every section and compares with the content digest.
  /// - Throws: `malformed`, `outOfMemory`.
  public func checkDigest() throws(QMError) {
    guard try contentDigest() == digest else {
      throw QMError(
        .malformed, "the content digest is wrong", context: [.offset(Container.digestOffset)])
    }
  }

  func contentDigest() throws(QMError) -> [UInt8] {
    var content = ContentDigest()
    for section in sections {
      let inflated = try inflated(section)
      withExtendedLifetime(inflated) { content.append(section.kind, inflated.bytes) }
    }
    return content.finished()
  }
}
