import QMFormat
import QMRuntime
import QMTensor

/// What a sample of an input looks like: its shape, and, of a few integers, which may choose what
/// a network does, their values. A converted file remembers one of each input.
public struct InputExample: Hashable, Sendable {
  /// Extents of the sample, outermost axis first.
  public let extents: [Int]
  /// The elements in row-major order; nil where they do not matter.
  public private(set) var integers: [Int64]?

  /// Integers whose values are remembered, at most.
  private static let largestCount = 16

  /// A sample whose elements do not matter.
  public init(extents: [Int]) { self.extents = extents }

  /// What is worth remembering of a sample.
  /// - Throws: `outOfMemory`.
  public init(_ tensor: Tensor) throws(QMError) {
    extents = tensor.shape
    guard tensor.elementType.isInteger, tensor.elementCount <= InputExample.largestCount else {
      return
    }
    integers = try tensor.converted(to: .int64).elements(as: Int64.self)
  }

  /// `1x16000`, or `1 = 16000` with values.
  private var text: String {
    let extents = extents.map(String.init).joined(separator: "x")
    guard let integers else { return extents }
    return extents + " = " + integers.map(String.init).joined(separator: " ")
  }

  /// The note in a file.
  public func entry(for input: String) -> Program.Metadata.Entry {
    .init(InputExample.key(input), text)
  }

  private static func key(_ input: String) -> String { "sample \(input)" }

  /// What the file remembers of an input; nil where it remembers nothing that fits.
  public init?(of port: Model.Port, in metadata: Program.Metadata) {
    let key = InputExample.key(port.name)
    guard let text = metadata.entries.first(where: { $0.key == key })?.value else { return nil }
    let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    let words = parts[0].split { $0 == "x" || $0 == " " }
    extents = words.compactMap { Int($0) }
    guard extents.count == words.count, port.type.shape.admits(extents),
      let count = Shape.elementCount(of: extents)
    else { return nil }
    if parts.count == 2 {
      let numbers = parts[1].split(separator: " ").compactMap { Int64($0) }
      guard numbers.count == count, count <= InputExample.largestCount else { return nil }
      integers = numbers
    }
  }

  /// nil where the elements do not matter.
  func tensor(_ type: ElementType) throws(QMError) -> Tensor? {
    guard let integers, type.isInteger else { return nil }
    return try Tensor(extents, integers).converted(to: type)
  }
}
