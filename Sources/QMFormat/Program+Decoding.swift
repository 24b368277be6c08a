import QMOperations
import QMTensor

extension Program {
  /// Decodes a `.qm` file that is in memory, and checks every checksum and every rule of the
  /// format.
  /// - Parameter threads: inflate the sections in parallel; with nil, the calling thread does.
  /// - Throws: `malformed` with the location as context; `unsupported` for a later version of the
  ///   format; `outOfMemory`.
  public init(
    decoding bytes: Buffer, limits: DecodingLimits = .standard, threads: ThreadPool? = nil
  ) throws(QMError) {
    try self.init(QMFile(bytes, limits: limits), limits: limits, threads: threads)
  }

  /// Reads and validates a `.qm` file.
  /// - Parameter threads: inflate the sections in parallel; with nil, the calling thread does.
  /// - Throws: as ``init(decoding:limits:)``; `cannotOpen`; with the path as context.
  public init(
    contentsOf path: String, limits: DecodingLimits = .standard, threads: ThreadPool? = nil
  ) throws(QMError) {
    self = try within(.file(path)) { () throws(QMError) in
      try Program(QMFile(reading: path, limits: limits), limits: limits, threads: threads)
    }
  }

  /// Decodes and validates the whole of a file that was opened for listing.
  /// - Throws: as ``init(decoding:limits:)``.
  public init(
    _ file: QMFile, limits: DecodingLimits = .standard, threads: ThreadPool? = nil
  ) throws(QMError) {
    try self.init(withoutValidating: file, threads: threads)
    try validate(limits: limits)
  }

  /// Decodes the constants of a file. The caller must ``validate(limits:)`` the program.
  package init(withoutValidating file: QMFile, threads: ThreadPool? = nil) throws(QMError) {
    let listing = file.listing
    var tensors = [Tensor?](repeating: nil, count: listing.constants.count)
    // What running does not need is not decoded, but damage is found.
    for section in file.container.sections where !section.kind.isKnown || section.kind == .probes {
      try file.container.check(section)
    }
    typealias Part = [(constant: Int, tensor: Tensor)]
    let sections = file.data
    // The largest first, so that it does not run alone at the end.
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
      return try listing.tensors(
        listing.dataSections[index], sections[index], file.container, with: scratch)
    }
    for part in parts {
      for (constant, tensor) in part { tensors[constant] = tensor }
    }
    var constants: [Constant] = []
    for (tensor, type) in zip(tensors, listing.constants) {
      guard let tensor else { throw .malformed("constant \(constants.count) has no data") }
      constants.append(Constant(tensor, type.quantization))
    }
    self.init(
      values: listing.values, constants: constants,
      nodes: listing.nodes, inputs: listing.inputs, outputs: listing.outputs,
      metadata: listing.metadata)
  }
}

extension DecodingLimits {
  /// Checks the total memory of the constants against the limits for a file of this size.
  /// - Throws: `malformed` if the constants take too much.
  func check(tensorByteCount: [Int], fileByteCount: Int) throws(QMError) {
    let byFile = fileByteCount.multipliedReportingOverflow(by: expansion)
    let allowed = min(
      self.tensorByteCount, byFile.overflow ? .max : max(byFile.partialValue, expansionAllowance))
    var total = 0
    for byteCount in tensorByteCount {
      guard byteCount <= allowed - total else {
        throw .malformed(
          "the constants take more than \(allowed) bytes, the limit for a file of "
            + "\(fileByteCount) bytes; raise the limits if you trust the file")
      }
      total += byteCount
    }
  }
}
