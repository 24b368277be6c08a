import QMOperations
import QMTensor

/// A program without the elements of its constants: all that a listing needs.
public struct Outline: Sendable {
  /// Constants whose elements lie in one section of the file.
  public struct DataSection: Sendable, Hashable {
    public let layout: DataLayout
    /// Ascending; their elements follow one another. All have one element type.
    public let constants: [Int]
  }

  public internal(set) var values: [Program.Value] = []
  /// Types of the constants.
  public internal(set) var constants: [ValueType] = []
  public internal(set) var nodes: [Program.Node] = []
  public internal(set) var inputs: [Int] = []
  public internal(set) var outputs: [Program.Output] = []
  public internal(set) var metadata = Program.Metadata()
  /// In the order of the file's sections of kind ``Container/Kind/data``.
  public internal(set) var dataSections: [DataSection] = []

  /// Shape of a constant; decoding refuses one with a free axis.
  func shape(ofConstant constant: Int) -> [Int] { constants[constant].shape.extents ?? [] }
}

/// A `.qm` file opened for listing: everything but the weights.
public struct QMFile: Sendable {
  public let container: Container
  public let outline: Outline

  /// - Throws: `malformed`, `unsupported`, `outOfMemory`.
  public init(_ bytes: Buffer, limits: DecodingLimits = .standard) throws(QMError) {
    try self.init(Container(bytes, limits: limits), limits: limits)
  }

  init(_ container: Container, limits: DecodingLimits) throws(QMError) {
    self.container = container
    outline = try Outline(decoding: container, limits: limits)
  }

  /// - Throws: also `cannotOpen`. The path is in the error's context.
  public init(path: String, limits: DecodingLimits = .standard) throws(QMError) {
    let bytes = try Buffer.mapping(path: path)
    self = try within(.file(path)) { () throws(QMError) in try QMFile(bytes, limits: limits) }
  }

  /// The section of the file with the elements of each data section of the outline.
  public var data: [Container.Section] { container.sections.filter { $0.kind == .data } }

  /// Bytes of the file that each constant takes. Where several share a section, each has its share
  /// by the number of elements.
  public var storedByteCounts: [Int] {
    var counts = [Int](repeating: 0, count: outline.constants.count)
    for (section, data) in zip(data, outline.dataSections) {
      let elements = data.constants.map { outline.shape(ofConstant: $0).reduce(1, *) }
      let total = elements.reduce(0, +)
      var (seen, assigned) = (0.0, 0)
      for (constant, count) in zip(data.constants, elements) {
        seen += Double(count)
        let end = total == 0 ? 0 : Int(Double(section.storedByteCount) * seen / Double(total))
        counts[constant] = end - assigned
        assigned = end
      }
    }
    return counts
  }
}
