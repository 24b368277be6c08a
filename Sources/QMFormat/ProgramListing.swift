import QMOperations
import QMTensor

/// A program without the elements of its constants: everything that a listing of it shows.
public struct ProgramListing: Sendable {
  /// The constants whose elements are in one section of the file.
  public struct DataSection: Sendable, Hashable {
    /// How the elements are arranged as bytes.
    public let layout: DataLayout
    /// Indices of the constants, ascending; their elements follow one another. All constants of a
    /// section have the same element type.
    public let constants: [Int]
  }

  /// All values: the inputs, the constants, then the outputs of the nodes.
  public internal(set) var values: [Program.Value] = []
  /// Types of the constants.
  public internal(set) var constants: [ValueType] = []
  /// The nodes, in the order in which they run.
  public internal(set) var nodes: [Program.Node] = []
  /// Indices of the values that are inputs.
  public internal(set) var inputs: [Int] = []
  /// The outputs of the program.
  public internal(set) var outputs: [Program.Output] = []
  /// Information that running the program does not need.
  public internal(set) var metadata = Program.Metadata()
  /// In the order of the file's sections of kind ``Container/Kind/data``.
  public internal(set) var dataSections: [DataSection] = []

  init() {}

  /// The listing of a program in memory, without data sections.
  package init(of program: Program) {
    values = program.values
    constants = program.constants.map(\.type)
    nodes = program.nodes
    inputs = program.inputs
    outputs = program.outputs
    metadata = program.metadata
  }

  /// The shape of a constant; decoding refuses constants with dynamic axes.
  func shape(ofConstant constant: Int) -> [Int] { constants[constant].shape.extents ?? [] }
}

/// A `.qm` file opened for listing: everything except the elements of the constants.
public struct QMFile: Sendable {
  /// The sections of the file.
  public let container: Container
  /// The decoded structure, names and metadata.
  public let listing: ProgramListing

  /// Opens a file that is in memory.
  /// - Throws: `malformed`, `unsupported`, `outOfMemory`.
  public init(_ bytes: Buffer, limits: DecodingLimits = .standard) throws(QMError) {
    try self.init(Container(bytes, limits: limits), limits: limits)
  }

  init(_ container: Container, limits: DecodingLimits) throws(QMError) {
    self.container = container
    listing = try ProgramListing(decoding: container, limits: limits)
  }

  /// Opens a file whose sections are read one by one. Unlike a mapping, a file that is truncated
  /// meanwhile is an error.
  /// - Throws: as ``init(_:limits:)``; `cannotOpen`; without the path as context.
  package init(reading path: String, limits: DecodingLimits = .standard) throws(QMError) {
    try self.init(Container(OpenFile(path: path), limits: limits), limits: limits)
  }

  /// Maps a file and opens it.
  /// - Throws: as ``init(_:limits:)``; `cannotOpen`; with the path as context.
  public init(path: String, limits: DecodingLimits = .standard) throws(QMError) {
    let bytes = try Buffer.mapping(path: path)
    self = try within(.file(path)) { () throws(QMError) in try QMFile(bytes, limits: limits) }
  }

  /// The data sections of the file, in the order of ``ProgramListing/dataSections``.
  public var data: [Container.Section] { container.sections.filter { $0.kind == .data } }

  /// The size of each constant in the file, in bytes. The size of a section of several constants is
  /// divided among them by their numbers of elements.
  public var storedByteCounts: [Int] {
    var counts = [Int](repeating: 0, count: listing.constants.count)
    for (section, data) in zip(data, listing.dataSections) {
      let elements = data.constants.map { listing.shape(ofConstant: $0).reduce(1, *) }
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
