import Foundation
import QMFormat
import QMNumPy
import QMQuantization
import QMReport
import QMTensor

/// Arrays in a file of NumPy's formats.
enum CheckpointFile {
  /// Whether a path leads to arrays and not to a network: its name says so, or its first bytes.
  static func isOne(_ path: String) -> Bool {
    let name = path.lowercased()
    if name.hasSuffix(".npy") || name.hasSuffix(".npz") { return true }
    guard !name.hasSuffix(".onnx"), !name.hasSuffix(".qm") else { return false }
    let start = firstBytes(of: path)
    return start.starts(with: [0x93, 0x4E, 0x55]) || start == archiveMagic
  }

  /// All arrays in the order of the file. The one of an `.npy` file is named after the file.
  /// - Throws: as ``NPY`` and ``NPZArchive``.
  static func arrays(path: String) throws(QMError) -> [(name: String, tensor: Tensor)] {
    guard !isArchive(path) else {
      let archive = try NPZArchive(path: path)
      var arrays: [(name: String, tensor: Tensor)] = []
      for name in archive.names { arrays.append((name, try archive.tensor(named: name))) }
      return arrays
    }
    let file = URL(fileURLWithPath: path).lastPathComponent
    let name = file.lowercased().hasSuffix(".npy") ? String(file.dropLast(4)) : file
    return [(name.isEmpty ? "array" : name, try NPY.read(path: path))]
  }

  /// The arrays by name, for ``ONNXReader``.
  /// - Throws: also `invalidInput` for an array with NaN or infinities.
  static func weights(path: String) throws(QMError) -> [String: Tensor] {
    var weights: [String: Tensor] = [:]
    for (name, tensor) in try arrays(path: path) {
      if tensor.elementType.isFloatingPoint {
        try within(.file(path)) { () throws(QMError) in
          try within(.value(name)) { () throws(QMError) in try Checkpoint.requireFinite(tensor) }
        }
      }
      weights[name] = tensor
    }
    return weights
  }

  /// SHA-256 of the file, in hexadecimal.
  static func digest(_ path: String) throws(QMError) -> String {
    let buffer = try Buffer.mapping(path: path)
    var digest = Digest()
    withExtendedLifetime(buffer) { digest.update(buffer.bytes) }
    return digest.finished().hexadecimal
  }

  private static func isArchive(_ path: String) -> Bool {
    let name = path.lowercased()
    if name.hasSuffix(".npz") { return true }
    return !name.hasSuffix(".npy") && firstBytes(of: path) == archiveMagic
  }

  /// What a ZIP archive with an entry begins with.
  private static let archiveMagic: [UInt8] = [0x50, 0x4B, 0x03, 0x04]

  /// Four at most; none of a file that cannot be read, which whoever opens it next will tell.
  private static func firstBytes(of path: String) -> [UInt8] {
    guard let buffer = try? Buffer.mapping(path: path) else { return [] }
    return withExtendedLifetime(buffer) { Array(buffer.bytes.prefix(4)) }
  }
}
