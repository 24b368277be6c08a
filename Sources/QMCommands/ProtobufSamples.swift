import Foundation
import QMNumPy
import QMONNX
import QMTensor

/// Samples as ONNX's own test sets have them: `input_0.pb`, `input_1.pb`, … by the number of the
/// input, with `output_0.pb`, … beside them; one sample in the folder itself, or one in each of its
/// subfolders.
struct ProtobufSamples: Sendable {
  /// The folder of each sample.
  private let folders: [String]
  private let inputs: [SampleFolder.Input]
  private let outputs: [String]

  /// - Returns: nil if the folder holds no file of this form.
  init?(path: String, inputs: [SampleFolder.Input], outputs: [String]) {
    let manager = FileManager.default
    func isSample(_ folder: String) -> Bool {
      manager.fileExists(atPath: folder + "/input_0.pb")
    }
    self.inputs = inputs
    self.outputs = outputs
    if isSample(path) {
      folders = [path]
      return
    }
    let names = (try? manager.contentsOfDirectory(atPath: path)) ?? []
    folders = names.filter { !$0.hasPrefix(".") }
      .sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
      .map { path + (path.hasSuffix("/") ? "" : "/") + $0 }.filter(isSample)
    if folders.isEmpty { return nil }
  }

  var stems: [String] { folders.map { URL(fileURLWithPath: $0).lastPathComponent } }

  /// - Throws: as ``ONNXReader/readTensor(path:limits:)``; `invalidInput` if a tensor does not fit.
  func sample(_ index: Int) throws(QMError) -> SampleFolder.Sample {
    let folder = folders[index]
    var tensors: [String: Tensor] = [:]
    for (number, input) in inputs.enumerated() {
      let path = file(number, ofInput: true, of: index)
      let tensor = try ONNXReader.readTensor(path: path).tensor
      tensors[input.name] = try within(.file(path)) { () throws(QMError) -> Tensor in
        try SampleFolder.check(tensor.shape, for: input)
        return try tensor.converted(to: input.type?.elementType ?? tensor.elementType)
      }
    }
    var expected: [String: Tensor] = [:]
    for (number, output) in outputs.enumerated() {
      let path = file(number, ofInput: false, of: index)
      guard FileManager.default.fileExists(atPath: path) else { continue }
      expected[output] = try ONNXReader.readTensor(path: path).tensor
    }
    return SampleFolder.Sample(
      stem: URL(fileURLWithPath: folder).lastPathComponent, inputs: tensors, expected: expected)
  }

  func file(ofInput name: String, of index: Int) -> String {
    file(inputs.firstIndex { $0.name == name } ?? 0, ofInput: true, of: index)
  }

  private func file(_ number: Int, ofInput: Bool, of index: Int) -> String {
    folders[index] + (folders[index].hasSuffix("/") ? "" : "/")
      + (ofInput ? "input_" : "output_") + "\(number).pb"
  }
}
