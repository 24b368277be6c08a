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

    enum CodingKeys: String, CodingKey {
      case least, counts
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
  /// - Parameter tensors: the constants of the file.
  /// - Throws: `malformed` if the bytes are not a `.qm` file; `outOfMemory`.
  public static func all(
    ofFile bytes: [UInt8], _ tensors: [Program.Constant]
  ) throws(QMError) -> [WeightReport] {
    let copy = try bytes.withUnsafeBytes { (bytes) in
      Result { () throws(QMError) in try Buffer.copying(bytes) }
    }.get()
    return all(of: try QMFile(copy), tensors)
  }

  /// The weights of an opened file, in the order in which nodes read them.
  /// - Parameter tensors: the constants of the file.
  public static func all(of opened: QMFile, _ tensors: [Program.Constant]) -> [WeightReport] {
    let listing = opened.listing
    let stored = opened.storedByteCounts
    let scales = listing.scalesOfCodes
    let names = listing.descriptionsOfConstants
    return listing.weightConstants.compactMap { constant in
      let type = listing.constants[constant]
      let tensor = tensors[constant].tensor
      let count = tensor.elementCount
      guard count > 0 else { return nil }
      let scale = scales[constant]
      let bytes = stored[constant] + (scale.map { stored[$0] } ?? 0)
      var bits = 8 * type.elementType.byteCount
      var codes: Codes?
      if case .weights(let width, _) = type.quantization {
        bits = width.bits
        codes = Codes(tensor, scales: scale.map { tensors[$0].tensor })
      }
      return WeightReport(
        name: names[constant], type: "\(type.elementType)", shape: tensor.shape, count: count,
        bits: bits, bytes: bytes, storedBits: 8 * Double(bytes) / Double(count), codes: codes)
    }
  }
}

extension WeightReport.Codes {
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
