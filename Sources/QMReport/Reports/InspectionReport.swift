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

  /// What a part of the file takes.
  public struct Part: Codable, Hashable, Sendable {
    /// `header and table`, `structure`, `names`, `metadata`, `probes`, `codes of weights`,
    /// `scales of weights`, or the element type of other constants.
    public let name: String
    /// Its size in the file, in bytes.
    public let bytes: Int
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
  public let constants: [ConstantReport]
  /// Number of probes in the file; nil if there are none.
  public let probes: Int?
  /// What the parts of the file take; together its size.
  public let parts: [Part]
  /// The nodes, in the order in which they run.
  public let nodes: [NodeReport]
  /// Number of elements of all weights.
  public let weights: Int
  /// Average number of bits per weight, by the width of its code or element.
  public let bitsPerWeightInCodes: Double
  /// Average number of bits per weight in the file, after compression, without scales.
  public let bitsPerWeightInFile: Double
  /// Average number of bits per weight in the file, with scales.
  public let bitsPerWeightWithScales: Double
  /// The order-0 entropy of the codes, for each tensor by itself, in bits per weight; weights that are
  /// no codes count as they are stored.
  public let entropyPerWeight: Double
  /// Fraction of the weights that are codes, 0 to 1.
  public let quantizedWeightShare: Double
  /// Number of multiply-adds of one run; nil if no input shapes were found that run.
  public let multiplyAdds: Int?
  /// Fraction of the multiply-adds on integers, 0 to 1; nil if none were counted.
  public let integerMultiplyAddShare: Double?

  enum CodingKeys: String, CodingKey {
    case file, bytes, digest, producer, source, recipe, entries, measurements, inputs, outputs
    case constants, nodes, weights, parts, probes
    case sourceDigest = "source_sha256"
    case bitsPerWeightInCodes = "bits_per_weight_in_codes"
    case bitsPerWeightInFile = "bits_per_weight_in_file"
    case bitsPerWeightWithScales = "bits_per_weight_with_scales"
    case entropyPerWeight = "entropy_bits_per_weight"
    case quantizedWeightShare = "quantized_weight_share"
    case multiplyAdds = "multiply_adds"
    case integerMultiplyAddShare = "integer_multiply_add_share"
  }

  /// Lists the content of an opened file.
  /// - Parameters:
  ///   - path: the path of the file, as the user gave it.
  ///   - opened: the file.
  ///   - tensors: its constants.
  ///   - probes: its probes; nil if it has none.
  ///   - work: the work of one run; nil if no input shapes were found that run.
  public init(
    path: String, _ opened: QMFile, _ tensors: [Program.Constant], probes: Program.Probes? = nil,
    work: Work?
  ) {
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
    constants = ConstantReport.all(of: opened, tensors)
    self.probes = probes?.probes.count
    parts = Part.all(of: opened)
    nodes = listing.nodes.map { NodeReport($0, listing.note(of: $0)) }
    let summary = WeightSummary(opened)
    weights = summary.weightCount
    bitsPerWeightInCodes = summary.codeBitsPerWeight
    bitsPerWeightInFile = summary.storedBitsPerWeight
    bitsPerWeightWithScales = summary.storedBitsPerWeightWithScales
    entropyPerWeight = summary.entropyPerWeight(tensors)
    quantizedWeightShare = summary.quantizedShare
    multiplyAdds = work?.multiplyAdds
    integerMultiplyAddShare = work?.integerShare
  }
}

extension InspectionReport.Part {
  fileprivate static func all(of opened: QMFile) -> [InspectionReport.Part] {
    let container = opened.container
    func size(_ kind: Container.Kind) -> Int {
      container.sections.filter { $0.kind == kind }.reduce(0) { $0 + $1.storedByteCount }
    }
    let known = container.sections.reduce(0) { $0 + $1.storedByteCount }
    var parts = [
      InspectionReport.Part(name: "header and table", bytes: container.byteCount - known),
      .init(name: "structure", bytes: size(.program)), .init(name: "names", bytes: size(.names)),
      .init(name: "metadata", bytes: size(.metadata)),
    ]
    if size(.probes) > 0 { parts.append(.init(name: "probes", bytes: size(.probes))) }
    var constants: [String: Int] = [:]
    let scales = opened.listing.scalesOfCodes
    for (index, (type, bytes)) in zip(opened.listing.constants, opened.storedByteCounts)
      .enumerated()
    {
      var name = "\(type.elementType)"
      if case .weights = type.quantization { name = "codes of weights" }
      if scales.values.contains(index) { name = "scales of weights" }
      constants[name, default: 0] += bytes
    }
    parts += constants.sorted { $0.key < $1.key }.map { .init(name: $0.key, bytes: $0.value) }
    let others = container.byteCount - parts.reduce(0) { $0 + $1.bytes }
    if others > 0 { parts.append(.init(name: "others", bytes: others)) }
    return parts
  }
}
