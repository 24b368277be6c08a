import Foundation
import QMTensor

/// What a tool found, as one value: the command line prints it as text or as JSON, and whoever calls
/// the library takes it as it is.
///
/// Keys of the JSON are part of the interface of the tools (`--json`): they are added to, and not
/// changed. Numbers that JSON has not are the strings `Infinity`, `-Infinity` and `NaN`; what was not
/// found out is left out.
public protocol Report: Codable, Hashable, Sendable {}

extension Report {
  /// The report as one JSON object over several lines, its keys sorted.
  /// - Throws: `internalFault` if a string of the report is none that JSON can hold.
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

  /// The report that ``json()`` wrote.
  /// - Throws: `malformed` if the text is not the JSON of such a report.
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
  /// As the user gave it.
  public let path: String
  /// Size in bytes.
  public let bytes: Int

  /// A file of this path and size in bytes.
  public init(path: String, bytes: Int) {
    self.path = path
    self.bytes = bytes
  }
}

extension Sequence<UInt8> {
  /// Two lower-case hexadecimal digits a byte, as reports show digests.
  public var hexadecimal: String {
    reduce(into: "") { text, byte in
      text += (byte < 16 ? "0" : "") + String(byte, radix: 16)
    }
  }
}
