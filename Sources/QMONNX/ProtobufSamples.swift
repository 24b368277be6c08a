import QMTensor

/// Samples in the form of ONNX's test sets: `input_0.pb`, `input_1.pb`, …, numbered as the
/// network's inputs, and optionally `output_0.pb`, …. The folder holds one sample, or one in each
/// subfolder.
public struct ProtobufSamples: SampleSource {
  /// The folder of each sample.
  private let folders: [String]
  private let inputs: [SampleInput]
  private let outputs: [String]

  /// The samples in the folder at `path`.
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

  /// Number of samples.
  public var count: Int { folders.count }

  /// The name of the sample's folder.
  public func name(of index: Int) -> String {
    folders[index].split(separator: "/").last.map(String.init) ?? folders[index]
  }

  /// - Throws: as ``ONNXReader/readTensor(path:limits:)``; `invalidInput` if a tensor does not fit
  ///   its input.
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
