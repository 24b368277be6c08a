import QMFormat
import QMRuntime
import QMTensor

/// A valid shape of an input and, if the input is a few integers, valid values: such integers may
/// control what a network does. A converted file records one example for each input.
public struct InputExample: Hashable, Sendable {
  /// The extent of each axis of the sample, outermost first.
  public let shape: [Int]
  /// The elements in row-major order; nil if only the shape matters.
  public private(set) var integers: [Int64]?

  /// Maximum number of integers whose values are recorded.
  private static let largestCount = 16

  /// An example of which only the shape matters.
  public init(shape: [Int]) { self.shape = shape }

  /// The example that a sample gives.
  /// - Throws: `outOfMemory`.
  public init(_ tensor: Tensor) throws(QMError) {
    shape = tensor.shape
    guard tensor.elementType.isInteger, tensor.elementCount <= InputExample.largestCount else {
      return
    }
    integers = try tensor.converted(to: .int64).elements(as: Int64.self)
  }

  /// The shape, `1x16000`, and the values if there are any: `1 = 16000`.
  private var text: String {
    let extents = shape.map(String.init).joined(separator: "x")
    guard let integers else { return extents }
    return extents + " = " + integers.map(String.init).joined(separator: " ")
  }

  /// The entry that records the example in the metadata of a file.
  public func entry(for input: String) -> Program.Metadata.Entry {
    .init(InputExample.key(input), text)
  }

  private static func key(_ input: String) -> String { "sample \(input)" }

  /// The example that a file records for an input; nil if there is none or it does not fit the
  /// input.
  public init?(of port: Model.Port, in metadata: Program.Metadata) {
    let key = InputExample.key(port.name)
    guard let text = metadata.entries.first(where: { $0.key == key })?.value else { return nil }
    let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    let words = parts[0].split { $0 == "x" || $0 == " " }
    shape = words.compactMap { Int($0) }
    guard shape.count == words.count, port.type.shape.admits(shape),
      let count = Shape.elementCount(of: shape)
    else { return nil }
    if parts.count == 2 {
      let numbers = parts[1].split(separator: " ").compactMap { Int64($0) }
      guard numbers.count == count, count <= InputExample.largestCount else { return nil }
      integers = numbers
    }
  }

  /// The recorded values as a tensor; nil if only the shape matters.
  func tensor(_ type: ElementType) throws(QMError) -> Tensor? {
    guard let integers, type.isInteger else { return nil }
    return try Tensor(shape, integers).converted(to: type)
  }
}
