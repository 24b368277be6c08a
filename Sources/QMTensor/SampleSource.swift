/// Samples of a network's inputs that can be loaded in any order, by several threads at a time.
///
/// Calibration, the measurement of a conversion's quality and the tools read samples through this
/// protocol. `SampleFolder` and `SampleArchive` conform to it. An app can conform a type of its own
/// that yields what the app feeds to the network:
///
/// ```swift
/// struct Recordings: SampleSource {
///   let clips: [[Float]]
///   var count: Int { clips.count }
///   func name(of index: Int) -> String { "clip \(index)" }
///   func inputs(of index: Int) throws(QMError) -> [String: Tensor] {
///     ["waveform": try Tensor([1, clips[index].count], clips[index])]
///   }
/// }
/// ```
public protocol SampleSource: Sendable {
  /// Number of samples.
  var count: Int { get }

  /// The user's name for a sample, such as the stem of its file. Error messages show it.
  /// - Parameter index: in `0..<count`.
  func name(of index: Int) -> String

  /// The inputs of a sample, by input name.
  /// - Parameter index: in `0..<count`.
  /// - Throws: `invalidInput` if the sample does not fit the network, with its location as context.
  func inputs(of index: Int) throws(QMError) -> [String: Tensor]

  /// The outputs that are known to be correct, by output name; empty if none are known.
  /// - Parameter index: in `0..<count`.
  func expectedOutputs(of index: Int) throws(QMError) -> [String: Tensor]
}

extension SampleSource {
  /// Empty: no output is known.
  public func expectedOutputs(of index: Int) throws(QMError) -> [String: Tensor] { [:] }

  /// At most `limit` samples, spread evenly over all and including the first.
  public func evenly(limit: Int) -> SampleSubset {
    let taken = max(0, min(limit, count))
    return SampleSubset(of: self, (0..<taken).map { $0 * count / taken })
  }
}

/// Some of the samples of another source.
public struct SampleSubset: SampleSource {
  private let whole: any SampleSource
  /// The index in the whole source of each sample of the subset.
  public let indices: [Int]

  /// The samples of `whole` at `indices`, each of which must be in `0..<whole.count`.
  public init(of whole: any SampleSource, _ indices: [Int]) {
    self.whole = whole
    self.indices = indices
  }

  /// Number of samples in the subset.
  public var count: Int { indices.count }
  /// The name that the whole source gives the sample.
  public func name(of index: Int) -> String { whole.name(of: indices[index]) }
  /// The inputs of a sample of the subset.
  /// - Throws: as the whole source does.
  public func inputs(of index: Int) throws(QMError) -> [String: Tensor] {
    try whole.inputs(of: indices[index])
  }
  /// The known outputs of a sample of the subset.
  /// - Throws: as the whole source does.
  public func expectedOutputs(of index: Int) throws(QMError) -> [String: Tensor] {
    try whole.expectedOutputs(of: indices[index])
  }
}

/// An input of the network, as readers of samples see it.
public struct SampleInput: Hashable, Sendable {
  /// The input's name in the network.
  public let name: String
  /// The type that the network takes. Arrays of another shape are refused, but axes of extent 1 may
  /// be missing in front or stand there in addition; arrays of another element type are converted
  /// (``Tensor/converted(to:)``). With nil, every array is accepted unchanged.
  public let type: ValueType?
  /// The name of the input's arrays in samples.
  public let arrayName: String

  /// An input of the network.
  /// - Parameters:
  ///   - name: its name in the network.
  ///   - type: the type that the network takes; nil accepts every array unchanged.
  ///   - arrayName: the name of its arrays in samples; nil if it is `name`.
  public init(_ name: String, _ type: ValueType? = nil, arrayName: String? = nil) {
    self.name = name
    self.type = type
    self.arrayName = arrayName ?? name
  }

  /// The shape that an array of this shape gets, with as many axes as the input; nil if it does not
  /// fit.
  private func fitted(_ shape: [Int]) -> [Int]? {
    guard let expected = type?.shape else { return shape }
    let missing = expected.rank - shape.count
    if missing < 0, shape.prefix(-missing).contains(where: { $0 != 1 }) { return nil }
    let fitted = [Int](repeating: 1, count: max(missing, 0)) + shape.dropFirst(max(-missing, 0))
    return expected.admits(fitted) ? fitted : nil
  }

  /// Checks the shape of an array against the type of the input.
  /// - Throws: `invalidInput` if it does not fit.
  public func check(_ shape: [Int]) throws(QMError) {
    guard let expected = type?.shape, fitted(shape) == nil else { return }
    throw .invalidInput(
      "shape \(shape) does not fit input '\(name.abbreviated)', which takes \(expected)")
  }

  /// Converts an array to the tensor that the network is given.
  /// - Throws: `invalidInput` if the array does not fit the input, or contains a number that is not
  ///   finite or that the input's element type cannot hold.
  public func tensor(from array: Tensor) throws(QMError) -> Tensor {
    try check(array.shape)
    let fitting = try Tensor(
      array.elementType, fitted(array.shape) ?? array.shape, buffer: array.buffer,
      byteOffset: array.byteOffset)
    let tensor = try fitting.converted(to: type?.elementType ?? array.elementType)
    guard tensor.elementType == .float32 else { return tensor }
    let found = tensor.withElements(as: Float.self) { elements in
      elements.firstIndex { !$0.isFinite }.map { (place: $0, isNaN: elements[$0].isNaN) }
    }
    guard let found else { return tensor }
    throw .invalidInput(
      "element \(found.place) of input '\(name.abbreviated)' is "
        + "\(found.isNaN ? "NaN" : "infinite"); samples must be finite: "
        + "fix or remove the sample")
  }
}
