import Foundation
import QMFormat
import QMNumPy
import QMQuantization
import QMTensor

/// Samples in any of their forms, checked as they are loaded: a folder of `.npy` or `.npz` files,
/// ONNX's `input_0.pb`, or one `.npz` whose arrays share their first axis.
struct Samples: SampleSource {
  private enum Form: Sendable {
    case folder(SampleFolder)
    case archive(SampleArchive)
    case protobuf(ProtobufSamples)
  }

  private let form: Form
  /// Which of all are taken.
  private let indices: [Int]
  let stems: [String]

  /// - Parameters:
  ///   - inputs: name and type of all inputs of the network.
  ///   - limit: how many are taken at most, evenly over all of them.
  init(
    path: String, inputs: [(name: String, type: ValueType)], outputs: [String], limit: Int? = nil
  ) throws(QMError) {
    let inputs = inputs.map { SampleFolder.Input($0.name, $0.type) }
    let all: [String]
    if path.lowercased().hasSuffix(".npz"), !Samples.isFolder(path) {
      let archive = try SampleArchive(path: path, inputs: inputs, outputs: outputs)
      form = .archive(archive)
      all = (0..<archive.count).map(archive.stem)
    } else if let protobuf = ProtobufSamples(path: path, inputs: inputs, outputs: outputs) {
      form = .protobuf(protobuf)
      all = protobuf.stems
    } else {
      let folder = try SampleFolder(path: path, inputs: inputs, outputs: outputs)
      form = .folder(folder)
      all = folder.stems
    }
    let count = min(all.count, limit ?? all.count)
    indices = (0..<count).map { $0 * all.count / count }
    stems = indices.map { all[$0] }
  }

  init(path: String, for program: Program, limit: Int? = nil) throws(QMError) {
    try self.init(
      path: path,
      inputs: program.inputs.map { (program.values[$0].name, program.values[$0].type) },
      outputs: program.outputs.map(\.name), limit: limit)
  }

  var count: Int { stems.count }

  func name(of index: Int) -> String { stems[index] }

  func inputs(of index: Int) throws(QMError) -> [String: Tensor] { try sample(index).inputs }

  /// - Throws: also `invalidInput` if an input holds a number that is not finite.
  func sample(_ index: Int) throws(QMError) -> SampleFolder.Sample {
    let sample: SampleFolder.Sample
    switch form {
    case .folder(let folder): sample = try folder.sample(stems[index])
    case .archive(let archive): sample = try archive.sample(indices[index])
    case .protobuf(let samples): sample = try samples.sample(indices[index])
    }
    for (name, tensor) in sample.inputs.sorted(by: { $0.key < $1.key })
    where tensor.elementType == .float32 {
      guard
        let place = tensor.withElements(
          as: Float.self, { (elements) in elements.firstIndex { !$0.isFinite } })
      else { continue }
      let found = tensor.withElements(as: Float.self, { $0[place].isNaN }) ? "NaN" : "an infinite number"
      let problem = QMError.invalidInput(
        "input '\(name.abbreviated)': element \(place) is \(found); samples hold finite numbers; "
          + "remove the sample or mend it")
      let isOneOfMany = if case .archive = form { true } else { false }
      throw (isOneOfMany ? problem.within(.sample(stems[index])) : problem)
        .within(.file(path(of: index, input: name)))
    }
    return sample
  }

  /// The file that holds an input of a sample.
  private func path(of index: Int, input: String) -> String {
    switch form {
    case .archive(let archive): return archive.path
    case .protobuf(let samples): return samples.file(ofInput: input, of: indices[index])
    case .folder(let folder):
      let base = folder.path + (folder.path.hasSuffix("/") ? "" : "/") + stems[index]
      let candidates = [base + ".npy", base + ".\(sampleKey(for: input)).npy", base + ".npz"]
      return candidates.first { access($0, F_OK) == 0 } ?? base
    }
  }

  private static func isFolder(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }
}
