/// The one error type that leaves the package.
///
/// `code` is for programs, `message` for people: what was found, what was expected, what to do.
/// `context` says where, in the user's words, outermost first. Equality compares the code only.
public struct QMError: Error, Sendable {
  public struct Code: Hashable, Sendable {
    private enum Kind: String {
      case usage, malformed, unsupported, cannotOpen, cannotWrite, outOfMemory
      case invalidInput, outOfTolerance, qualityTooLow, internalFault
    }
    private let kind: Kind

    /// The call or command line asks for something that does not exist.
    public static let usage = Code(kind: .usage)
    /// A file or model contradicts its own rules.
    public static let malformed = Code(kind: .malformed)
    /// Well formed, and beyond what this version does.
    public static let unsupported = Code(kind: .unsupported)
    public static let cannotOpen = Code(kind: .cannotOpen)
    public static let cannotWrite = Code(kind: .cannotWrite)
    /// Memory that was asked for could not be had.
    public static let outOfMemory = Code(kind: .outOfMemory)
    /// A tensor given to a run, or a sample, does not fit the model.
    public static let invalidInput = Code(kind: .invalidInput)
    /// A comparison found more difference than allowed.
    public static let outOfTolerance = Code(kind: .outOfTolerance)
    /// A conversion is worse than the asked quality.
    public static let qualityTooLow = Code(kind: .qualityTooLow)
    /// A fault of this package.
    public static let internalFault = Code(kind: .internalFault)

    /// The exit status of the tools, after sysexits(3) where it has a number.
    public var exitStatus: Int32 {
      switch kind {
      case .outOfTolerance: 1
      case .qualityTooLow: 2
      case .usage: 64
      case .malformed, .unsupported, .invalidInput: 65
      case .cannotOpen: 66
      case .internalFault, .outOfMemory: 70
      case .cannotWrite: 73
      }
    }
  }

  /// One step of the way to the place of an error.
  public enum Context: Hashable, Sendable {
    case file(String)
    case node(name: String, operation: String)
    case value(String)
    case sample(String)
    case entry(String)
    /// A byte offset in the file.
    case offset(Int)
  }

  public let code: Code
  public let message: String
  public private(set) var context: [Context]

  public init(_ code: Code, _ message: String, context: [Context] = []) {
    self.code = code
    self.message = message
    self.context = context
  }

  /// The same error, seen from one level further out.
  public func within(_ outer: Context) -> QMError {
    QMError(code, message, context: [outer] + context)
  }
}

extension QMError {
  public static func usage(_ message: String) -> QMError { QMError(.usage, message) }
  public static func malformed(_ message: String) -> QMError { QMError(.malformed, message) }
  public static func unsupported(_ message: String) -> QMError { QMError(.unsupported, message) }
  public static func cannotOpen(_ message: String) -> QMError { QMError(.cannotOpen, message) }
  public static func cannotWrite(_ message: String) -> QMError { QMError(.cannotWrite, message) }
  public static func invalidInput(_ message: String) -> QMError { QMError(.invalidInput, message) }
  public static func internalFault(_ message: String) -> QMError {
    QMError(.internalFault, message)
  }
  public static func outOfMemory(byteCount: Int) -> QMError {
    QMError(.outOfMemory, "\(byteCount) bytes of memory could not be had")
  }
}

extension QMError: Equatable {
  public static func == (left: QMError, right: QMError) -> Bool { left.code == right.code }
}

extension QMError: CustomStringConvertible {
  /// One line, ``Swift/String/printable``.
  public var description: String {
    (context.map(\.description) + [message]).joined(separator: ": ").printable
  }
}

extension QMError.Context: CustomStringConvertible {
  public var description: String {
    switch self {
    case .file(let path): path
    case .node(let name, let operation):
      name.isEmpty ? "\(operation) node" : "node '\(name.abbreviated)' (\(operation.abbreviated))"
    case .value(let name): "value '\(name.abbreviated)'"
    case .sample(let name): "sample '\(name.abbreviated)'"
    case .entry(let name): "entry '\(name.abbreviated)'"
    case .offset(let offset): "byte \(offset)"
    }
  }
}

extension String {
  /// One line that is safe to print: control characters, which a file may have put into a name,
  /// are shown as `\u{…}`.
  public var printable: String {
    var escaped = ""
    for scalar in unicodeScalars {
      switch scalar.properties.generalCategory {
      case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate:
        escaped += "\\u{" + String(scalar.value, radix: 16) + "}"
      default:
        escaped.unicodeScalars.append(scalar)
      }
    }
    return escaped
  }

  /// At most 120 characters; a name from a file may be a megabyte.
  public var abbreviated: String {
    let prefix = prefix(121)
    return prefix.count <= 120 ? self : prefix.dropLast() + "…"
  }
}

/// Runs `body`; an error that leaves it gains `context`.
public func within<R>(
  _ context: @autoclosure () -> QMError.Context, _ body: () throws(QMError) -> R
) throws(QMError) -> R {
  do { return try body() } catch { throw error.within(context()) }
}
