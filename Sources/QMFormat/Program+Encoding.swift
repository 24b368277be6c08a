import QMOperations
import QMTensor

extension Program {
  /// The bytes of a `.qm` file. Equal programs give the same content digest on every machine, and
  /// the same bytes with the same version of zlib.
  /// - Parameters:
  ///   - probes: of this program; nil for a file without.
  ///   - threads: compress the sections in parallel; their number does not affect the bytes.
  /// - Throws: as ``validate(limits:)``; `invalidInput` if the probes are of another program;
  ///   `unsupported` if a reader with the standard limits would refuse the file for its size;
  ///   `outOfMemory`.
  public func encoded(
    probes: Probes? = nil, threads: ThreadPool = ThreadPool(threadCount: 1)
  ) throws(QMError) -> [UInt8] {
    try validate()
    try probes?.check(
      inputs: inputs.map { values[$0].type }, outputs: outputs.map { values[$0.value].type })
    return try encodedWithoutValidation(probes: probes, threads: threads)
  }

  /// As ``encoded(probes:threads:)``, without validation: tests write malformed files with it.
  /// - Precondition: the values are numbered as ``Program`` states.
  package func encodedWithoutValidation(
    probes: Probes? = nil, threads: ThreadPool = ThreadPool(threadCount: 1)
  ) throws(QMError) -> [UInt8] {
    let groups = try DataGroup.all(constants, threads: threads)
    let dataSections = groups.map {
      ProgramListing.DataSection(layout: $0.encoded.layout, constants: $0.constants)
    }
    var ancillary: [(kind: Container.Kind, bytes: [UInt8])] = []
    if let names = encodedNames() { ancillary.append((.names, names)) }
    if metadata != Metadata() { ancillary.append((.metadata, metadata.encoded())) }
    if let probes { ancillary.append((.probes, probes.encoded())) }
    let payload = [(.program, try encodedStructure(dataSections))] + ancillary
    let limits = DecodingLimits.standard
    for (_, bytes) in payload where bytes.count > limits.payloadByteCount {
      throw .unsupported(
        "the structure, names, metadata or probes take \(bytes.count) bytes, the limit for each is "
          + "\(limits.payloadByteCount)")
    }
    var boundaries: [Int: [Int]] = [:]
    for (index, group) in groups.enumerated() {
      boundaries[payload.count + index] = group.encoded.boundaries
    }
    let file = try Container.file(
      of: payload + groups.map { (.data, $0.encoded.bytes) }, boundaries: boundaries,
      threads: threads)
    do {
      try limits.check(
        tensorByteCount: constants.map(\.tensor.byteCount), fileByteCount: file.count)
    } catch {
      throw .unsupported(error.message)
    }
    return file
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
