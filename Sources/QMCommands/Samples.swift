import QMFormat
import QMGraph
import QMNumPy
import QMONNX
import QMRuntime
import QMTensor

/// Opens samples in any of their forms: a folder of `.npy` or `.npz` files, ONNX's `input_0.pb`, or
/// one `.npz` archive whose arrays have the samples along their first axis.
enum Samples {
  /// - Parameters:
  ///   - inputs: all inputs of the network.
  ///   - outputs: names of all outputs of the network.
  ///   - limit: maximum number of samples, spread evenly over all.
  static func open(
    _ path: String, inputs: [SampleInput], outputs: [String], limit: Int?
  ) throws(QMError) -> any SampleSource {
    let all: any SampleSource
    if path.lowercased().hasSuffix(".npz"), !Folder.exists(path) {
      all = try SampleArchive(path: path, inputs: inputs, outputs: outputs)
    } else if let samples = ProtobufSamples(path: path, inputs: inputs, outputs: outputs) {
      all = samples
    } else {
      all = try SampleFolder(path: path, inputs: inputs, outputs: outputs)
    }
    return limit.map { all.evenly(limit: $0) } ?? all
  }

  static func open(
    _ path: String, for graph: Graph, limit: Int?
  ) throws(QMError) -> any SampleSource {
    try open(
      path, inputs: graph.inputs.map { SampleInput(graph[$0].name, graph[$0].type) },
      outputs: graph.outputs.map(\.name), limit: limit)
  }

  static func open(
    _ path: String, for program: Program, limit: Int?
  ) throws(QMError) -> any SampleSource {
    let inputs = program.inputs.map {
      SampleInput(program.values[$0].name, program.values[$0].type)
    }
    return try open(path, inputs: inputs, outputs: program.outputs.map(\.name), limit: limit)
  }

  static func open(
    _ path: String, for signature: Model.Signature, limit: Int?
  ) throws(QMError) -> any SampleSource {
    try open(
      path, inputs: signature.inputs.map { SampleInput($0.name, $0.type) },
      outputs: signature.outputs.map(\.name), limit: limit)
  }
}
