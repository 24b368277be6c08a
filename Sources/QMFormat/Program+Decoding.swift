import QMOperations
import QMTensor

extension Program {
  /// Reads and validates a `.qm` file: every checksum, every section, every rule.
  /// - Throws: `malformed` with the place; `unsupported` for a later version of the format;
  ///   `outOfMemory`.
  public init(decoding bytes: Buffer, limits: DecodingLimits = .standard) throws(QMError) {
    try self.init(QMFile(bytes, limits: limits), limits: limits)
  }

  /// - Parameter threads: inflate the sections; the caller alone where nil.
  /// - Throws: also `cannotOpen`. The path is in the error's context.
  public init(
    contentsOf path: String, limits: DecodingLimits = .standard, threads: ThreadPool? = nil
  ) throws(QMError) {
    self = try within(.file(path)) { () throws(QMError) in
      let file = try QMFile(Container(OpenFile(path: path), limits: limits), limits: limits)
      let program = try Program(withoutValidating: file, threads: threads)
      try program.validate(limits: limits)
      return program
    }
  }

  /// The whole of a file that was opened for listing.
  public init(_ file: QMFile, limits: DecodingLimits = .standard) throws(QMError) {
    try self.init(withoutValidating: file)
    try validate(limits: limits)
  }

  package init(withoutValidating file: QMFile, threads: ThreadPool? = nil) throws(QMError) {
    let outline = file.outline
    var tensors = [Tensor?](repeating: nil, count: outline.constants.count)
    for section in file.container.sections where !section.kind.isKnown {
      try file.container.check(section)
    }
    typealias Part = [(constant: Int, tensor: Tensor)]
    let sections = file.data
    // The largest first, so that no thread is left alone with it.
    let order = sections.indices.sorted {
      (sections[$1].inflatedByteCount, $0) < (sections[$0].inflatedByteCount, $1)
    }
    let idle = Locked<[Container.Scratch]>([])
    let parts = try (threads ?? ThreadPool(threadCount: 1)).map(order.count) {
      (number) throws(QMError) -> Part in
      let index = order[number]
      let scratch =
        if let known = idle.withLock({ $0.popLast() }) { known } else { try Container.Scratch() }
      defer { idle.withLock { $0.append(scratch) } }
      return try outline.tensors(
        outline.dataSections[index], sections[index], file.container, with: scratch)
    }
    for part in parts {
      for (constant, tensor) in part { tensors[constant] = tensor }
    }
    self.init(
      values: outline.values,
      constants: zip(tensors, outline.constants).map { Constant($0!, $1.quantization) },
      nodes: outline.nodes, inputs: outline.inputs, outputs: outline.outputs,
      metadata: outline.metadata)
  }
}

extension Outline {
  init(decoding container: Container, limits: DecodingLimits) throws(QMError) {
    func only(_ kind: Container.Kind) throws(QMError) -> Container.Section? {
      let sections = container.sections.filter { $0.kind == kind }
      guard sections.count <= 1 else {
        throw .malformed("\(sections.count) sections of kind \(kind.rawValue), 1 expected")
      }
      if let section = sections.first, section.inflatedByteCount > limits.payloadByteCount {
        throw QMError(
          .malformed,
          "a section of \(section.inflatedByteCount) bytes, at most \(limits.payloadByteCount) "
            + "are accepted", context: [.offset(section.offset)])
      }
      return sections.first
    }
    func read(
      _ section: Container.Section, _ what: String,
      _ body: (inout ByteReader) throws(QMError) -> Void
    ) throws(QMError) {
      let inflated = try container.inflated(section)
      try within(.entry("\(what) at byte \(section.offset)")) { () throws(QMError) in
        defer { withExtendedLifetime(inflated) {} }
        var reader = ByteReader(inflated.bytes, limits: limits)
        try body(&reader)
        try reader.finish()
      }
    }
    guard let structure = try only(.program) else {
      throw .malformed("the section with the structure is missing")
    }
    try read(structure, "structure") { (reader) throws(QMError) in
      try decodeStructure(&reader, limits)
    }
    if let names = try only(.names) {
      try read(names, "names") { (reader) throws(QMError) in try decodeNames(&reader) }
    }
    if let section = try only(.metadata) {
      try read(section, "metadata") { (reader) throws(QMError) in
        metadata = try Program.Metadata(from: &reader, limits)
      }
    }
    try checkData(container, limits)
  }

  /// The constants that a data section holds, before anything of it is inflated.
  private func checkData(_ container: Container, _ limits: DecodingLimits) throws(QMError) {
    let sections = container.sections.filter { $0.kind == .data }
    guard sections.count == dataSections.count else {
      throw .malformed(
        "\(sections.count) sections of data, the structure says \(dataSections.count)")
    }
    var byteCounts: [Int] = []
    for type in constants {
      byteCounts.append(try Tensor.byteCount(of: type.elementType, type.shape.extents!))
    }
    try limits.check(tensorByteCount: byteCounts, fileByteCount: container.byteCount)
    for (section, data) in zip(sections, dataSections) {
      let elementType = constants[data.constants[0]].elementType
      let size = data.constants.reduce(0) { $0 + byteCounts[$1] }
      let expected = data.layout.byteCount(of: elementType, count: size / elementType.byteCount)
      guard section.inflatedByteCount == expected else {
        throw QMError(
          .malformed,
          "a section of data inflates to \(section.inflatedByteCount) bytes, its constants need "
            + "\(expected)", context: [.offset(section.offset)])
      }
    }
  }

  /// The tensors of one data section, which share memory.
  fileprivate func tensors(
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
      let extents = constants[constant].shape.extents!
      result.append(
        (constant, try Tensor(elementType, extents, buffer: buffer, byteOffset: offset)))
      offset += byteCount(ofConstant: constant)
    }
    return result
  }

  /// Does not overflow once ``checkData(_:_:)`` has passed.
  private func byteCount(ofConstant constant: Int) -> Int {
    constants[constant].shape.extents!.reduce(constants[constant].elementType.byteCount, *)
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
      throw reader.malformed("two free axes have one name, or one has none")
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
        throw reader.malformed("constant \(index) has a free axis")
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
        throw reader.malformed("output is value \(value), there are \(values.count)")
      }
      outputs.append(Program.Output(name: name, value: value))
    }
  }

  private mutating func decodeDataSections(_ reader: inout ByteReader) throws(QMError) {
    var isPlaced = [Bool](repeating: false, count: constants.count)
    for _ in 0..<(try reader.count(of: "sections of data", limit: constants.count, byteCount: 3)) {
      let layout = try reader.layout()
      let count = try reader.count(of: "constants", limit: constants.count)
      var members: [Int] = []
      var next = 0
      for _ in 0..<count {
        let gap = try reader.varint()
        guard gap < constants.count - next else {
          throw reader.malformed("constant \(next) + \(gap), there are \(constants.count)")
        }
        let constant = next + gap
        guard !isPlaced[constant] else {
          throw reader.malformed("constant \(constant) lies in two sections")
        }
        isPlaced[constant] = true
        members.append(constant)
        next = constant + 1
      }
      guard let first = members.first else { throw reader.malformed("a section of no constants") }
      let elementType = constants[first].elementType
      guard layout.admits(elementType),
        members.allSatisfy({ constants[$0].elementType == elementType })
      else {
        throw reader.malformed("the element types of a section differ, or do not fit its layout")
      }
      dataSections.append(DataSection(layout: layout, constants: members))
    }
    guard let missing = isPlaced.firstIndex(of: false) else { return }
    throw reader.malformed("constant \(missing) lies in no section")
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
            throw reader.malformed("node \(index) reads one constant more than there are")
          }
          operands.append(nextConstant)
          nextConstant += 1
        default:
          let distance = reference - 1
          guard distance <= nextValue else {
            throw reader.malformed("node \(index) reads \(distance) values back of \(nextValue)")
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

extension Program.Metadata {
  fileprivate init(from reader: inout ByteReader, _ limits: DecodingLimits) throws(QMError) {
    self.init()
    producer = try reader.string()
    sourceName = try reader.string()
    sourceDigest = Array(try reader.take(reader.count(of: "bytes of a digest", limit: 32)))
    recipe = try reader.entries(limits)
    for _ in 0..<(try reader.count(of: "measurements", limit: limits.valueCount, byteCount: 7)) {
      measurements.append(
        Measurement(
          output: try reader.varint(), try reader.code("measure", as: Measure.self),
          try reader.float(), sampleCount: try reader.varint()))
    }
    for _ in 0..<(try reader.count(of: "keys", limit: limits.operandCount)) {
      inputKeys.append(try reader.string())
    }
    for _ in 0..<(try reader.count(of: "keys", limit: limits.operandCount)) {
      outputKeys.append(try reader.string())
    }
    for _ in 0..<(try reader.count(of: "notes", limit: limits.nodeCount, byteCount: 2)) {
      notes.append(Note(try reader.code("way", as: Way.self), reason: try reader.string()))
    }
    entries = try reader.entries(limits)
  }
}

extension DecodingLimits {
  /// - Throws: `malformed` if tensors of these sizes are more than a file of the size may hold.
  func check(tensorByteCount: [Int], fileByteCount: Int) throws(QMError) {
    let byFile = fileByteCount.multipliedReportingOverflow(by: expansion)
    let allowed = min(
      self.tensorByteCount, byFile.overflow ? .max : max(byFile.partialValue, expansionAllowance))
    var total = 0
    for byteCount in tensorByteCount {
      guard byteCount <= allowed - total else {
        throw .malformed(
          "the tensors of a file of \(fileByteCount) bytes take more than \(allowed) bytes; set "
            + "higher limits if the file is to be trusted")
      }
      total += byteCount
    }
  }
}

extension ByteReader {
  fileprivate mutating func entries(_ limits: DecodingLimits) throws(QMError)
    -> [Program.Metadata.Entry]
  {
    var entries: [Program.Metadata.Entry] = []
    for _ in 0..<(try count(of: "entries", limit: limits.valueCount, byteCount: 2)) {
      entries.append(Program.Metadata.Entry(try string(), try string()))
    }
    return entries
  }

  fileprivate mutating func type(_ axisNames: [String], _ limits: DecodingLimits) throws(QMError)
    -> ValueType
  {
    let elementType = try code("element type", as: ElementType.self)
    let quantization = try quantization()
    var axes: [Shape.Axis] = []
    for _ in 0..<(try count(of: "axes", limit: limits.rank)) {
      let number = try varint()
      if number & 1 == 0 {
        axes.append(.fixed(number >> 1))
      } else {
        guard number >> 1 < axisNames.count else {
          throw malformed("the name of a free axis is number \(number >> 1), too many")
        }
        axes.append(.free(axisNames[number >> 1]))
      }
    }
    return ValueType(elementType, Shape(axes), quantization)
  }

  private mutating func quantization() throws(QMError) -> Quantization {
    switch try byte() {
    case 0: return .none
    case 1: return .fixed(scale: try float(), zeroPoint: try zeroPoint())
    case 2: return .dynamic(axes: try varint())
    case 3: return .weights(bits: try width(), granularity: try granularity())
    case let kind: throw malformed("quantization \(kind) is unknown")
    }
  }

  private mutating func width() throws(QMError) -> BitWidth {
    let bits = try byte()
    guard let width = BitWidth(Int(bits)) else {
      throw malformed("codes have 2 to 8 bits, found \(bits)")
    }
    return width
  }

  private mutating func granularity() throws(QMError) -> Granularity {
    switch try byte() {
    case 0: return .perTensor
    case 1: return .perChannel(axis: try varint())
    case 2: return .perGroup(axis: try varint(), size: try varint())
    case let kind: throw malformed("granularity \(kind) is unknown")
    }
  }

  fileprivate mutating func layout() throws(QMError) -> DataLayout {
    switch try byte() {
    case 0: return .plain
    case 1: return .bits(try width())
    case 2:
      let radix = Int(try byte())
      let minimum = try signed()
      guard DataLayout.radixes.contains(radix), minimum >= -128, minimum + radix - 1 <= 127 else {
        throw malformed("digits of radix \(radix) from \(minimum) on are no int8 codes")
      }
      return .digits(radix: radix, minimum: minimum)
    case 3: return .planes
    case 4: return .planeDifferences
    case let number: throw malformed("layout \(number) is unknown")
    }
  }
}
