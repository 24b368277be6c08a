import QMFormat
import QMGraph
import QMONNX
import QMRuntime
import QMTensor

/// Reads the networks that the tools run.
enum Network {
  /// The model in a `.qm` file, or the float model of an `.onnx` file. The model is the only owner
  /// of the weights of a `.qm` file, so that it can free them once they are packed.
  /// - Parameters:
  ///   - changes: cuts and constant values for an `.onnx` network.
  ///   - console: for remarks on the network.
  static func model(
    path: String, changes: ONNXChanges, options: Model.Options, _ console: Console
  ) throws(QMError) -> Model {
    if try isProgram(path) { return try Model(contentsOf: path, options: options) }
    let program = try program(path: path, changes: changes, console: console)
    return try within(.file(path)) { () throws(QMError) in try Model(program, options: options) }
  }

  /// Whether a file is a `.qm` file, by its first bytes. No `.onnx` file begins with them: "Q"
  /// would be field 10 of the model with a wire type that this field does not have.
  static func isProgram(_ path: String) throws(QMError) -> Bool {
    let bytes = try Buffer.mapping(path: path)
    return withExtendedLifetime(bytes) { bytes.bytes.starts(with: [0x51, 0x4D, 0x89]) }
  }

  /// Whether a file is an `.onnx` file, by its first bytes.
  static func isONNX(_ path: String) throws(QMError) -> Bool {
    let bytes = try Buffer.mapping(path: path)
    return withExtendedLifetime(bytes) { FileKind(bytes.bytes) == .onnx }
  }

  /// The program in a `.qm` file, or the float program of an `.onnx` file after simplification. The
  /// first bytes distinguish the two.
  /// - Parameters:
  ///   - changes: cuts and constant values for an `.onnx` network.
  ///   - console: for remarks on the network.
  static func program(
    path: String, changes: ONNXChanges = ONNXChanges(), console: Console? = nil
  ) throws(QMError) -> Program {
    if try isProgram(path) { return try Program(contentsOf: path) }
    let (graph, information) = try ONNXReader.readWithInformation(path: path, changes: changes)
    if let console { noteConvertedTypes(information, console) }
    return try within(.file(path)) { () throws(QMError) in
      try DefaultPasses.run(on: graph).flattened().program
    }
  }

  /// Remarks that values are computed in another type than the file declares.
  static func noteConvertedTypes(_ information: ONNXReader.Information, _ console: Console) {
    guard !information.convertedTypes.isEmpty else { return }
    let types = information.convertedTypes.map(\.description).joined(separator: " and ")
    console.note("values of type \(types) are computed in float32")
  }
}
