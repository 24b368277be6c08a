import QMFormat
import QMGraph
import QMONNX
import QMRuntime
import QMTensor

/// Reads what the tools run.
enum Network {
  /// The model in a `.qm` file, or the float one of an `.onnx` file. Nothing else holds its weights.
  static func model(path: String, options: Model.Options) throws(QMError) -> Model {
    if try isProgram(path) { return try Model(contentsOf: path, options: options) }
    let program = try program(path: path)
    return try within(.file(path)) { () throws(QMError) in try Model(program, options: options) }
  }

  /// Whether a file is a `.qm` file. No .onnx begins so: "Q" would be field 10 of the model with a
  /// wire type it does not have.
  private static func isProgram(_ path: String) throws(QMError) -> Bool {
    let bytes = try Buffer.mapping(path: path)
    return withExtendedLifetime(bytes) { bytes.bytes.starts(with: [0x51, 0x4D, 0x89]) }
  }

  /// The program in a `.qm` file, or the float program of an `.onnx` file after the passes; which
  /// of the two it is, the file's first bytes say.
  /// - Parameter changes: where an `.onnx` network is cut, and what is set in it.
  static func program(
    path: String, changes: ONNXChanges = ONNXChanges()
  ) throws(QMError) -> Program {
    if try isProgram(path) { return try Program(contentsOf: path) }
    let graph = try ONNXReader.read(path: path, changes: changes)
    return try within(.file(path)) { () throws(QMError) in
      try DefaultPasses.run(on: graph).flattened().program
    }
  }
}
