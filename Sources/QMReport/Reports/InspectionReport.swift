import QMFormat
import QMOperations
import QMTensor

/// The content of a `.qm` file.
public struct InspectionReport: Report {
  /// An input or output of the network.
  public struct Port: Codable, Hashable, Sendable {
    /// Its name in the network.
    public let name: String
    /// Element type: `float32`.
    public let type: String
    /// The extent or, for a dynamic axis, the name of each axis, outermost first.
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
    /// Number of bits of one code or element.
    public let bits: Int
    /// The extent of each axis, outermost first.
    public let shape: [Int]
    /// Which elements share a scale: `per channel`; nil without scales.
    public let granularity: String?
    /// Size in the file, in bytes.
    public let storedBytes: Int
    /// Size in memory, in bytes.
    public let inflatedBytes: Int
    /// How the elements are arranged in the file: `4-bit codes`.
    public let layout: String

    enum CodingKeys: String, CodingKey {
      case name, type, bits, shape, granularity, layout
      case storedBytes = "stored_bytes"
      case inflatedBytes = "inflated_bytes"
    }
  }

  /// An entry of the file's metadata.
  public struct Entry: Codable, Hashable, Sendable {
    /// The key.
    public let key: String
    /// The text.
    public let value: String
  }

  /// A measure of the difference from the float network, taken when the file was made.
  public struct Measurement: Codable, Hashable, Sendable {
    /// Name of the output.
    public let output: String
    /// What was measured, with its unit: `SQNR in dB`.
    public let measure: String
    /// The result, in that unit.
    public let value: Double
    /// Number of samples that were measured.
    public let samples: Int
  }

  /// Path of the file.
  public let file: String
  /// Size of the file, in bytes.
  public let bytes: Int
  /// Content digest of the file, in hexadecimal.
  public let digest: String
  /// Name and version of the tool that wrote the file.
  public let producer: String
  /// Name of the file that was converted, or empty.
  public let source: String
  /// SHA-256 of that file, in hexadecimal, or empty.
  public let sourceDigest: String
  /// The options of the conversion.
  public let recipe: [Entry]
  /// The other entries of the metadata.
  public let entries: [Entry]
  /// How close the outputs were to the float network when the file was made.
  public let measurements: [Measurement]
  /// The inputs, in the order of the network.
  public let inputs: [Port]
  /// The outputs, in the order of the network.
  public let outputs: [Port]
  /// The constants, in the order of the file.
  public let constants: [Constant]
  /// The nodes, in the order in which they run.
  public let nodes: [NodeReport]
  /// Number of elements of all weights.
  public let weights: Int
  /// Average number of bits per weight, by the width of its code or element.
  public let bitsPerWeightInCodes: Double
  /// Average number of bits per weight in the file, after compression.
  public let bitsPerWeightInFile: Double
  /// Fraction of the weights that are codes, 0 to 1.
  public let quantizedWeightShare: Double
  /// Number of multiply-adds of one run; nil if no input shapes were found that run.
  public let multiplyAdds: Int?
  /// Fraction of the multiply-adds on integers, 0 to 1; nil if none were counted.
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

  /// Lists the content of an opened file.
  /// - Parameters:
  ///   - path: the path of the file, as the user gave it.
  ///   - opened: the file.
  ///   - work: the work of one run; nil if no input shapes were found that run.
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
        output: $0.part?.description(of: listing.outputs[$0.output].name)
          ?? listing.outputs[$0.output].name, measure: $0.measure.name,
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
