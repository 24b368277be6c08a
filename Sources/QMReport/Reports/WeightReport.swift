import QMFormat
import QMOperations
import QMTensor

/// Weights in a `.qm` file: what they take, and their codes.
public struct WeightReport: Codable, Hashable, Sendable {
  /// How often each code occurs.
  public struct Codes: Codable, Hashable, Sendable {
    /// The smallest code.
    public let least: Int
    /// The number of weights with each code, from ``least`` to the largest code.
    public let counts: [Int]
    /// The smallest scale: a weight is its code times the scale of its channel or group, from which the
    /// zero point was subtracted where there is one.
    public let leastScale: Double?
    /// The largest scale.
    public let greatestScale: Double?
    /// The float weights that were rounded to the codes, each divided by its scale: from half a code
    /// below the smallest code to half a code above the largest. Nil if they are not known.
    public fileprivate(set) var floats: Histogram?

    enum CodingKeys: String, CodingKey {
      case least, counts, floats
      case leastScale = "least_scale"
      case greatestScale = "greatest_scale"
    }
  }

  /// Their name in the file, or what reads them: `weights of /fc/MatMul`.
  public let name: String
  /// Element type: `int8`.
  public let type: String
  /// The extent of each axis, outermost first.
  public let shape: [Int]
  /// Number of weights.
  public let count: Int
  /// Bits of one code or element in memory.
  public let bits: Int
  /// Size in the file, in bytes, with scales.
  public let bytes: Int
  /// Bits of one weight in the file, with its share of the scales.
  public let storedBits: Double
  /// Their codes; nil if they are no codes.
  public let codes: Codes?

  enum CodingKeys: String, CodingKey {
    case name, type, shape, count, bits, bytes, codes
    case storedBits = "stored_bits"
  }

  /// The weights of a file that was just encoded, in the order in which nodes read them.
  /// - Parameters:
  ///   - tensors: the constants of the file.
  ///   - reference: the float network whose weights were rounded, after the passes.
  /// - Throws: `malformed` if the bytes are not a `.qm` file; `outOfMemory`.
  public static func all(
    ofFile bytes: [UInt8], _ tensors: [Program.Constant], from reference: Program? = nil
  ) throws(QMError) -> [WeightReport] {
    let copy = try bytes.withUnsafeBytes { (bytes) in
      Result { () throws(QMError) in try Buffer.copying(bytes) }
    }.get()
    return try all(of: try QMFile(copy), tensors, from: reference)
  }

  /// The weights of an opened file, in the order in which nodes read them.
  /// - Parameters:
  ///   - tensors: the constants of the file.
  ///   - reference: the float network whose weights were rounded, after the passes.
  /// - Throws: `outOfMemory`.
  public static func all(
    of opened: QMFile, _ tensors: [Program.Constant], from reference: Program? = nil
  ) throws(QMError) -> [WeightReport] {
    let listing = opened.listing
    let readers = reference == nil ? [:] : listing.constantsByReader
    var floats: [Int: Tensor] = [:]
    if let reference {
      for (reader, constant) in ProgramListing(of: reference).constantsByReader {
        if let codes = readers[reader] { floats[codes] = reference.constants[constant].tensor }
      }
    }
    let stored = opened.storedByteCounts
    let scales = listing.scalesOfCodes
    let names = listing.descriptionsOfConstants
    var reports: [WeightReport] = []
    for constant in listing.weightConstants {
      let type = listing.constants[constant]
      let tensor = tensors[constant].tensor
      let count = tensor.elementCount
      guard count > 0 else { continue }
      let scale = scales[constant]
      let bytes = stored[constant] + (scale.map { stored[$0] } ?? 0)
      var bits = 8 * type.elementType.byteCount
      var codes: Codes?
      if case .weights(let width, _) = type.quantization {
        bits = width.bits
        codes = Codes(tensor, scales: scale.map { tensors[$0].tensor })
        if let numbers = floats[constant], numbers.elementType == .float32,
          numbers.shape == tensor.shape, let scales = scale.map({ tensors[$0].tensor })
        {
          let ones = try Tensor(tensor.shape, [Int8](repeating: 1, count: count))
          let steps = try Operation.dequantize(Dequantize())
            .evaluate([ones, scales], quantizations: [type.quantization])[0]
          codes?.count(numbers, steps)
        }
      }
      reports.append(
        WeightReport(
          name: names[constant], type: "\(type.elementType)", shape: tensor.shape, count: count,
          bits: bits, bytes: bytes, storedBits: 8 * Double(bytes) / Double(count), codes: codes))
    }
    return reports
  }
}

/// A place at which a program reads a constant, in words that the float network has too.
private struct ConstantReader: Hashable {
  let operation: String
  let node: String
  let position: Int
}

extension ProgramListing {
  /// The constant that each operand is, as it is or dequantized; without nodes whose operation and name
  /// another node has.
  fileprivate var constantsByReader: [ConstantReader: Int] {
    let dequantized = dequantizedConstants
    var found: [ConstantReader: Int] = [:]
    var repeated: Set<ConstantReader> = []
    for node in nodes {
      for (position, input) in node.inputs.enumerated() {
        guard let input, let constant = values[input].constant ?? dequantized[input] else {
          continue
        }
        let reader = ConstantReader(
          operation: node.operation.name, node: node.name, position: position)
        if found.updateValue(constant, forKey: reader) != nil { repeated.insert(reader) }
      }
    }
    return found.filter { !repeated.contains($0.key) }
  }
}

extension WeightReport.Codes {
  /// Counts the float weights behind the codes.
  /// - Parameter steps: the scale of each.
  fileprivate mutating func count(_ weights: Tensor, _ steps: Tensor) {
    // Several bins for a code, where there are few.
    let bins = counts.count * (counts.count > 32 ? 1 : counts.count > 16 ? 2 : 4)
    var histogram = Histogram(
      low: Double(least) - 0.5, high: Double(least + counts.count) - 0.5, binCount: bins)
    histogram.add(
      zip(weights.elements(as: Float.self), steps.elements(as: Float.self)).map { $0 / $1 })
    floats = histogram
  }

  /// - Parameter tensor: codes of one byte each.
  fileprivate init?(_ tensor: Tensor, scales: Tensor?) {
    guard tensor.elementType == .int8, tensor.elementCount > 0 else { return nil }
    var counts = [Int](repeating: 0, count: 256)
    tensor.withElements(as: Int8.self) { codes in
      for code in codes { counts[Int(code) + 128] += 1 }
    }
    let first = counts.firstIndex { $0 > 0 } ?? 0
    let last = counts.lastIndex { $0 > 0 } ?? 0
    least = first - 128
    self.counts = Array(counts[first...last])
    let numbers =
      scales?.elementType == .float32 ? scales?.elements(as: Float.self).map(Double.init) : nil
    leastScale = numbers?.min()
    greatestScale = numbers?.max()
  }
}
