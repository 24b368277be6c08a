import QMTensor

/// Samples in one `.npz` archive or other file of named arrays, or in one `.npy` file for a network of
/// one input. The archive holds one array per input, named after the input or its key
/// (``sampleKey(for:)``); the first axis of each array counts the samples. The archive may hold arrays
/// of expected outputs too; all other arrays are ignored.
///
/// If there is one input and one array, the array may have any name. Sample `i` is item `i` along
/// the first axis. If the array has as many axes as the model's input, the sample keeps a leading
/// axis of extent 1; if it has one axis more, the sample drops the first axis.
///
/// ```swift
/// let samples = try SampleArchive(path: "train.npz", inputs: [SampleInput("x")])
/// let first = try samples.inputs(of: 0)["x"]!  // shape [1, …]
/// ```
public struct SampleArchive: SampleSource {
  /// Path of the file.
  public let path: String
  /// Number of samples in the archive.
  public let count: Int
  private let inputs: [SampleInput]
  /// By the name of the input or output.
  private let arrays: [String: (entry: String, tensor: Tensor)]
  private let outputs: [String]

  /// Reads the arrays of the inputs and outputs.
  /// - Parameters:
  ///   - inputs: all inputs of the model.
  ///   - outputs: names of the outputs whose expected values to read, where the archive has them.
  /// - Throws: as ``NPZArchive``; `invalidInput` if an input has no array or the arrays have
  ///   different numbers of samples.
  public init(
    path: String, inputs: [SampleInput], outputs: [String] = [],
    limits: NumPyLimits = .standard
  ) throws(QMError) {
    let archive: any CheckpointReader =
      try NPYHeader.begins(path: path)
      ? NPYArray.open(path) : NPZArchive(path: path, limits: limits)
    try self.init(archive, path: path, inputs: inputs, outputs: outputs)
  }

  /// Reads the arrays of the inputs and outputs from an open file of any format.
  /// - Parameter path: of the file, for messages.
  /// - Throws: as the file does; `invalidInput` if an input has no array or the arrays have different
  ///   numbers of samples.
  public init(
    _ archive: any CheckpointReader, path: String, inputs: [SampleInput], outputs: [String] = []
  ) throws(QMError) {
    self.path = path
    self.inputs = inputs
    self.outputs = outputs
    let names = Set(archive.names)
    func entry(_ name: String) -> String? {
      [name, sampleKey(for: name)].first(where: names.contains)
    }
    var arrays: [String: (entry: String, tensor: Tensor)] = [:]
    for input in inputs {
      let lone = inputs.count == 1 && names.count == 1 ? archive.names[0] : nil
      // If the array is missing, reading it throws an error that lists the arrays there are.
      let name = entry(input.arrayName) ?? lone ?? input.arrayName
      arrays[input.name] = (name, try archive.tensor(named: name))
    }
    for output in outputs where arrays[output] == nil {
      if let name = entry(output) { arrays[output] = (name, try archive.tensor(named: name)) }
    }
    self.arrays = arrays
    count = try within(.file(path)) { () throws(QMError) -> Int in
      var count: Int?
      for name in inputs.map(\.name) + outputs {
        guard let (entry, tensor) = arrays[name] else { continue }
        guard let first = tensor.shape.first, first > 0, first == count ?? first else {
          throw QMError.invalidInput(
            "shape \(tensor.shape); the first axis counts the samples: expected "
              + (count.map { "\($0) as in the other arrays" } ?? "at least 1")
          ).within(.entry(entry))
        }
        count = first
      }
      return count ?? 0
    }
  }

  /// The index, padded with zeros to the width of the last index, at least 4 digits.
  public func name(of index: Int) -> String {
    let digits = String(index)
    let width = max(4, String(count - 1).count)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
  }

  /// The inputs of one sample.
  /// - Throws: `invalidInput` if an array's shape does not fit the model, or if it contains numbers
  ///   that are not finite or that the input's element type cannot hold.
  public func inputs(of index: Int) throws(QMError) -> [String: Tensor] {
    precondition((0..<count).contains(index))
    var tensors: [String: Tensor] = [:]
    for input in inputs {
      guard let (_, tensor) = arrays[input.name] else { continue }
      tensors[input.name] = try within(.file(path)) { () throws(QMError) -> Tensor in
        try within(.sample(name(of: index))) { () throws(QMError) -> Tensor in
          let item = try SampleArchive.item(index, of: tensor, rank: input.type?.shape.rank)
          return try input.tensor(from: item)
        }
      }
    }
    return tensors
  }

  /// The expected outputs of one sample, as far as the archive has them, each with a leading axis
  /// of extent 1.
  public func expectedOutputs(of index: Int) throws(QMError) -> [String: Tensor] {
    precondition((0..<count).contains(index))
    var expected: [String: Tensor] = [:]
    for output in outputs {
      guard let (_, tensor) = arrays[output] else { continue }
      expected[output] = try SampleArchive.item(index, of: tensor, rank: nil)
    }
    return expected
  }

  /// Item `index` along the first axis, as a tensor of `rank` axes.
  /// - Parameter rank: nil means as many axes as the array has.
  private static func item(_ index: Int, of tensor: Tensor, rank: Int?) throws(QMError) -> Tensor {
    let item = Array(tensor.shape.dropFirst())
    let size = try Tensor.byteCount(of: tensor.elementType, item)
    let hasBatchAxis = rank.map { $0 == tensor.shape.count } ?? true
    return try Tensor(
      tensor.elementType, hasBatchAxis ? [1] + item : item, buffer: tensor.buffer,
      byteOffset: tensor.byteOffset + index * size)
  }
}
