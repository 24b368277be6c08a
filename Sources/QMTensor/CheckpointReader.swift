/// Reads a file of named arrays, such as the weights of a network.
///
/// To support another format, write a type that conforms to this protocol and add it to the tools'
/// list of readers.
public protocol CheckpointReader: Sendable {
  /// The file name extension of the format, with its dot, in lower case: `.npz`.
  static var fileNameEnding: String { get }

  /// Whether a file is of this format by its content, for files without a known extension.
  /// - Parameter start: the file's first 64 bytes, or all of a shorter file.
  static func recognizes(_ start: [UInt8]) -> Bool

  /// Opens a file. A reader may leave reading the arrays to ``tensor(named:)``.
  /// - Throws: `cannotOpen`, `malformed`, `unsupported`, `outOfMemory`, with the path as context.
  static func open(_ path: String) throws(QMError) -> Self

  /// Names of the arrays, all different, in the order of the file.
  var names: [String] { get }

  /// Names of the arrays that hold something else than numbers, such as texts; some of ``names``.
  var namesWithoutNumbers: [String] { get }

  /// One array.
  /// - Throws: `invalidInput` if no array has this name; `malformed`, `unsupported`, `outOfMemory`,
  ///   with the path as context.
  func tensor(named name: String) throws(QMError) -> Tensor
}

extension CheckpointReader {
  /// None.
  public var namesWithoutNumbers: [String] { [] }

  /// All arrays of numbers, in the order of the file.
  /// - Throws: as ``tensor(named:)``.
  public func arrays() throws(QMError) -> [(name: String, tensor: Tensor)] {
    var arrays: [(name: String, tensor: Tensor)] = []
    let skipped = Set(namesWithoutNumbers)
    for name in names where !skipped.contains(name) {
      arrays.append((name, try tensor(named: name)))
    }
    return arrays
  }
}
