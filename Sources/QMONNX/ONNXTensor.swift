import QMTensor

/// Reads the elements of a model's tensors from its own file and from other files in its folder.
final class TensorFiles {
  private let file: Buffer
  /// nil if the model has no folder; tensors in other files are then an error.
  private let folder: String?
  private let limits: ONNXLimits
  private var mapped: [String: Buffer] = [:]

  /// - Parameters:
  ///   - file: the file to which the offsets in ``ONNXTensor/pieces`` refer.
  ///   - folder: the canonical path of the model's folder.
  init(file: Buffer, folder: String?, limits: ONNXLimits) {
    self.file = file
    self.folder = folder
    self.limits = limits
  }

  /// The elements of `source`; a view of the mapped file if they are stored there as in memory.
  /// - Throws: `malformed` if the number of elements does not match the shape, `unsupported` for
  ///   element types that ``ElementType`` does not have, `cannotOpen` for external data.
  func tensor(_ source: ONNXTensor) throws(QMError) -> Tensor {
    try within(.value(source.name)) { () throws(QMError) in
      if let packed = PackedIntegers(onnx: source.dataType) { return try unpacked(source, packed) }
      if let float8 = Float8(onnx: source.dataType) { return try numbers(source, float8) }
      let elementType = try ElementType(onnx: source.dataType)
      let shape = try shape(of: source)
      let byteCount = try Tensor.byteCount(of: elementType, shape)
      let tensor: Tensor
      if let external = source.external {
        guard source.pieces.isEmpty else {
          throw .malformed("elements both in the model's file and in another one")
        }
        tensor = try linked(external, elementType, shape, byteCount: byteCount)
      } else {
        tensor = try stored(source, elementType, shape, byteCount: byteCount)
      }
      if elementType == .bool { try checkBooleans(tensor) }
      return try aligned(tensor)
    }
  }

  /// Integers of 4 or 2 bits, packed into bytes, as integers of 8 bits.
  private func unpacked(
    _ source: ONNXTensor, _ packed: PackedIntegers
  ) throws(QMError) -> Tensor {
    let shape = try shape(of: source)
    let count = try Tensor.byteCount(of: .uint8, shape)
    let byteCount = (count + packed.perByte - 1) / packed.perByte
    var bytes = source
    bytes.shape = [Int64(byteCount)]
    bytes.dataType = 2
    let stored = try tensor(bytes)
    let mask = UInt8((1 << packed.bits) - 1)
    let sign = packed.isSigned ? UInt8(1 << (packed.bits - 1)) : 0
    let buffer = try Buffer.allocate(byteCount: count)
    let target = buffer.base.assumingMemoryBound(to: UInt8.self)
    let source = stored.elements(as: UInt8.self)
    for index in 0..<count {
      let shift = index % packed.perByte * packed.bits
      let code = source[index / packed.perByte] >> UInt8(shift) & mask
      // Sign extension from two's complement of fewer bits.
      target[index] = (code ^ sign) &- sign
    }
    return try Tensor(packed.stored, shape, buffer: buffer)
  }

  /// Floating-point numbers of 8 bits as float32.
  private func numbers(_ source: ONNXTensor, _ type: Float8) throws(QMError) -> Tensor {
    var bytes = source
    bytes.dataType = ElementType.uint8.onnxType
    let stored = try tensor(bytes).elements(as: UInt8.self)
    return try Tensor(shape(of: source), stored.map(type.number))
  }

  private func shape(of source: ONNXTensor) throws(QMError) -> [Int] {
    guard source.shape.count <= limits.axes else {
      throw .unsupported("\(source.shape.count) axes; at most \(limits.axes) can be read")
    }
    guard source.shape.allSatisfy({ $0 >= 0 }) else {
      throw .malformed("shape \(source.shape) has a negative extent")
    }
    return source.shape.map(Int.init)
  }

  /// Any byte other than 0 or 1 would be an invalid Swift Bool.
  private func checkBooleans(_ tensor: Tensor) throws(QMError) {
    guard tensor.bytes.allSatisfy({ $0 <= 1 }) else {
      throw .malformed("a bool element that is neither 0 nor 1")
    }
  }

  /// Copies a small misaligned tensor. A large one stays a view of the file; its readers accept
  /// misaligned elements.
  private func aligned(_ tensor: Tensor) throws(QMError) -> Tensor {
    let address = Int(bitPattern: tensor.buffer.base) + tensor.byteOffset
    guard address % tensor.elementType.byteCount != 0, tensor.byteCount < 64 << 10 else {
      return tensor
    }
    return try Tensor(tensor.elementType, tensor.shape, buffer: Buffer.copying(tensor.bytes))
  }

  // MARK: Elements in the model

  private func stored(
    _ source: ONNXTensor, _ elementType: ElementType, _ shape: [Int], byteCount: Int
  ) throws(QMError) -> Tensor {
    guard let first = source.pieces.first else {
      guard byteCount == 0 else {
        throw .malformed("\(elementType)\(shape) has no elements in the file")
      }
      return try Tensor(zeros: elementType, shape)
    }
    guard source.pieces.allSatisfy({ $0.field == first.field }) else {
      throw .malformed("elements in two fields at once")
    }
    guard byteCount > 0 else { throw .malformed("found elements for the empty shape \(shape)") }
    if first.field == TensorElements.raw {
      guard first.range.count == byteCount else {
        throw .malformed(
          "\(elementType)\(shape) takes \(byteCount) bytes, found \(first.range.count)"
        )
        .within(.offset(first.range.lowerBound))
      }
      return try Tensor(elementType, shape, buffer: file, byteOffset: first.range.lowerBound)
    }
    guard first.field == elementType.typedField else {
      throw .malformed(
        "found \(elementType) elements in field \(first.field) of TensorProto, expected field \(elementType.typedField)"
      )
      .within(.offset(first.range.lowerBound))
    }
    return try typed(source.pieces, elementType, shape, byteCount: byteCount)
  }

  /// Elements of `float_data`, `int32_data`, ….
  private func typed(
    _ pieces: [WireScan.Piece], _ elementType: ElementType, _ shape: [Int], byteCount: Int
  ) throws(QMError) -> Tensor {
    let isFixed = elementType == .float32 || elementType == .float64
    if isFixed, pieces.count == 1, !pieces[0].isTagged, pieces[0].range.count == byteCount {
      return try Tensor(elementType, shape, buffer: file, byteOffset: pieces[0].range.lowerBound)
    }
    let count = byteCount / elementType.byteCount
    // Each element takes at least one byte of the file, which bounds the memory to allocate.
    let available = pieces.reduce(0) { $0 + $1.range.count }
    guard count <= available else {
      throw .malformed("\(elementType)\(shape) has \(count) elements, found at most \(available)")
        .within(.offset(pieces[0].range.lowerBound))
    }
    let buffer = try Buffer.allocate(byteCount: byteCount)
    var filled = 0
    for piece in pieces {
      var offset = piece.range.lowerBound
      while offset < piece.range.upperBound {
        let start = offset
        guard filled < count else {
          throw .malformed("\(elementType)\(shape) has \(count) elements, found more")
            .within(.offset(start))
        }
        if piece.isTagged {
          _ = try WireScan.varint(in: file.bytes, &offset, end: piece.range.upperBound)
        }
        let target = buffer.base + filled * elementType.byteCount
        if isFixed {
          guard elementType.byteCount <= piece.range.upperBound - offset else {
            throw .malformed("an element is cut off").within(.offset(start))
          }
          target.copyMemory(from: file.base + offset, byteCount: elementType.byteCount)
          offset += elementType.byteCount
        } else {
          let bits = try WireScan.varint(in: file.bytes, &offset, end: piece.range.upperBound)
          guard elementType.store(varint: bits, at: target) else {
            throw .malformed("\(Int64(bitPattern: bits)) is not a value of \(elementType)")
              .within(.offset(start))
          }
        }
        filled += 1
      }
    }
    guard filled == count else {
      throw .malformed("\(elementType)\(shape) has \(count) elements, found \(filled)")
        .within(.offset(pieces[0].range.lowerBound))
    }
    return try Tensor(elementType, shape, buffer: buffer)
  }

  // MARK: Elements in another file

  private func linked(
    _ entries: [(key: String, value: String)], _ elementType: ElementType, _ shape: [Int],
    byteCount: Int
  ) throws(QMError) -> Tensor {
    var values: [String: String] = [:]
    for entry in entries where values.updateValue(entry.value, forKey: entry.key) != nil {
      throw .malformed("external data give '\(entry.key.abbreviated)' twice")
    }
    guard let location = values["location"], !location.isEmpty else {
      throw .malformed("external data without a location")
    }
    let offset = try Self.number(values["offset"], "offset") ?? 0
    let length = try Self.number(values["length"], "length")
    guard length ?? byteCount == byteCount else {
      throw .malformed(
        "\(elementType)\(shape) takes \(byteCount) bytes, external data have \(length!)")
    }
    let buffer = try open(location)
    guard offset <= buffer.count, byteCount <= buffer.count - offset else {
      throw .malformed(
        "\(byteCount) bytes at offset \(offset) reach beyond the \(buffer.count) bytes of '\(location.abbreviated)'"
      )
    }
    return try Tensor(elementType, shape, buffer: buffer, byteOffset: offset)
  }

  /// Parses a count in decimal digits.
  private static func number(_ text: String?, _ key: String) throws(QMError) -> Int? {
    guard let text else { return nil }
    guard !text.isEmpty, text.utf8.allSatisfy({ (48...57).contains($0) }), let number = Int(text)
    else { throw .malformed("external data have \(key) '\(text.abbreviated)', expected a number") }
    return number
  }

  /// Maps the file at `location`, which must be in the model's folder after symbolic links are
  /// resolved.
  private func open(_ location: String) throws(QMError) -> Buffer {
    guard let folder else {
      throw .unsupported(
        "the elements are in another file, and the model has no folder to find it in")
    }
    guard !location.hasPrefix("/"), !location.utf8.contains(0) else {
      throw .malformed(
        "external data at '\(location.abbreviated)'; expected a path relative to the model's folder"
      )
    }
    let path = try within(.file(location.abbreviated)) { () throws(QMError) in
      try canonicalPath("\(folder)/\(location)")
    }
    guard path.hasPrefix(folder == "/" ? "/" : folder + "/") else {
      throw .malformed(
        "external data at '\(location.abbreviated)' lie outside the model's folder; move the file into it"
      )
    }
    if let buffer = mapped[path] { return buffer }
    let buffer = try Buffer.mapping(path: path)
    mapped[path] = buffer
    return buffer
  }
}

/// ONNX's integers of fewer than 8 bits.
struct PackedIntegers: Hashable {
  let bits: Int
  let isSigned: Bool
  fileprivate var perByte: Int { 8 / bits }

  /// The type that holds the integers in the graph.
  var stored: ElementType { isSigned ? .int8 : .uint8 }

  /// The least and the largest integer.
  var bounds: ClosedRange<Int32> {
    let half = Int32(1) << Int32(bits - 1)
    return isSigned ? -half...(half - 1) : 0...(2 * half - 1)
  }

  /// nil for types of 8 bits or more.
  init?(onnx dataType: Int32) {
    switch dataType {
    case 21: (bits, isSigned) = (4, false)
    case 22: (bits, isSigned) = (4, true)
    case 25: (bits, isSigned) = (2, false)
    case 26: (bits, isSigned) = (2, true)
    default: return nil
    }
  }
}

extension ElementType {
  /// Names of TensorProto.DataType, starting at 0.
  private static let onnxNames = [
    "UNDEFINED", "FLOAT", "UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64", "STRING", "BOOL",
    "FLOAT16", "DOUBLE", "UINT32", "UINT64", "COMPLEX64", "COMPLEX128", "BFLOAT16", "FLOAT8E4M3FN",
    "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "UINT4", "INT4", "FLOAT4E2M1", "FLOAT8E8M0",
    "UINT2", "INT2", "FLOAT6E2M3", "FLOAT6E3M2",
  ]

  /// The element type with this number in TensorProto.DataType.
  /// - Throws: `malformed` for a number that ONNX does not define and for UNDEFINED, `unsupported`
  ///   for any other type that ``ElementType`` does not have.
  init(onnx dataType: Int32) throws(QMError) {
    if let type = ElementType.allCases.first(where: { $0.onnxType == dataType }) {
      self = type
      return
    }
    guard dataType > 0, dataType < Self.onnxNames.count else {
      throw .malformed("element type \(dataType), which ONNX does not define")
    }
    throw .unsupported(
      "element type \(Self.onnxNames[Int(dataType)]); expected float, integer of 8 to 64 bits or bool"
    )
  }

  /// The type that holds elements of this TensorProto.DataType in the graph: that of
  /// ``init(onnx:)``, or 8 bits for integers of fewer.
  /// - Throws: as ``init(onnx:)``.
  static func stored(onnx dataType: Int32) throws(QMError) -> ElementType {
    if let packed = PackedIntegers(onnx: dataType) { return packed.stored }
    return try ElementType(onnx: dataType)
  }

  /// The type's number in TensorProto.DataType.
  var onnxType: Int32 {
    switch self {
    case .float32: 1
    case .uint8: 2
    case .int8: 3
    case .uint16: 4
    case .int16: 5
    case .int32: 6
    case .int64: 7
    case .bool: 9
    case .float16: 10
    case .float64: 11
    case .uint32: 12
    case .uint64: 13
    case .bfloat16: 16
    }
  }

  /// The field of TensorProto for elements of this type that are not in `raw_data`.
  fileprivate var typedField: Int {
    switch self {
    case .float32: TensorElements.float
    case .float64: TensorElements.double
    case .int64: TensorElements.int64
    case .uint32, .uint64: TensorElements.uint64
    case .int8, .uint8, .int16, .uint16, .int32, .bool, .float16, .bfloat16: TensorElements.int32
    }
  }

  /// Writes the element in a varint; float16 and bfloat16 are stored as their bits.
  /// - Returns: false if the type cannot hold the number.
  fileprivate func store(varint: UInt64, at target: UnsafeMutableRawPointer) -> Bool {
    let signed = Int64(bitPattern: varint)
    func store<Element: FixedWidthInteger>(_ element: Element?) -> Bool {
      guard let element else { return false }
      target.storeBytes(of: element, as: Element.self)
      return true
    }
    switch self {
    case .int8: return store(Int8(exactly: signed))
    case .uint8: return store(UInt8(exactly: signed))
    case .int16: return store(Int16(exactly: signed))
    case .uint16, .float16, .bfloat16: return store(UInt16(exactly: signed))
    case .int32: return store(Int32(exactly: signed))
    case .int64: return store(signed)
    case .uint32: return store(UInt32(exactly: varint))
    case .uint64: return store(varint)
    case .bool: return store(UInt8(exactly: signed))
    case .float32, .float64: return false
    }
  }
}
