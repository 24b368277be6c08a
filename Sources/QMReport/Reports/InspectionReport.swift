import QMFormat
import QMOperations
import QMTensor

/// What a `.qm` file holds.
public struct InspectionReport: Report {
  /// An input or output of the network.
  public struct Port: Codable, Hashable, Sendable {
    /// Its name in the network.
    public let name: String
    /// Element type: `float32`.
    public let type: String
    /// An axis is a number, or the name of a dynamic one.
    public let shape: [String]

    init(_ name: String, _ type: ValueType) {
      self.name = name
      self.type = "\(type.elementType)"
      shape = type.shape.axes.map(\.description)
    }
  }

  /// A tensor of the file.
  public struct Constant: Codable, Hashable, Sendable {
    /// Its name in the network, or empty.
    public let name: String
    /// Element type: `int8`.
    public let type: String
    /// Bits of one code or element.
    public let bits: Int
    /// Extents, outermost axis first.
    public let shape: [Int]
    /// What shares a scale; nil where the elements are the numbers.
    public let granularity: String?
    /// Bytes in the file.
    public let storedBytes: Int
    /// Bytes in memory.
    public let inflatedBytes: Int
    /// How the codes lie in the file: `4-bit codes`.
    public let layout: String

    enum CodingKeys: String, CodingKey {
      case name, type, bits, shape, granularity, layout
      case storedBytes = "stored_bytes"
      case inflatedBytes = "inflated_bytes"
    }
  }

  /// A note of the file.
  public struct Entry: Codable, Hashable, Sendable {
    /// What the note is about.
    public let key: String
    /// What it says.
    public let value: String
  }

  /// A figure that was measured when the file was made.
  public struct Measurement: Codable, Hashable, Sendable {
    /// Name of the output.
    public let output: String
    /// What was measured, with its unit: `SQNR in dB`.
    public let measure: String
    /// In that unit.
    public let value: Double
    /// Samples that it was measured on.
    public let samples: Int
  }

  /// Path of the file.
  public let file: String
  /// Its size in bytes.
  public let bytes: Int
  /// Digest of the content, in hexadecimal.
  public let digest: String
  /// Name and version of the tool that wrote the file.
  public let producer: String
  /// Name of the network that it was made of, or empty.
  public let source: String
  /// SHA-256 of that network's file, in hexadecimal, or empty.
  public let sourceDigest: String
  /// What the conversion was asked for.
  public let recipe: [Entry]
  /// Notes beside it.
  public let entries: [Entry]
  /// How close the outputs were to the float network when the file was made.
  public let measurements: [Measurement]
  /// In the order of the network.
  public let inputs: [Port]
  /// In the order of the network.
  public let outputs: [Port]
  /// In the order of the file.
  public let constants: [Constant]
  /// In the order in which they run.
  public let nodes: [NodeReport]
  /// Elements of all weights.
  public let weights: Int
  /// As wide as their codes or elements are.
  public let bitsPerWeightInCodes: Double
  /// As many as the file spends.
  public let bitsPerWeightInFile: Double
  /// Of all weights, 0 to 1.
  public let quantizedWeightShare: Double
  /// Of one run; nil where no shapes were found that run.
  public let multiplyAdds: Int?
  /// Of the multiply-adds, 0 to 1.
  public let integerMultiplyAddShare: Double?

  enum CodingKeys: String, CodingKey {
    case file, bytes, digest, producer, source, recipe, entries, measurements, inputs, outputs
    case constants, nodes, weights
    case sourceDigest = "source_sha256"
    case bitsPerWeightInCodes = "bits_per_weight_in_codes"
    case bitsPerWeightInFile = "bits_per_weight_in_file"
    case quantizedWeightShare = "quantized_weight_share"
    case multiplyAdds = "multiply_adds"
    case integerMultiplyAddShare = "integer_multiply_add_share"
  }

  /// Lists what an opened file holds.
  /// - Parameters:
  ///   - path: of the file, as the user gave it.
  ///   - work: of one run; nil where no shapes were found that run.
  public init(path: String, _ opened: QMFile, work: Work?) {
    let (listing, container) = (opened.listing, opened.container)
    let metadata = listing.metadata
    file = path
    bytes = container.byteCount
    digest = container.digest.hexadecimal
    producer = metadata.producer
    source = metadata.sourceName
    sourceDigest = metadata.sourceDigest.hexadecimal
    recipe = metadata.recipe.map { Entry(key: $0.key, value: $0.value) }
    entries = metadata.entries.map { Entry(key: $0.key, value: $0.value) }
    measurements = metadata.measurements.map {
      Measurement(
        output: listing.outputs[$0.output].name, measure: $0.measure.name,
        value: Double($0.value), samples: $0.sampleCount)
    }
    inputs = listing.inputs.map { Port(listing.values[$0].name, listing.values[$0].type) }
    outputs = listing.outputs.map { Port($0.name, listing.values[$0.value].type) }
    constants = Constant.all(of: opened)
    nodes = listing.nodes.map { NodeReport($0, listing.note(of: $0)) }
    let summary = WeightSummary(opened)
    weights = summary.weightCount
    bitsPerWeightInCodes = summary.codeBitsPerWeight
    bitsPerWeightInFile = summary.storedBitsPerWeight
    quantizedWeightShare = summary.quantizedShare
    multiplyAdds = work?.multiplyAdds
    integerMultiplyAddShare = work?.integerShare
  }
}

extension InspectionReport.Constant {
  fileprivate static func all(of opened: QMFile) -> [InspectionReport.Constant] {
    let listing = opened.listing
    var names = [String](repeating: "", count: listing.constants.count)
    for value in listing.values {
      if let constant = value.constant { names[constant] = value.name }
    }
    var layouts = [String](repeating: "", count: listing.constants.count)
    for section in listing.dataSections {
      for constant in section.constants { layouts[constant] = section.layout.name }
    }
    let stored = opened.storedByteCounts
    return listing.constants.enumerated().map { index, type in
      var bits = 8 * type.elementType.byteCount
      var granularity: String?
      if case .weights(let width, let kind) = type.quantization {
        (bits, granularity) = (width.bits, kind.shortDescription)
      }
      let shape = type.shape.extents ?? []
      return InspectionReport.Constant(
        name: names[index], type: "\(type.elementType)", bits: bits, shape: shape,
        granularity: granularity, storedBytes: stored[index],
        inflatedBytes: shape.reduce(type.elementType.byteCount, *), layout: layouts[index])
    }
  }
}

extension DataLayout {
  fileprivate var name: String {
    switch self {
    case .plain: "plain"
    case .bits(let width): "\(width.bits)-bit codes"
    case .digits(let radix, _): "digits of radix \(radix)"
    case .planes: "byte planes"
    case .planeDifferences: "byte planes, differences"
    }
  }
}
