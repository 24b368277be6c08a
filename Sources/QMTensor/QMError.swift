// Only Darwin's apps have Foundation anyway. Elsewhere importing it would add megabytes to every app,
// which can print `description` instead.
#if canImport(Darwin)
  import Foundation

  extension QMError: LocalizedError {
    /// ``QMError/description``.
    public var errorDescription: String? { description }
  }
#endif

/// The only error type that the package throws.
///
/// ``code`` is for programs. ``message`` is for people: what was found and what was expected.
/// ``remedies`` say what to do about it; ``context`` says where it happened, in the user's words.
/// Equality compares the code only, so that a test may write
/// `#expect(throws: QMError.malformed(""))`.
///
/// ```swift
/// do {
///   let model = try Model(contentsOf: path)
/// } catch {
///   switch error.code {
///   case .cannotOpen: askForAnotherFile()
///   default: log("\(error)")  // one line, safe to print
///   }
/// }
/// ```
public struct QMError: Error, Sendable {
  /// A kind of error. Later versions may add kinds.
  public struct Code: Hashable, Sendable {
    private enum Kind: String {
      case usage, malformed, unsupported, cannotOpen, cannotWrite, outOfMemory
      case invalidInput, outOfTolerance, qualityTooLow, cancelled, internalFault
    }
    private let kind: Kind

    /// The caller asks for something that does not exist.
    public static let usage = Code(kind: .usage)
    /// A file or model contradicts its own rules.
    public static let malformed = Code(kind: .malformed)
    /// The file or model is well formed, but this version does not support it.
    public static let unsupported = Code(kind: .unsupported)
    /// A file or folder cannot be opened or read.
    public static let cannotOpen = Code(kind: .cannotOpen)
    /// A file or folder cannot be created or written.
    public static let cannotWrite = Code(kind: .cannotWrite)
    /// Memory could not be allocated.
    public static let outOfMemory = Code(kind: .outOfMemory)
    /// An input tensor or a sample does not fit the model.
    public static let invalidInput = Code(kind: .invalidInput)
    /// A comparison found a larger difference than allowed.
    public static let outOfTolerance = Code(kind: .outOfTolerance)
    /// A conversion does not reach the requested quality.
    public static let qualityTooLow = Code(kind: .qualityTooLow)
    /// A run was ended early, because the caller asked for it.
    public static let cancelled = Code(kind: .cancelled)
    /// A bug in this package.
    public static let internalFault = Code(kind: .internalFault)
  }

  /// One level of the location of an error.
  public enum Context: Hashable, Sendable {
    /// A file or folder, by its path.
    case file(String)
    /// A node of a network; the name may be empty.
    case node(name: String, operation: String)
    /// A value of a network, by its name: an input, an output, or the result of a node.
    case value(String)
    /// A sample, by the user's name for it.
    case sample(String)
    /// An entry of an archive, by its name.
    case entry(String)
    /// An attribute of an operation, by its name.
    case attribute(String)
    /// A byte offset in the file.
    case offset(Int)
  }

  /// The kind of error.
  public let code: Code
  /// What was found and what was expected, without a full stop at the end.
  public let message: String
  /// What the caller can do; each remedy helps on its own. Empty where the message suffices.
  public let remedies: [Remedy]
  /// Where it happened, outermost first.
  public private(set) var context: [Context]
  /// Of ``Code/outOfMemory``: whether a limit of the caller's does not allow as much memory, whatever
  /// the machine has.
  package private(set) var exceedsLimit = false

  /// An error from its parts.
  public init(
    _ code: Code, _ message: String, remedies: [Remedy] = [], context: [Context] = []
  ) {
    self.code = code
    self.message = message
    self.remedies = remedies
    self.context = context
  }

  /// The same error with one more, outer level of context, unless that is its outermost already.
  public func within(_ outer: Context) -> QMError {
    var error = self
    if context.first != outer { error.context = [outer] + context }
    return error
  }
}

extension QMError {
  /// The caller asks for something that does not exist.
  public static func usage(_ message: String, remedies: Remedy...) -> QMError {
    QMError(.usage, message, remedies: remedies)
  }
  /// The file or model is well formed, but this version does not support it.
  public static func unsupported(_ message: String, remedies: Remedy...) -> QMError {
    QMError(.unsupported, message, remedies: remedies)
  }
  /// A file or model contradicts its own rules.
  public static func malformed(_ message: String, remedies: Remedy...) -> QMError {
    QMError(.malformed, message, remedies: remedies)
  }
  /// A file or folder cannot be opened or read.
  public static func cannotOpen(_ message: String) -> QMError { QMError(.cannotOpen, message) }
  /// A file or folder cannot be created or written.
  public static func cannotWrite(_ message: String) -> QMError { QMError(.cannotWrite, message) }
  /// An input tensor or a sample does not fit the model.
  public static func invalidInput(_ message: String, remedies: Remedy...) -> QMError {
    QMError(.invalidInput, message, remedies: remedies)
  }
  /// A run was ended early, because the caller asked for it.
  public static func cancelled() -> QMError { QMError(.cancelled, "the run was cancelled") }
  /// A bug in this package.
  public static func internalFault(_ message: String) -> QMError {
    QMError(.internalFault, message)
  }
  /// An allocation of `byteCount` bytes failed.
  public static func outOfMemory(byteCount: Int) -> QMError {
    QMError(.outOfMemory, "could not allocate \(byteCount) bytes")
  }
  /// More memory than the caller allows.
  package static func overLimit(_ message: String) -> QMError {
    var error = QMError(.outOfMemory, message)
    error.exceedsLimit = true
    return error
  }
}

extension QMError {
  /// Whether the machine could not give the memory: on another one the same might succeed.
  package var isLackOfMemory: Bool { code == .outOfMemory && !exceedsLimit }
}

extension QMError: Equatable {
  /// Whether the codes are equal; messages and context are not compared.
  public static func == (left: QMError, right: QMError) -> Bool { left.code == right.code }
}

extension QMError: CustomStringConvertible {
  /// One line for people, made ``Swift/String/printable``: context, message, remedies.
  public var description: String { description { $0.description } }

  /// As ``description``, with remedies in the words of the caller's own interface.
  /// - Parameter words: a remedy as part of a sentence: "give --samples".
  public func description(remedy words: (Remedy) -> String) -> String {
    let remedies = remedies.map(words).joined(separator: ", or ")
    return (remedies.isEmpty ? statement : "\(statement); \(remedies)").printable
  }

  /// Context and message without the remedies, for an error that quotes this one in its message.
  package var statement: String {
    (context.map(\.description) + [message]).joined(separator: ": ")
  }
}

extension QMError.Context: CustomStringConvertible {
  /// The location as text: a path, `node 'conv1' (Conv)`, `byte 12`.
  public var description: String {
    switch self {
    case .file(let path): path
    case .node(let name, let operation):
      name.isEmpty ? "\(operation) node" : "node '\(name.abbreviated)' (\(operation.abbreviated))"
    case .value(let name): "value '\(name.abbreviated)'"
    case .sample(let name): "sample '\(name.abbreviated)'"
    case .entry(let name): "entry '\(name.abbreviated)'"
    case .attribute(let name): "attribute '\(name.abbreviated)'"
    case .offset(let offset): "byte \(offset)"
    }
  }
}

extension String {
  /// One line that is safe to print: control characters, which names from files may contain, are
  /// shown as `\u{…}`.
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

  /// At most 120 characters, since a name from a file may be a megabyte long. A cut-off text ends
  /// with `…`.
  public var abbreviated: String {
    let prefix = prefix(121)
    return prefix.count <= 120 ? self : prefix.dropLast() + "…"
  }
}

extension Collection<String> {
  /// The first names in quotes and the number of the others, for a message.
  package var listed: String {
    prefix(8).map { "'\($0.abbreviated)'" }.joined(separator: ", ")
      + (count > 8 ? " and \(count - 8) more" : "")
  }
}

/// Runs `body` and adds `context` to the error that it throws.
public func within<R>(
  _ context: @autoclosure () -> QMError.Context, _ body: () throws(QMError) -> R
) throws(QMError) -> R {
  do { return try body() } catch { throw error.within(context()) }
}
