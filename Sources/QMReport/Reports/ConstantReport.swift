import QMFormat
import QMOperations
import QMTensor

/// A tensor of a `.qm` file.
public struct ConstantReport: Codable, Hashable, Sendable {
  /// Its name in the file, or what reads it: `weights of /fc/MatMul`.
  public let name: String
  /// Element type: `int8`.
  public let type: String
  /// Number of bits of one code or element in memory.
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
  /// Bits of one element in the file, with its share of the scales; nil without elements.
  public let storedBits: Double?
  /// The order-0 entropy of codes of weights, in bits of one code; nil for other constants.
  public let entropyBits: Double?

  enum CodingKeys: String, CodingKey {
    case name, type, bits, shape, granularity, layout
    case storedBytes = "stored_bytes"
    case inflatedBytes = "inflated_bytes"
    case storedBits = "stored_bits"
    case entropyBits = "entropy_bits"
  }

  static func all(of opened: QMFile, _ tensors: [Program.Constant]) -> [ConstantReport] {
    let listing = opened.listing
    let names = listing.descriptionsOfConstants
    let scales = listing.scalesOfCodes
    var layouts = [String](repeating: "", count: listing.constants.count)
    for section in listing.dataSections {
      for constant in section.constants { layouts[constant] = section.layout.name }
    }
    let stored = opened.storedByteCounts
    return listing.constants.enumerated().map { index, type in
      var bits = 8 * type.elementType.byteCount
      var granularity: String?
      var entropy: Double?
      let shape = type.shape.extents ?? []
      let count = shape.reduce(1, *)
      if case .weights(let width, let kind) = type.quantization {
        (bits, granularity) = (width.bits, kind.shortDescription)
        if count > 0 { entropy = Double(tensors[index].entropy) / Double(count) }
      }
      let withScales = stored[index] + (scales[index].map { stored[$0] } ?? 0)
      return ConstantReport(
        name: names[index], type: "\(type.elementType)", bits: bits, shape: shape,
        granularity: granularity, storedBytes: stored[index],
        inflatedBytes: count * type.elementType.byteCount, layout: layouts[index],
        storedBits: count > 0 ? 8 * Double(withScales) / Double(count) : nil, entropyBits: entropy)
    }
  }
}

extension Program.Constant {
  /// The order-0 entropy of the bytes, in bits.
  var entropy: Int {
    var counts = [Int](repeating: 0, count: 256)
    for byte in tensor.bytes { counts[Int(byte)] += 1 }
    return Entropy.bits(counts)
  }
}

extension ProgramListing {
  /// For each constant with codes of weights, the constant with their scales.
  var scalesOfCodes: [Int: Int] {
    var scales: [Int: Int] = [:]
    for node in nodes {
      var pairs: [(codes: Int, scales: Int)] = []
      switch node.operation {
      case .convolution, .matrixMultiply:
        pairs = [(ProductOperand.weights, ProductOperand.weightScales)]
      case .recurrent:
        pairs = [
          (RecurrentOperand.weights, RecurrentOperand.weightScales),
          (RecurrentOperand.recurrence, RecurrentOperand.recurrenceScales),
        ]
      case .dequantize: pairs = [(0, 1)]
      default: break
      }
      for pair in pairs {
        guard let codes = constant(pair.codes, of: node), let own = constant(pair.scales, of: node)
        else { continue }
        scales[codes] = own
      }
    }
    return scales
  }

  private func constant(_ position: Int, of node: Program.Node) -> Int? {
    guard position < node.inputs.count, let value = node.inputs[position] else { return nil }
    return values[value].constant
  }

  /// The name of each constant, or what it is of its first reader.
  var descriptionsOfConstants: [String] {
    var names = [String](repeating: "", count: constants.count)
    func name(_ value: Int, _ text: String) {
      if let constant = values[value].constant, names[constant].isEmpty { names[constant] = text }
    }
    for value in values.indices { name(value, values[value].name) }
    for output in outputs { name(output.value, output.name) }
    for node in nodes {
      let reader =
        node.name.isEmpty
        ? node.outputs.first.map { output in
          outputs.first { $0.value == output }?.name ?? values[output].name
        } ?? "" : node.name
      for (position, input) in node.inputs.enumerated() {
        guard let input else { continue }
        name(input, "\(node.operation.role(ofInput: position)) of \(reader)")
      }
    }
    return names
  }
}

extension Operation {
  /// What an input is for the operation.
  fileprivate func role(ofInput position: Int) -> String {
    var roles: [String] = []
    switch self {
    case .convolution, .matrixMultiply: roles = ["input", "weights", "bias", "scales"]
    case .recurrent: roles = ["input", "weights", "recurrence", "bias"]
    case .layerNormalization, .batchNormalization, .groupNormalization:
      roles = ["input", "scale", "bias"]
    case .dequantize: roles = ["codes", "scales"]
    case .table: roles = ["input", "table"]
    default: break
    }
    return position < roles.count ? roles[position] : "input \(position)"
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
    case .signPlanes: "byte planes, signs last"
    case .tuples(let table): "tuples of \(table.size) codes"
    }
  }
}
