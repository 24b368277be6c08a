import QMFormat
import QMNumPy
import QMQuantization
import QMReport
import QMSafetensors
import QMTensor

/// Reads checkpoints, files of arrays without a network, in every supported format.
enum CheckpointFile {
  private static let readers: [any CheckpointReader.Type] = [
    NPZArchive.self, NPYArray.self, SafetensorsFile.self,
  ]

  /// Whether the file is a checkpoint, by its extension or, if that is unknown, its first bytes.
  static func isOne(_ path: String) -> Bool { reader(of: path) != nil }

  /// All arrays of numbers, in the order of the file; arrays of something else are remarked.
  /// - Throws: the error of the format's reader; `invalidInput` if no array holds numbers.
  static func arrays(
    path: String, _ console: Console
  ) throws(QMError) -> [(name: String, tensor: Tensor)] {
    let file = try open(path)
    let skipped = file.namesWithoutNumbers
    guard skipped.count < file.names.count else {
      throw QMError.invalidInput(
        "all arrays hold texts or Python objects, expected numbers; save the numbers as arrays"
      ).within(.file(path))
    }
    if !skipped.isEmpty {
      console.note(
        "\(path): left out \(Units.count(skipped.count, "array")) of texts or Python objects: "
          + skipped.listed)
    }
    return try file.arrays()
  }

  /// Opens a checkpoint of any format.
  /// - Throws: the error of the format's reader.
  static func open(_ path: String) throws(QMError) -> any CheckpointReader {
    try (reader(of: path) ?? NPYArray.self).open(path)
  }

  private static func reader(of path: String) -> (any CheckpointReader.Type)? {
    let name = path.lowercased()
    if let named = readers.first(where: { name.hasSuffix($0.fileNameEnding) }) { return named }
    guard !name.hasSuffix(".onnx"), !name.hasSuffix(".qm") else { return nil }
    let start = firstBytes(of: path)
    return readers.first { $0.recognizes(start) }
  }

  /// The arrays by name, for ``ONNXReader``.
  /// - Throws: as ``arrays(path:_:)``; `invalidInput` for an array with NaN or infinities.
  static func weights(path: String, _ console: Console) throws(QMError) -> [String: Tensor] {
    var weights: [String: Tensor] = [:]
    for (name, tensor) in try arrays(path: path, console) {
      if tensor.elementType.isFloatingPoint {
        try within(.file(path)) { () throws(QMError) in
          try within(.value(name)) { () throws(QMError) in try Checkpoint.requireFinite(tensor) }
        }
      }
      weights[name] = tensor
    }
    return weights
  }

  /// The format that the first bytes show, of a checkpoint or of something else.
  static func kind(of path: String) -> FileKind? {
    firstBytes(of: path).withUnsafeBytes(FileKind.init)
  }

  /// The first 64 bytes, or fewer. None if the file cannot be read: opening it later reports that.
  private static func firstBytes(of path: String) -> [UInt8] {
    guard let buffer = try? Buffer.mapping(path: path) else { return [] }
    return withExtendedLifetime(buffer) { Array(buffer.bytes.prefix(64)) }
  }
}
