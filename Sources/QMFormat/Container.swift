import QMOperations
import QMTensor

/// The outer layer of a `.qm` file: sections of bytes, deflated and checksummed one by one
/// (`schema/qm-format.md`, Container).
///
/// Opening reads the header and the table of sections and checks both; a section is read and
/// checked when it is requested.
public struct Container: Sendable {
  /// The kind of a section. A section of kind 128 or above does not affect what the program
  /// computes: unknown kinds there are ignored. Unknown kinds below 128 are refused.
  public struct Kind: RawRepresentable, Hashable, Sendable {
    /// The number of the kind in files.
    public var rawValue: UInt8
    /// A kind by its number in files.
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The structure of the program: inputs, types, nodes and outputs.
    public static let program = Kind(rawValue: 1)
    /// The elements of one or more constants.
    public static let data = Kind(rawValue: 2)
    /// The names of inner values and nodes.
    public static let names = Kind(rawValue: 128)
    /// ``Program/Metadata``.
    public static let metadata = Kind(rawValue: 129)
    /// ``Program/Probes``.
    public static let probes = Kind(rawValue: 130)

    var isAncillary: Bool { rawValue >= 128 }
    var isKnown: Bool { [.program, .data, .names, .metadata, .probes].contains(self) }
  }

  /// How the content of a section is encoded. Raw values are written in files.
  public enum Encoding: UInt8, Hashable, Sendable {
    /// As it is.
    case stored = 0
    /// A raw deflate stream (RFC 1951).
    case deflated = 1
  }

  /// A row of the table of sections.
  public struct Section: Sendable, Hashable {
    /// What the section holds.
    public let kind: Kind
    /// How the section is encoded.
    public let encoding: Encoding
    /// Offset of the section in the file, in bytes.
    public let offset: Int
    /// Size in the file, in bytes.
    public let storedByteCount: Int
    /// Size of the inflated content, in bytes.
    public let inflatedByteCount: Int
    /// CRC-32 of the stored bytes.
    public let checksum: UInt32
  }

  /// Two letters, a byte over 127 that a 7-bit transfer destroys, both kinds of line end and an
  /// end-of-file mark that a transfer as text alters, and a zero.
  static let magic: [UInt8] = [0x51, 0x4D, 0x89, 0x0D, 0x0A, 0x1A, 0x0A, 0x00]
  /// The version of the format that this writer follows.
  static let writeVersion: UInt16 = 3
  /// The oldest version of a reader that understands every file of this writer. Before the format is
  /// stable, also the oldest version of a writer whose files this reader understands.
  static let readVersion: UInt16 = 2
  /// Size of the header, which the table of sections follows.
  package static let headerByteCount = 68
  /// Offset of the CRC-32 over the rest of the header and the table.
  static let checksumOffset = 64
  /// Offset of the content digest.
  static let digestOffset = 32
  /// Kind, encoding, two lengths of one byte each, checksum.
  static let smallestRowByteCount = 8

  /// The version of the format that the writer of the file followed.
  public let writeVersion: Int
  /// All sections, in the order of the file.
  public let sections: [Section]
  /// The content digest that the header states: a SHA-256 (32 bytes) over kind, length and SHA-256
  /// of every inflated section. It does not depend on how the sections are deflated.
  public let digest: [UInt8]
  /// Each section is read when it is requested.
  private let source: FileBytes

  /// Size of the file, in bytes.
  public var byteCount: Int { source.count }

  /// Opens a file that is in memory.
  /// - Throws: `malformed` with the offset as context; `unsupported` for a later version of the
  ///   format.
  public init(_ bytes: Buffer, limits: DecodingLimits = .standard) throws(QMError) {
    try self.init(.memory(bytes), start: bytes, limits: limits)
  }

  /// Opens a file whose sections are read one by one.
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
  private init(_ source: FileBytes, start bytes: Buffer, limits: DecodingLimits) throws(QMError) {
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
      throw reader.malformed(
        "the file is truncated: expected a header of \(size) bytes; copy it again")
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
        "the file has \(source.count) bytes, expected \(fileByteCount) by its header; "
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
    guard readVersion <= Container.writeVersion else {
      throw .unsupported(
        "the file needs a reader of format version \(readVersion), this one reads up to version "
          + "\(Container.writeVersion); update it")
    }
    guard writeVersion >= Container.readVersion else {
      throw .unsupported("written by an earlier version; convert again")
    }
    guard reserved == 0 else {
      throw QMError(
        .malformed, "the reserved field of the header is \(reserved), expected 0",
        context: [.offset(20)])
    }
    self.writeVersion = Int(writeVersion)
    sections = try Container.sections(
      table, count: sectionCount, fileByteCount: source.count, limits: limits)
  }

  /// Maps a file and opens it; its sections are read when they are requested.
  /// - Throws: as ``init(_:limits:)``; `cannotOpen`; with the path as context.
  public init(path: String, limits: DecodingLimits = .standard) throws(QMError) {
    let bytes = try Buffer.mapping(path: path)
    self = try within(.file(path)) { () throws(QMError) in
      try Container(bytes, limits: limits)
    }
  }

  private static func wrongMagic(_ bytes: UnsafeRawBufferPointer) -> QMError {
    let isDamaged = bytes.count >= 2 && bytes[0] == magic[0] && bytes[1] == magic[1]
    if !isDamaged, let kind = FileKind(bytes) { return kind.refusal(expected: "a .qm file") }
    let message =
      isDamaged
      ? "the first bytes are damaged, as by a transfer as text or a truncation; copy the file "
        + "again in binary mode"
      : "not a .qm file: it does not begin with the bytes of one"
    return QMError(.malformed, message, context: [.offset(0)])
  }

  /// Reads the rows of the table. Offsets in errors count from the start of the table.
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
            "a section of \(stored) bytes does not fit into the remaining \(fileByteCount - offset)"
          )
        }
        // Divides because the product could overflow.
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

  /// Memory for reading sections, used by one thread at a time.
  final class Scratch: @unchecked Sendable {
    fileprivate let inflation: Inflation
    /// Holds part of the stored bytes of a section.
    fileprivate let part: Buffer
    /// Holds part of the inflated bytes, for ``inflate(_:into:with:_:)``.
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

  /// Calls `body` with the stored bytes of a section, part by part, and checks their checksum. A
  /// wrong checksum is reported instead of an error of `body`, which it probably caused.
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
        .malformed, "the checksum of the section is wrong; copy the file again",
        context: [.offset(section.offset)])
    }
    if let failure { throw failure }
  }

  /// Checks the checksum of a section without inflating it.
  /// - Throws: `malformed`.
  public func check(_ section: Section) throws(QMError) {
    try readStoredBytes(section, with: Scratch()) { (_) throws(QMError) in }
  }

  /// The content of a section, copied into memory: a mapped file could change after the check.
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

  /// Inflates a section part by part. `consume` is called with the content of `window` whenever it
  /// is full, and at the end. The checksum is compared only after the last part.
  /// - Throws: `malformed`, `outOfMemory`, or the error of `consume`.
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

  /// Inflates every section, computes the content digest and compares it with ``digest``.
  /// - Throws: `malformed`, `outOfMemory`.
  public func checkDigest() throws(QMError) {
    guard try contentDigest() == digest else {
      throw QMError(
        .malformed, "the content digest is wrong; copy the file again",
        context: [.offset(Container.digestOffset)])
    }
  }

  /// The digest of the inflated sections.
  func contentDigest() throws(QMError) -> [UInt8] {
    var content = ContentDigest()
    for section in sections {
      let inflated = try inflated(section)
      withExtendedLifetime(inflated) { content.append(section.kind, inflated.bytes) }
    }
    return content.finished()
  }
}
