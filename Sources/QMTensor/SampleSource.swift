/// Samples of a network's inputs that can be loaded in any order, by several threads at a time.
///
/// Calibration, the measuring of a conversion and the tools read samples through this protocol;
/// `SampleFolder` and `SampleArchive` conform to it. A source of one's own gives what an app feeds
/// the network with:
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

  /// What the user calls a sample: the stem of its file, say. It stands in errors.
  /// - Parameter index: in `0..<count`.
  func name(of index: Int) -> String

  /// The network's inputs of a sample, by input name.
  /// - Parameter index: in `0..<count`.
  /// - Throws: `invalidInput` if the sample does not fit the network, with the place as context.
  func inputs(of index: Int) throws(QMError) -> [String: Tensor]

  /// The outputs that are known to be right, by output name; empty where none are known.
  /// - Parameter index: in `0..<count`.
  func expectedOutputs(of index: Int) throws(QMError) -> [String: Tensor]
}

extension SampleSource {
  /// No output is known.
  public func expectedOutputs(of index: Int) throws(QMError) -> [String: Tensor] { [:] }

  /// At most `limit` of the samples, evenly over all, the first included.
  public func evenly(limit: Int) -> SampleSubset {
    let taken = max(0, min(limit, count))
    return SampleSubset(of: self, (0..<taken).map { $0 * count / taken })
  }
}

/// Some of the samples of another source.
public struct SampleSubset: SampleSource {
  private let whole: any SampleSource
  /// In the whole, of each sample of the part.
  public let indices: [Int]

  /// - Parameter indices: of the samples to take, each within the count of `whole`.
  public init(of whole: any SampleSource, _ indices: [Int]) {
    self.whole = whole
    self.indices = indices
  }

  /// Number of samples that are taken.
  public var count: Int { indices.count }
  /// As the whole calls it.
  public func name(of index: Int) -> String { whole.name(of: indices[index]) }
  /// - Throws: as the whole does.
  public func inputs(of index: Int) throws(QMError) -> [String: Tensor] {
    try whole.inputs(of: indices[index])
  }
  /// - Throws: as the whole does.
  public func expectedOutputs(of index: Int) throws(QMError) -> [String: Tensor] {
    try whole.expectedOutputs(of: indices[index])
  }
}

/// An input of the network that samples are for.
public struct SampleInput: Hashable, Sendable {
  /// The input's name in the network.
  public let name: String
  /// What the network takes: arrays of other shapes are refused, arrays of another element type are
  /// converted (``Tensor/converted(to:)``). With nil they come as they are.
  public let type: ValueType?

  /// - Parameters:
  ///   - name: of the input in the network.
  ///   - type: what the network takes; nil takes every array as it is.
  public init(_ name: String, _ type: ValueType? = nil) {
    self.name = name
    self.type = type
  }

  /// - Throws: `invalidInput` if an array of this shape is no sample of the input.
  public func check(_ shape: [Int]) throws(QMError) {
    guard !shape.contains(0) else {
      throw .invalidInput("shape \(shape): an array without elements is no sample")
    }
    guard let expected = type?.shape, !expected.admits(shape) else { return }
    throw .invalidInput(
      "shape \(shape) does not fit input '\(name.abbreviated)', which takes \(expected)")
  }

  /// The tensor that the network is given for an array.
  /// - Throws: `invalidInput` if the array does not fit the input, or holds a number that is not
  ///   finite or that its element type cannot hold.
  public func tensor(from array: Tensor) throws(QMError) -> Tensor {
    try check(array.shape)
    let tensor = try array.converted(to: type?.elementType ?? array.elementType)
    guard tensor.elementType == .float32 else { return tensor }
    let found = tensor.withElements(as: Float.self) { elements in
      elements.firstIndex { !$0.isFinite }.map { (place: $0, isNaN: elements[$0].isNaN) }
    }
    guard let found else { return tensor }
    throw .invalidInput(
      "element \(found.place) of input '\(name.abbreviated)' is "
        + "\(found.isNaN ? "NaN" : "infinite"), and samples hold finite numbers; "
        + "remove the sample or fix it")
  }
}
