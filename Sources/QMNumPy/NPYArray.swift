import QMTensor

/// An `.npy` file as a checkpoint of one array, which has the name of the file.
public struct NPYArray: CheckpointReader {
  /// `.npy`.
  public static let fileNameEnding = ".npy"

  /// Whether a file begins with the magic bytes of `.npy` files.
  public static func recognizes(_ start: [UInt8]) -> Bool {
    start.starts(with: NPYHeader.magic)
  }

  /// Reads the file.
  /// - Throws: as ``NPY/read(path:limits:)``.
  public static func open(_ path: String) throws(QMError) -> NPYArray {
    NPYArray(path: path, tensor: try NPY.read(path: path))
  }

  /// The name of the file without its extension, as the only element.
  public let names: [String]
  private let path: String
  private let tensor: Tensor

  private init(path: String, tensor: Tensor) {
    self.path = path
    self.tensor = tensor
    let file = path.split(separator: "/").last.map(String.init) ?? ""
    let name =
      file.lowercased().hasSuffix(NPYArray.fileNameEnding)
      ? String(file.dropLast(NPYArray.fileNameEnding.count)) : file
    names = [name.isEmpty ? "array" : name]
  }

  /// The array.
  /// - Throws: `invalidInput` if `name` is not the one in ``names``.
  public func tensor(named name: String) throws(QMError) -> Tensor {
    guard name == names[0] else {
      throw QMError.invalidInput("no array '\(name.abbreviated)'; the file holds '\(names[0])'")
        .within(.file(path))
    }
    return tensor
  }
}
