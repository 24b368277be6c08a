import QMFormat
import QMGraph
import QMNumPy
import QMONNX
import QMRuntime
import QMTensor

/// Opens samples in any of their forms: a folder of `.npy` or `.npz` files, ONNX's `input_0.pb`, or
/// one file (`.npz`, `.npy`) whose arrays have the samples along their first axis.
enum Samples {
  /// - Parameters:
  ///   - inputs: all inputs of the network.
  ///   - outputs: names of all outputs of the network.
  static func open(
    _ path: String, inputs: [SampleInput], outputs: [String], _ options: SampleOptions
  ) throws(QMError) -> any SampleSource {
    let inputs = try options.named(inputs)
    func open(_ inputs: [SampleInput]) throws(QMError) -> any SampleSource {
      let all = try Samples.open(path, inputs, outputs, isMapped: !options.maps.isEmpty)
      return options.limitSamples.map { all.evenly(limit: $0) } ?? all
    }
    if let batches = try SampleBatches(of: inputs, open: open) { return batches }
    return try open(inputs)
  }

  private static func open(
    _ path: String, _ inputs: [SampleInput], _ outputs: [String], isMapped: Bool
  ) throws(QMError) -> any SampleSource {
    guard Folder.exists(path) || !CheckpointFile.isOne(path) && CheckpointFile.kind(of: path) == nil
    else {
      return try SampleArchive(path: path, inputs: inputs, outputs: outputs)
    }
    guard let samples = ProtobufSamples(path: path, inputs: inputs, outputs: outputs) else {
      return try SampleFolder(path: path, inputs: inputs, outputs: outputs)
    }
    guard !isMapped else {
      throw QMError.usage("samples in ONNX's form are numbered, not named; leave --map out")
        .within(.file(path))
    }
    return samples
  }

  static func open(
    _ path: String, for graph: Graph, _ options: SampleOptions
  ) throws(QMError) -> any SampleSource {
    try open(
      path, inputs: graph.inputs.map { SampleInput(graph[$0].name, graph[$0].type) },
      outputs: graph.outputs.map(\.name), options)
  }

  static func open(
    _ path: String, for program: Program, _ options: SampleOptions
  ) throws(QMError) -> any SampleSource {
    let inputs = program.inputs.map {
      SampleInput(program.values[$0].name, program.values[$0].type)
    }
    return try open(path, inputs: inputs, outputs: program.outputs.map(\.name), options)
  }

  static func open(
    _ path: String, for signature: Model.Signature, _ options: SampleOptions
  ) throws(QMError) -> any SampleSource {
    try open(
      path, inputs: signature.inputs.map { SampleInput($0.name, $0.type) },
      outputs: signature.outputs.map(\.name), options)
  }
}
