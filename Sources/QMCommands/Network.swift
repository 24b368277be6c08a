import QMFormat
import QMGraph
import QMONNX
import QMTensor

/// Reads what the tools run.
enum Network {
  /// The program in a `.qm` file, or the float program of an `.onnx` file after the passes; which
  /// of the two it is, the file's first bytes say.
  /// - Parameter changes: where an `.onnx` network is cut, and what is set in it.
  static func program(
    path: String, changes: ONNXChanges = ONNXChanges()
  ) throws(QMError) -> Program {
    let bytes = try Buffer.mapping(path: path)
    // No .onnx begins so: "Q" would be field 10 of the model with a wire type it does not have.
    if bytes.bytes.starts(with: [0x51, 0x4D, 0x89]) {
      return try Program(contentsOf: path)
    }
    let graph = try ONNXReader.read(path: path, changes: changes)
    return try within(.file(path)) { () throws(QMError) in
      try DefaultPasses.run(on: graph).flattened().program
    }
  }
}
