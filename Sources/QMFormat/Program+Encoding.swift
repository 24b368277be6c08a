import QMOperations
import QMTensor

extension Program {
  /// The bytes of a `.qm` file. Equal programs give the same content digest on every machine, and
  /// the same bytes with the same version of zlib.
  /// - Parameter threads: compress the sections in parallel; their number does not affect the
  ///   bytes.
  /// - Throws: as ``validate(limits:)``; `unsupported` if a reader with the standard limits would
  ///   refuse the file for its size; `outOfMemory`.
  public func encoded(
    threads: ThreadPool = ThreadPool(threadCount: 1)
  ) throws(QMError) -> [UInt8] {
    try validate()
    return try encodedWithoutValidation(threads: threads)
  }

  /// As ``encoded(threads:)``, without validation: tests write malformed files with it.
  /// - Precondition: the values are numbered as ``Program`` states.
  package func encodedWithoutValidation(
    threads: ThreadPool = ThreadPool(threadCount: 1)
  ) throws(QMError) -> [UInt8] {
    var sections: [(kind: Container.Kind, bytes: [UInt8])] = []
    let groups = dataGroups()
    var dataSections: [ProgramListing.DataSection] = []
    let layouts = try threads.map(groups.count) { (index) in
      let first = constants[groups[index][0]]
      var elements: [UInt8] = []
      for constant in groups[index] {
        elements.append(contentsOf: constants[constant].tensor.bytes)
      }
      return DataLayout.best(
        for: elements, first.tensor.elementType, width: first.quantization.width)
    }
    for (group, best) in zip(groups, layouts) {
      dataSections.append(ProgramListing.DataSection(layout: best.layout, constants: group))
      sections.append((.data, best.bytes))
    }
    var ancillary: [(kind: Container.Kind, bytes: [UInt8])] = []
    if let names = encodedNames() { ancillary.append((.names, names)) }
    if metadata != Metadata() { ancillary.append((.metadata, metadata.encoded())) }
    let payload = [(.program, try encodedStructure(dataSections))] + ancillary
    let limits = DecodingLimits.standard
    for (_, bytes) in payload where bytes.count > limits.payloadByteCount {
      throw .unsupported(
        "the structure, names or metadata take \(bytes.count) bytes, the limit for each is "
          + "\(limits.payloadByteCount)")
    }
    let file = try Container.file(of: payload + sections, threads: threads)
    do {
      try limits.check(
        tensorByteCount: constants.map(\.tensor.byteCount), fileByteCount: file.count)
    } catch {
      throw .unsupported(error.message)
    }
    return file
  }

  /// Constants of at most this many elements share sections: a table row and a Huffman code for
  /// each would cost more than they save.
  private static let smallElementCount = 1024
  /// Maximum number of elements of a shared section, so that a reader of one small constant need
  /// not inflate many others.
  private static let sharedElementCount = 1 << 16

  /// The constants of each data section; sections are in the order of their first constants.
  private func dataGroups() -> [[Int]] {
    /// Small constants share a section if these are equal.
    struct SharingKey: Hashable {
      let elementType: ElementType
      let width: BitWidth?
    }
    var groups: [[Int]] = []
    var shared: [SharingKey: (group: Int, elementCount: Int)] = [:]
    for (index, constant) in constants.enumerated() {
      let key = SharingKey(
        elementType: constant.tensor.elementType, width: constant.quantization.width)
      let count = constant.tensor.elementCount
      guard count <= Program.smallElementCount else {
        groups.append([index])
        continue
      }
      if let open = shared[key], open.elementCount + count <= Program.sharedElementCount {
        groups[open.group].append(index)
        shared[key]?.elementCount += count
      } else {
        shared[key] = (groups.count, count)
        groups.append([index])
      }
    }
    return groups
  }

  private func encodedStructure(_ dataSections: [ProgramListing.DataSection]) throws(QMError)
    -> [UInt8]
  {
    var writer = ByteWriter()
    let axisNames = dynamicAxisNames()
    let axisNumbers = Dictionary(uniqueKeysWithValues: zip(axisNames, 1...))
    writer.varint(axisNames.count)
    for name in axisNames { writer.string(name) }

    writer.varint(inputs.count)
    for input in inputs {
      writer.string(values[input].name)
      writer.type(values[input].type, axisNumbers)
    }

    writer.varint(constants.count)
    for constant in constants { writer.type(constant.type, axisNumbers) }
    writer.varint(dataSections.count)
    for section in dataSections {
      writer.layout(section.layout)
      writer.varint(section.constants.count)
      var next = 0
      for constant in section.constants {
        writer.varint(constant - next)
        next = constant + 1
      }
    }

    writer.varint(nodes.count)
    var nextConstant = inputs.count
    var nextValue = inputs.count + constants.count
    for node in nodes {
      writer.code(node.operation.opcode)
      var attributes = node.operation.body
      try attributes.visitAttributes(&writer)
      writer.varint(node.inputs.count)
      for input in node.inputs {
        guard let input else {
          writer.varint(0)
          continue
        }
        if input == nextConstant, nextConstant < inputs.count + constants.count {
          writer.varint(1)
          nextConstant += 1
        } else {
          writer.varint(nextValue - input + 1)
        }
      }
      writer.varint(node.outputs.count)
      for output in node.outputs { writer.type(values[output].type, axisNumbers) }
      nextValue += node.outputs.count
    }

    writer.varint(outputs.count)
    for output in outputs {
      writer.string(output.name)
      writer.varint(output.value)
    }
    return writer.bytes
  }

  /// The names of all dynamic axes without duplicates, in the order in which they first occur.
  private func dynamicAxisNames() -> [String] {
    var names: [String] = []
    var known: Set<String> = [""]
    for value in values {
      for case .free(let name) in value.type.shape.axes where known.insert(name).inserted {
        names.append(name)
      }
    }
    return names
  }

  /// The content of the section of names; nil if nothing has a name.
  private func encodedNames() -> [UInt8]? {
    let names = values.dropFirst(inputs.count).map(\.name) + nodes.map(\.name)
    guard names.contains(where: { !$0.isEmpty }) else { return nil }
    var writer = ByteWriter()
    for name in names { writer.string(name) }
    return writer.bytes
  }
}

extension Quantization {
  /// The width of weight codes; nil for other quantizations.
  var width: BitWidth? {
    if case .weights(let bits, _) = self { bits } else { nil }
  }
}
