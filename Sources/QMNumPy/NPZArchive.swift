import QMTensor

/// Named arrays in NumPy's `.npz` format: a ZIP archive with one `.npy` file per array.
///
/// Opening reads the central directory and checks it: sizes and offsets are within the archive, the
/// local header of each entry agrees with the directory, no entries overlap, none is encrypted, and
/// all are stored or deflated. An array is read, and its checksum compared, when it is requested.
/// An entry whose name does not end in `.npy` is an array too if its content begins as one; others
/// are ignored.
public struct NPZArchive: Sendable {
  /// Names of the arrays (without `.npy`) in the order of the central directory.
  public let names: [String]
  private let path: String?
  private let bytes: FileBytes
  private let entries: [String: ZIPEntry]
  private let limits: NumPyLimits

  /// Opens an archive. The file is read in parts, not mapped.
  /// - Throws: `cannotOpen`, `malformed`, `unsupported`, `outOfMemory`, with the path as context.
  public init(path: String, limits: NumPyLimits = .standard) throws(QMError) {
    self = try within(.file(path)) { () throws(QMError) -> NPZArchive in
      try NPZArchive(.file(OpenFile(path: path)), path: path, limits)
    }
  }

  /// Opens an archive in memory. Stored arrays share the buffer if their elements are aligned.
  /// - Throws: `malformed`, `unsupported`, `outOfMemory`.
  public init(bytes: Buffer, limits: NumPyLimits = .standard) throws(QMError) {
    try self.init(.memory(bytes), path: nil, limits)
  }

  private init(_ bytes: FileBytes, path: String?, _ limits: NumPyLimits) throws(QMError) {
    self.bytes = bytes
    self.path = path
    self.limits = limits
    let start = try bytes.read(at: 0, count: min(bytes.count, 64))
    if let kind = start.withBytes({ (bytes) in FileKind(bytes) }), kind != .npz {
      throw kind.refusal(expected: "an archive of NumPy arrays (.npz)")
    }
    var names: [String] = []
    var entries: [String: ZIPEntry] = [:]
    for entry in try ZIPEntry.directory(of: bytes, limits) {
      let hasEnding = entry.name.hasSuffix(".npy")
      let magic = NPYHeader.magic
      guard hasEnding || entry.start(in: bytes, count: magic.count) == magic else { continue }
      let name = hasEnding ? String(entry.name.dropLast(4)) : entry.name
      guard !name.isEmpty else {
        throw QMError(.malformed, "an array has no name", context: [.offset(entry.offset)])
      }
      guard entries.updateValue(entry, forKey: name) == nil else {
        throw .malformed(
          "two arrays are named '\(name.abbreviated)', one with .npy behind its name; expected one")
      }
      names.append(name)
    }
    guard !names.isEmpty else {
      throw .malformed("the archive holds no array; expected entries in NumPy's .npy format")
    }
    self.names = names
    self.entries = entries
  }

  /// Whether the archive holds an array of this name.
  public func contains(_ name: String) -> Bool { entries[name] != nil }

  /// Reads one array.
  /// - Throws: `invalidInput` if no array has this name; `malformed`, `unsupported`, `outOfMemory`,
  ///   with the path and the entry as context. Byte offsets count from the start of the inflated
  ///   entry.
  public func tensor(named name: String) throws(QMError) -> Tensor {
    guard let path else { return try content(named: name) }
    return try within(.file(path)) { () throws(QMError) -> Tensor in try content(named: name) }
  }

  private func content(named name: String) throws(QMError) -> Tensor {
    guard let entry = entries[name] else {
      throw .invalidInput("no array '\(name.abbreviated)'; the archive holds \(names.listed)")
    }
    return try within(.entry(name)) { () throws(QMError) -> Tensor in
      try limits.check(arrayByteCount: entry.byteCount)
      let content = try entry.content(in: bytes)
      return try Tensor(npyBytes: content.buffer, in: content.range, limits: limits)
    }
  }
}

extension NPZArchive: CheckpointReader {
  /// How much of an entry shows the type of its elements: NumPy writes headers of 128 bytes.
  private static let headerByteCount = 4096

  /// Names of the arrays of texts or Python objects, in the order of ``names``.
  public var namesWithoutNumbers: [String] {
    names.filter { name in
      guard let start = entries[name]?.start(in: bytes, count: NPZArchive.headerByteCount)
      else { return false }
      return start.withUnsafeBytes(NPYHeader.holdsTextsOrObjects)
    }
  }

  /// `.npz`.
  public static let fileNameEnding = ".npz"

  /// Whether a file begins with the signature of a ZIP entry.
  public static func recognizes(_ start: [UInt8]) -> Bool {
    start.starts(with: [0x50, 0x4B, 0x03, 0x04])
  }

  /// Opens an archive with the standard limits.
  /// - Throws: as ``init(path:limits:)``.
  public static func open(_ path: String) throws(QMError) -> NPZArchive {
    try NPZArchive(path: path)
  }
}
