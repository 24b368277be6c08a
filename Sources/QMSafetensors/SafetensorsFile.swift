import QMTensor

/// Limits on what a `.safetensors` file may require. A file beyond a limit is refused as `unsupported`.
public struct SafetensorsLimits: Hashable, Sendable {
  /// Maximum size of the header, in bytes: the limit of the format's own library. A header takes
  /// about 100 bytes for each array.
  public var headerByteCount = 100_000_000
  /// Maximum number of axes of an array; frameworks have at most 64.
  public var rank = 64

  /// Limits for files from untrusted sources.
  public static let standard = SafetensorsLimits()

  /// The standard limits; each may then be changed.
  public init() {}
}

/// Named arrays in the format of Hugging Face: the size of a header, the header in JSON, and the
/// elements of all arrays, little-endian.
///
/// Opening reads the header and checks it: names are unique, the arrays fill the rest of the file
/// without overlap or gap, and the place of each has the size of its shape. Elements are read when an
/// array is requested.
public struct SafetensorsFile: Sendable {
  /// Names of the arrays, in the order of the header.
  public let names: [String]
  private let entries: [String: SafetensorsHeader.Entry]
  private let source: FileBytes
  private let path: String?

  /// Opens a file.
  /// - Throws: `cannotOpen`, `malformed`, `unsupported`, `outOfMemory`, with the path as context.
  public init(path: String, limits: SafetensorsLimits = .standard) throws(QMError) {
    self = try within(.file(path)) { () throws(QMError) -> SafetensorsFile in
      try SafetensorsFile(.file(OpenFile(path: path)), path: path, limits)
    }
  }

  /// Opens a file in memory.
  /// - Throws: `malformed`, `unsupported`, `outOfMemory`.
  public init(bytes: Buffer, limits: SafetensorsLimits = .standard) throws(QMError) {
    try self.init(.memory(bytes), path: nil, limits)
  }

  private init(
    _ source: FileBytes, path: String?, _ limits: SafetensorsLimits
  ) throws(QMError) {
    let start = try source.copy(0..<min(source.count, 64))
    if let kind = withExtendedLifetime(start, { FileKind(start.bytes) }), kind != .safetensors {
      throw kind.refusal(expected: "a .safetensors file")
    }
    guard source.count >= 8 else {
      throw .malformed("the file has \(source.count) bytes; expected the size of its header in 8")
    }
    let stated = withExtendedLifetime(start) {
      start.bytes.loadUnaligned(as: UInt64.self).littleEndian
    }
    guard stated <= UInt64(source.count - 8) else {
      throw .malformed(
        "the header has \(stated) bytes, the file \(source.count); it was cut off, or is of another format",
        remedies: .changeModel(how: "save or download it again"))
    }
    let size = Int(stated)
    guard size <= limits.headerByteCount else {
      throw .unsupported("the header has \(size) bytes; the limit is \(limits.headerByteCount)")
    }
    let header = try source.copy(8..<8 + size)
    let entries = try SafetensorsHeader.entries(of: header, limits)
    try SafetensorsHeader.check(entries, byteCount: source.count - 8 - size)
    self.source = source
    self.path = path
    names = entries.map(\.name)
    self.entries = Dictionary(
      uniqueKeysWithValues: entries.map { ($0.name, $0.moved(by: 8 + size)) })
  }
}

extension SafetensorsFile: CheckpointReader {
  /// `.safetensors`.
  public static let fileNameEnding = ".safetensors"

  /// Whether a file begins with a size under 2³² and the start of a header.
  public static func recognizes(_ start: [UInt8]) -> Bool {
    start.withUnsafeBytes { FileKind($0) == .safetensors }
  }

  /// Opens a file with the standard limits.
  /// - Throws: as ``init(path:limits:)``.
  public static func open(_ path: String) throws(QMError) -> SafetensorsFile {
    try SafetensorsFile(path: path)
  }

  /// Reads one array.
  /// - Throws: `invalidInput` if no array has this name; `unsupported` if its elements are of a type
  ///   that is not read; `cannotOpen`, `malformed` if the file has become shorter; `outOfMemory`. The
  ///   path and the name are the context.
  public func tensor(named name: String) throws(QMError) -> Tensor {
    guard let path else { return try content(named: name) }
    return try within(.file(path)) { () throws(QMError) -> Tensor in try content(named: name) }
  }

  private func content(named name: String) throws(QMError) -> Tensor {
    guard let entry = entries[name] else {
      throw .invalidInput("no array '\(name.abbreviated)'; the file holds \(names.listed)")
    }
    return try within(.entry(name)) { () throws(QMError) -> Tensor in
      guard let type = ElementType(safetensorsName: entry.typeName) else {
        throw .unsupported(
          "elements of type '\(entry.typeName.abbreviated)'; expected "
            + ElementType.allCases.map(\.safetensorsName).joined(separator: ", "),
          remedies: .changeModel(how: "save the array in one of these"))
      }
      let elements = try source.copy(entry.range)
      if type == .bool {
        // Any byte other than 0 is true; a Swift Bool other than 0 and 1 is undefined.
        for place in 0..<elements.count {
          let byte = elements.base.load(fromByteOffset: place, as: UInt8.self)
          elements.base.storeBytes(of: min(byte, 1), toByteOffset: place, as: UInt8.self)
        }
      }
      return try Tensor(type, entry.shape, buffer: elements)
    }
  }
}
