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
    var constants: [Constant] = []
    for (tensor, type) in zip(tensors, outline.constants) {
      guard let tensor else { throw .malformed("constant \(constants.count) has no data") }
      constants.append(Constant(tensor, type.quantization))
    }
    self.init(
      values: outline.values, constants: constants,
      nodes: outline.nodes, inputs: outline.inputs, outputs: outline.outputs,
      metadata: outline.metadata)
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
