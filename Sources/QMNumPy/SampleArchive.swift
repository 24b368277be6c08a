import QMTensor

/// Samples in one `.npz`: an array per input, named as the input or as its key, whose first axis
/// counts the samples. Arrays of outputs may stand beside them; others are passed over.
///
/// With one input and one array the array's name does not matter. Sample `i` of an array with as
/// many axes as the model's input is its item `i` with a leading axis of 1; with one axis more it
/// is the item itself.
///
/// ```swift
/// let samples = try SampleArchive(path: "train.npz", inputs: [SampleInput("x")])
/// let first = try samples.inputs(of: 0)["x"]!  // shape [1, …]
/// ```
public struct SampleArchive: SampleSource {
  /// Path of the archive.
  public let path: String
  /// Samples in the archive.
  public let count: Int
  private let inputs: [SampleInput]
  /// By the name of the input or output.
  private let arrays: [String: (entry: String, tensor: Tensor)]
  private let outputs: [String]

  /// Reads the arrays of the inputs and outputs.
  /// - Throws: as ``NPZArchive``; `invalidInput` if an input has no array or the first axes differ.
  public init(
    path: String, inputs: [SampleInput], outputs: [String] = [],
    limits: NumPyLimits = .standard
  ) throws(QMError) {
    self.path = path
    self.inputs = inputs
    self.outputs = outputs
    let archive = try NPZArchive(path: path, limits: limits)
    func entry(_ name: String) -> String? {
      [name, sampleKey(for: name)].first(where: archive.contains)
    }
    var arrays: [String: (entry: String, tensor: Tensor)] = [:]
    for input in inputs {
      let lone = inputs.count == 1 && archive.names.count == 1 ? archive.names[0] : nil
      // One that is missing is an error that lists what there is.
      let name = entry(input.name) ?? lone ?? input.name
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
            "shape \(tensor.shape); the first axis counts the samples, "
              + (count.map { "\($0) by the other arrays" } ?? "at least 1")
          ).within(.entry(entry))
        }
        count = first
      }
      return count ?? 0
    }
  }

  /// The index in as many digits as the last one has, at least 4.
  public func name(of index: Int) -> String {
    let digits = String(index)
    let width = max(4, String(count - 1).count)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
  }

  /// The items of all inputs.
  /// - Throws: `invalidInput` if an item has another shape than the model takes, or numbers that are
  ///   not finite or that its element type cannot hold.
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

  /// The items of the outputs that have an array, each with a leading axis of 1.
  public func expectedOutputs(of index: Int) throws(QMError) -> [String: Tensor] {
    precondition((0..<count).contains(index))
    var expected: [String: Tensor] = [:]
    for output in outputs {
      guard let (_, tensor) = arrays[output] else { continue }
      expected[output] = try SampleArchive.item(index, of: tensor, rank: nil)
    }
    return expected
  }

  /// - Parameter rank: of the item; nil: as many axes as the array has.
  private static func item(_ index: Int, of tensor: Tensor, rank: Int?) throws(QMError) -> Tensor {
    let item = Array(tensor.shape.dropFirst())
    let size = try Tensor.byteCount(of: tensor.elementType, item)
    let hasBatchAxis = rank.map { $0 == tensor.shape.count } ?? true
    return try Tensor(
      tensor.elementType, hasBatchAxis ? [1] + item : item, buffer: tensor.buffer,
      byteOffset: tensor.byteOffset + index * size)
  }
}
