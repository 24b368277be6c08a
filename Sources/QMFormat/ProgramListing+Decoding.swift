import QMOperations
import QMTensor

extension Container {
  /// The section of a kind of which there is at most one; nil if there is none.
  /// - Throws: `malformed` if there are several, or if it exceeds the limit.
  func only(_ kind: Kind, _ limits: DecodingLimits) throws(QMError) -> Section? {
    let sections = sections.filter { $0.kind == kind }
    guard sections.count <= 1 else {
      throw .malformed("\(sections.count) sections of kind \(kind.rawValue), expected 1")
    }
    if let section = sections.first, section.inflatedByteCount > limits.payloadByteCount {
      throw QMError(
        .malformed,
        "the section inflates to \(section.inflatedByteCount) bytes, the limit is "
          + "\(limits.payloadByteCount)", context: [.offset(section.offset)])
    }
    return sections.first
  }

  /// Inflates a section and reads all of it.
  /// - Parameter what: the content, for messages.
  func read<Content>(
    _ section: Section, _ what: String, _ limits: DecodingLimits,
    _ body: (inout ByteReader) throws(QMError) -> Content
  ) throws(QMError) -> Content {
    let inflated = try inflated(section)
    return try within(.entry("\(what) at byte \(section.offset)")) { () throws(QMError) in
      defer { withExtendedLifetime(inflated) {} }
      var reader = ByteReader(inflated.bytes, limits: limits)
      let content = try body(&reader)
      try reader.finish()
      return content
    }
  }
}

extension ProgramListing {
  /// Decodes the structure, names and metadata, and checks the sizes of the data sections.
  init(decoding container: Container, limits: DecodingLimits) throws(QMError) {
    guard let structure = try container.only(.program, limits) else {
      throw .malformed("the file has no section with the structure")
    }
    try container.read(structure, "structure", limits) { (reader) throws(QMError) in
      try decodeStructure(&reader, limits)
    }
    if let names = try container.only(.names, limits) {
      try container.read(names, "names", limits) { (reader) throws(QMError) in
        try decodeNames(&reader)
      }
    }
    if let section = try container.only(.metadata, limits) {
      metadata = try container.read(section, "metadata", limits) { (reader) throws(QMError) in
        try Program.Metadata(from: &reader, limits)
      }
    }
    try checkData(container, limits)
  }

  /// Checks number and sizes of the data sections against the constants, before anything is
  /// inflated.
  private func checkData(_ container: Container, _ limits: DecodingLimits) throws(QMError) {
    let sections = container.sections.filter { $0.kind == .data }
    guard sections.count == dataSections.count else {
      throw .malformed(
        "\(sections.count) data sections, expected \(dataSections.count) by the structure")
    }
    var byteCounts: [Int] = []
    for (index, type) in constants.enumerated() {
      byteCounts.append(
        try Tensor.byteCount(of: type.elementType, shape(ofConstant: index)))
    }
    try limits.check(tensorByteCount: byteCounts, fileByteCount: container.byteCount)
    for (section, data) in zip(sections, dataSections) {
      let elementType = constants[data.constants[0]].elementType
      let size = data.constants.reduce(0) { $0 + byteCounts[$1] }
      let expected = data.layout.byteCount(of: elementType, count: size / elementType.byteCount)
      guard section.inflatedByteCount == expected else {
        throw QMError(
          .malformed,
          "the data section inflates to \(section.inflatedByteCount) bytes, expected \(expected) "
            + "for its constants", context: [.offset(section.offset)])
      }
    }
  }

  /// Decodes the tensors of one data section; they share a buffer.
  func tensors(
    _ data: DataSection, _ section: Container.Section, _ container: Container,
    with scratch: Container.Scratch
  ) throws(QMError) -> [(constant: Int, tensor: Tensor)] {
    let elementType = constants[data.constants[0]].elementType
    let buffer: Buffer
    if data.layout == .plain {
      buffer = try container.inflated(section, with: scratch)
    } else {
      let size = data.constants.reduce(0) { $0 + byteCount(ofConstant: $1) }
      buffer = try Buffer.pages(byteCount: size)
      var decoder = DataDecoder(
        data.layout, elementType,
        into: UnsafeMutableRawBufferPointer(start: buffer.base, count: size))
      try container.inflate(section, into: scratch.window, with: scratch) {
        (bytes) throws(QMError) in try decoder.append(bytes)
      }
    }
    var result: [(Int, Tensor)] = []
    var offset = 0
    for constant in data.constants {
      let tensor = try Tensor(
        elementType, shape(ofConstant: constant), buffer: buffer, byteOffset: offset)
      result.append((constant, tensor))
      offset += byteCount(ofConstant: constant)
    }
    return result
  }

  /// Cannot overflow after ``checkData(_:_:)``.
  private func byteCount(ofConstant constant: Int) -> Int {
    shape(ofConstant: constant).reduce(constants[constant].elementType.byteCount, *)
  }

  // MARK: Structure

  private mutating func decodeStructure(_ reader: inout ByteReader, _ limits: DecodingLimits)
    throws(QMError)
  {
    var axisNames = [""]
    for _ in 0..<(try reader.count(of: "names of axes", limit: limits.valueCount)) {
      axisNames.append(try reader.string())
    }
    guard Set(axisNames).count == axisNames.count else {
      throw reader.malformed("a name of a dynamic axis is empty or occurs twice")
    }

    for index in 0..<(try reader.count(of: "inputs", limit: limits.operandCount)) {
      let name = try reader.string()
      values.append(Program.Value(try reader.type(axisNames, limits), name: name))
      inputs.append(index)
    }

    let constantCount = try reader.count(
      of: "constants", limit: limits.valueCount - values.count, byteCount: 3)
    for index in 0..<constantCount {
      let type = try reader.type(axisNames, limits)
      guard type.shape.extents != nil else {
        throw reader.malformed("constant \(index) has a dynamic axis")
      }
      constants.append(type)
      values.append(Program.Value(type, constant: index))
    }
    try decodeDataSections(&reader)
    try decodeNodes(&reader, axisNames, limits)

    for _ in 0..<(try reader.count(of: "outputs", limit: limits.operandCount, byteCount: 2)) {
      let name = try reader.string()
      let value = try reader.varint()
      guard values.indices.contains(value) else {
        throw reader.malformed("an output is value \(value) of \(values.count)")
      }
      outputs.append(Program.Output(name: name, value: value))
    }
  }

  private mutating func decodeDataSections(_ reader: inout ByteReader) throws(QMError) {
    var isPlaced = [Bool](repeating: false, count: constants.count)
    for _ in 0..<(try reader.count(of: "data sections", limit: constants.count, byteCount: 3)) {
      let layout = try reader.layout()
      let count = try reader.count(of: "constants", limit: constants.count)
      var members: [Int] = []
      var next = 0
      for _ in 0..<count {
        let gap = try reader.varint()
        guard gap < constants.count - next else {
          throw reader.malformed(
            "a data section names constant \(next) + \(gap) of \(constants.count)")
        }
        let constant = next + gap
        guard !isPlaced[constant] else {
          throw reader.malformed("constant \(constant) is in two data sections")
        }
        isPlaced[constant] = true
        members.append(constant)
        next = constant + 1
      }
      guard let first = members.first else {
        throw reader.malformed("a data section has no constants")
      }
      let elementType = constants[first].elementType
      guard layout.admits(elementType),
        members.allSatisfy({ constants[$0].elementType == elementType })
      else {
        throw reader.malformed(
          "the element types of a data section differ or do not fit its layout")
      }
      dataSections.append(DataSection(layout: layout, constants: members))
    }
    guard let missing = isPlaced.firstIndex(of: false) else { return }
    throw reader.malformed("constant \(missing) is in no data section")
  }

  private mutating func decodeNodes(
    _ reader: inout ByteReader, _ axisNames: [String], _ limits: DecodingLimits
  ) throws(QMError) {
    let nodeCount = try reader.count(of: "nodes", limit: limits.nodeCount, byteCount: 3)
    nodes.reserveCapacity(nodeCount)
    var nextConstant = inputs.count
    for index in 0..<nodeCount {
      let opcode = try reader.code("operation", as: Opcode.self)
      let operation = try within(.node(name: "", operation: "\(opcode)")) {
        () throws(QMError) in try Operation(opcode, visitedBy: &reader)
      }
      let nextValue = values.count
      var operands: [Int?] = []
      for _ in 0..<(try reader.count(of: "operands", limit: limits.operandCount)) {
        let reference = try reader.varint()
        switch reference {
        case 0: operands.append(nil)
        case 1:
          guard nextConstant < inputs.count + constants.count else {
            throw reader.malformed(
              "node \(index) reads the next constant after the last of \(constants.count)")
          }
          operands.append(nextConstant)
          nextConstant += 1
        default:
          let distance = reference - 1
          guard distance <= nextValue else {
            throw reader.malformed(
              "node \(index) reads the value \(distance) before its outputs, which begin at value "
                + "\(nextValue)")
          }
          operands.append(nextValue - distance)
        }
      }
      let outputCount = try reader.count(
        of: "outputs", limit: min(limits.operandCount, limits.valueCount - values.count),
        byteCount: 3)
      for _ in 0..<outputCount { values.append(Program.Value(try reader.type(axisNames, limits))) }
      nodes.append(
        Program.Node(
          operation, inputs: operands, outputs: Array(nextValue..<nextValue + outputCount)))
    }
  }

  private mutating func decodeNames(_ reader: inout ByteReader) throws(QMError) {
    for index in values.indices.dropFirst(inputs.count) {
      values[index].name = try reader.string()
    }
    for index in nodes.indices { nodes[index].name = try reader.string() }
  }
}
