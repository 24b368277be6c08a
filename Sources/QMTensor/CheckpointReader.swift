/// Reads a file of named arrays, such as the weights of a network.
///
/// A reader of another format is a type that conforms to this protocol; the tools have one list of
/// such types.
public protocol CheckpointReader: Sendable {
  /// What the name of such a file ends in, in lower case: `.npz`.
  static var fileNameEnding: String { get }

  /// Whether a file whose name says nothing is of this format.
  /// - Parameter start: its first 8 bytes, fewer if it is shorter.
  static func recognizes(_ start: [UInt8]) -> Bool

  /// Opens a file. Arrays need not be read yet.
  /// - Throws: `cannotOpen`, `malformed`, `unsupported`, `outOfMemory`, with the path as context.
  static func open(_ path: String) throws(QMError) -> Self

  /// Names of the arrays, all different, in the order of the file.
  var names: [String] { get }

  /// One array.
  /// - Throws: `invalidInput` if there is none of this name; `malformed`, `unsupported`,
  ///   `outOfMemory`, with the path as context.
  func tensor(named name: String) throws(QMError) -> Tensor
}

extension CheckpointReader {
  /// All arrays, in the order of the file.
  /// - Throws: as ``tensor(named:)``.
  public func arrays() throws(QMError) -> [(name: String, tensor: Tensor)] {
    var arrays: [(name: String, tensor: Tensor)] = []
    for name in names { arrays.append((name, try tensor(named: name))) }
    return arrays
  }
}
