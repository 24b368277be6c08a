import QMTensor

/// Writes `.safetensors` files: a header in JSON, then the elements of all arrays, little-endian and
/// without gaps.
public enum SafetensorsWriter {
  /// Writes the arrays, in their order, to a file that appears whole or not at all (``AtomicFile``).
  /// Equal arrays give equal bytes.
  /// - Throws: `invalidInput` for two arrays of one name, or the name `__metadata__`, which the format
  ///   uses itself; `cannotWrite` with the path as context.
  public static func write(
    _ arrays: [(name: String, tensor: Tensor)], to path: String
  ) throws(QMError) {
    let header = try header(of: arrays)
    var file = try AtomicFile(path: path)
    try file.write((0..<8).map { UInt8(truncatingIfNeeded: header.count >> (8 * $0)) })
    try file.write(header)
    for array in arrays {
      try withExtendedLifetime(array.tensor) { () throws(QMError) in
        try file.write(array.tensor.bytes)
      }
    }
    try file.commit()
  }

  /// The JSON, filled up with spaces to a multiple of 8 bytes, so that elements are aligned.
  private static func header(
    of arrays: [(name: String, tensor: Tensor)]
  ) throws(QMError) -> [UInt8] {
    var names: Set<String> = []
    var entries: [String] = []
    var offset = 0
    for (name, tensor) in arrays {
      guard name != "__metadata__", names.insert(name).inserted else {
        throw .invalidInput("an array '\(name.abbreviated)' cannot be stored; give it another name")
      }
      let end = offset + tensor.byteCount
      let shape = tensor.shape.map { "\($0)" }.joined(separator: ",")
      entries.append(
        "\(quoted(name)):{\"dtype\":\"\(tensor.elementType.safetensorsName)\",\"shape\":[\(shape)],"
          + "\"data_offsets\":[\(offset),\(end)]}")
      offset = end
    }
    var header = Array("{\(entries.joined(separator: ","))}".utf8)
    while header.count % 8 != 0 { header.append(UInt8(ascii: " ")) }
    return header
  }

  /// A text as a JSON string.
  private static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case _ where scalar.value < 0x20:
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}

extension ElementType {
  /// The type of the format's name; nil if there is none, as of numbers of less than 8 bits.
  init?(safetensorsName name: String) {
    guard let type = ElementType.allCases.first(where: { $0.safetensorsName == name }) else {
      return nil
    }
    self = type
  }

  /// The format's name of the type.
  var safetensorsName: String {
    switch self {
    case .float64: "F64"
    case .float32: "F32"
    case .float16: "F16"
    case .bfloat16: "BF16"
    case .int64: "I64"
    case .int32: "I32"
    case .int16: "I16"
    case .int8: "I8"
    case .uint64: "U64"
    case .uint32: "U32"
    case .uint16: "U16"
    case .uint8: "U8"
    case .bool: "BOOL"
    }
  }
}
