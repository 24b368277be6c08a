import QMTensor

/// The results of a tool as a value. The command line prints it as text or JSON; a caller of the
/// library uses the value.
///
/// The JSON keys are part of the interface of the tools (`--json`): new keys may be added, existing
/// ones do not change. Numbers that JSON cannot express are the strings `Infinity`, `-Infinity` and
/// `NaN`. Properties that are nil are left out.
public protocol Report: Codable, Hashable, Sendable {}

extension Report {
  /// The report as one JSON object over several lines, with sorted keys.
  /// - Throws: `internalFault` if JSON cannot express the report.
  public func json() throws(QMError) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
    do {
      return String(decoding: try encoder.encode(self), as: UTF8.self)
    } catch {
      throw .internalFault("the report cannot be written as JSON")
    }
  }

  /// Reads a report that ``json()`` wrote.
  /// - Throws: `malformed` if the text is not the JSON of this type of report.
  public init(json: String) throws(QMError) {
    let decoder = JSONDecoder()
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
      positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
    do {
      self = try decoder.decode(Self.self, from: Data(json.utf8))
    } catch {
      throw .malformed("not the JSON of a \(Self.self)")
    }
  }
}

extension Array: Report where Element: Report {}

/// A file that was read or written.
public struct FileSize: Codable, Hashable, Sendable {
  /// The path as the user gave it.
  public let path: String
  /// Size in bytes.
  public let bytes: Int

  /// A file, with its size in bytes.
  public init(path: String, bytes: Int) {
    self.path = path
    self.bytes = bytes
  }
}

extension Sequence<UInt8> {
  /// Two lower-case hexadecimal digits per byte, as reports show digests.
  public var hexadecimal: String {
    reduce(into: "") { text, byte in
      text += (byte < 16 ? "0" : "") + String(byte, radix: 16)
    }
  }
}
