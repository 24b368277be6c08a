import QMTensor

/// Samples as ONNX's own test sets have them: `input_0.pb`, `input_1.pb`, … by the number of the
/// input, with `output_0.pb`, … beside them; one sample in the folder itself, or one in each of its
/// subfolders.
public struct ProtobufSamples: SampleSource {
  /// The folder of each sample.
  private let folders: [String]
  private let inputs: [SampleInput]
  private let outputs: [String]

  /// - Parameters:
  ///   - inputs: all inputs of the network, in its order.
  ///   - outputs: names of all outputs, in the order of the network.
  /// - Returns: nil if the folder holds no sample of this form.
  public init?(path: String, inputs: [SampleInput], outputs: [String] = []) {
    func isSample(_ folder: String) -> Bool { Folder.holds(Folder.path(folder, "input_0.pb")) }
    self.inputs = inputs
    self.outputs = outputs
    if isSample(path) {
      folders = [path]
      return
    }
    let names = (try? Folder.names(in: path, expected: "")) ?? []
    folders = names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
      .map { Folder.path(path, $0) }.filter(isSample)
    if folders.isEmpty { return nil }
  }

  public var count: Int { folders.count }

  /// The name of the sample's folder.
  public func name(of index: Int) -> String {
    folders[index].split(separator: "/").last.map(String.init) ?? folders[index]
  }

  /// - Throws: as ``ONNXReader/readTensor(path:limits:)``; `invalidInput` if a tensor does not fit.
  public func inputs(of index: Int) throws(QMError) -> [String: Tensor] {
    var tensors: [String: Tensor] = [:]
    for (number, input) in inputs.enumerated() {
      let path = Folder.path(folders[index], "input_\(number).pb")
      let array = try ONNXReader.readTensor(path: path).tensor
      tensors[input.name] = try within(.file(path)) { () throws(QMError) in
        try input.tensor(from: array)
      }
    }
    return tensors
  }

  /// - Throws: as ``ONNXReader/readTensor(path:limits:)``.
  public func expectedOutputs(of index: Int) throws(QMError) -> [String: Tensor] {
    var expected: [String: Tensor] = [:]
    for (number, output) in outputs.enumerated() {
      let path = Folder.path(folders[index], "output_\(number).pb")
      guard Folder.holds(path) else { continue }
      expected[output] = try ONNXReader.readTensor(path: path).tensor
    }
    return expected
  }
}
