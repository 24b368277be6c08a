import CQM
import QMFormat
import QMOperations
import QMRuntime
import QMTensor

/// What a `qm_model` stands for.
final class ModelHandle: @unchecked Sendable {
  static let all = Handles<ModelHandle>("model", first: 1)

  let model: Model
  let inputs: [qm_port]
  let outputs: [qm_port]
  let metadata: [(key: String, keyText: UnsafePointer<CChar>, value: UnsafePointer<CChar>)]
  private let storage = CStorage()

  init(_ model: Model) {
    self.model = model
    let storage = storage
    inputs = model.inputs.map { qm_port($0, storage) }
    outputs = model.outputs.map { qm_port($0, storage) }
    metadata = model.signature.entries.map { entry in
      (entry.key, storage.text(entry.key), storage.text(entry.value))
    }
  }
}

extension qm_port {
  fileprivate init(_ port: Model.Port, _ storage: CStorage) {
    let axes = port.type.shape.axes
    self.init()
    struct_size = MemoryLayout<qm_port>.size
    name = storage.text(port.name)
    element_type = Int32(port.type.elementType.rawValue)
    rank = Int32(axes.count)
    shape = storage.array(axes.map { Int64($0.extent ?? -1) })
    axis_names = storage.array(
      axes.map { axis in
        if case .free(let name) = axis { storage.text(name) } else { storage.text("") }
      } as [UnsafePointer<CChar>?])
    if case .fixed(let scale, let zeroPoint) = port.type.quantization {
      (self.scale, zero_point) = (scale, zeroPoint)
    }
  }
}

extension Model.Signature {
  /// The metadata as keys and texts; see `qm_model_metadata` in qm.h.
  fileprivate var entries: [Program.Metadata.Entry] {
    var entries: [Program.Metadata.Entry] = []
    func add(_ key: String, _ value: String) {
      if !value.isEmpty { entries.append(Program.Metadata.Entry(key, value)) }
    }
    add("producer", metadata.producer)
    add("source", metadata.sourceName)
    add(
      "source.sha256",
      metadata.sourceDigest.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined())
    for option in metadata.recipe { add("recipe.\(option.key)", option.value) }
    for measured in metadata.measurements
    where measured.measure == .signalToNoise && measured.part == nil {
      add("sqnr.\(outputs[measured.output].name)", "\(measured.value)")
    }
    return entries + metadata.entries
  }
}

/// The options of C in the runtime's words.
/// - Throws: `usage` if a number or a name has no meaning.
func modelOptions(_ pointer: UnsafePointer<qm_options>?) throws(QMError) -> Model.Options {
  guard let pointer else { return Model.Options() }
  let given = try structure(pointer, standard: qm_options())
  guard given.threads >= 0 else { throw .usage("options.threads is \(given.threads)") }
  var options = Model.Options(threadCount: max(1, Int(given.threads)))
  switch given.memory {
  case Int32(QM_MEMORY_STANDARD.rawValue): options.memory = .standard
  case Int32(QM_MEMORY_COMPACT.rawValue): options.memory = .compact
  default: throw .usage("options.memory is \(given.memory), which is no qm_memory")
  }
  if let name = given.kernels {
    guard let kernels = KernelSet(rawValue: String(cString: name)),
      KernelSet.available.contains(kernels)
    else {
      throw .usage(
        "options.kernels is '\(String(cString: name).abbreviated)', this machine has "
          + kernelSetNames)
    }
    options.kernels = kernels
  }
  if given.run_byte_limit > 0 {
    options.runByteLimit = Int(clamping: given.run_byte_limit)
  }
  return options
}

private let kernelSetNames = KernelSet.available.map(\.rawValue).joined(separator: " ")
private let kernelSetText = StaticText(kernelSetNames)
private let versionText = StaticText(packageVersion)

@c @implementation
public func qm_version() -> UnsafePointer<CChar>! { versionText.pointer }

@c @implementation
public func qm_kernel_sets() -> UnsafePointer<CChar>! { kernelSetText.pointer }

@c @implementation
public func qm_element_size(_ element_type: Int32) -> Int {
  UInt8(exactly: element_type).flatMap(ElementType.init(rawValue:))?.byteCount ?? 0
}

@c @implementation
public func qm_model_open(
  _ path: UnsafePointer<CChar>!, _ options: UnsafePointer<qm_options>!,
  _ model: UnsafeMutablePointer<OpaquePointer?>!
) -> qm_status {
  status { () throws(QMError) in
    try open(model) { () throws(QMError) in
      try Model(
        contentsOf: String(cString: required(path, "path")), options: modelOptions(options))
    }
  }
}

@c @implementation
public func qm_model_open_bytes(
  _ bytes: UnsafeRawPointer!, _ byte_count: Int, _ options: UnsafePointer<qm_options>!,
  _ model: UnsafeMutablePointer<OpaquePointer?>!
) -> qm_status {
  status { () throws(QMError) in
    try open(model) { () throws(QMError) in
      try Model(bytes: given(bytes, byte_count), options: modelOptions(options))
    }
  }
}

private func open(
  _ handle: UnsafeMutablePointer<OpaquePointer?>?, _ body: () throws(QMError) -> Model
) throws(QMError) {
  let handle = try required(handle, "model")
  handle.pointee = nil
  handle.pointee = ModelHandle.all.add(ModelHandle(try body()))
}

/// The bytes of a file that is in memory.
private func given(
  _ bytes: UnsafeRawPointer?, _ byteCount: Int
) throws(QMError) -> UnsafeRawBufferPointer {
  guard byteCount >= 0 else { throw .usage("byte_count exceeds the address space") }
  return UnsafeRawBufferPointer(start: try required(bytes, "bytes"), count: byteCount)
}

@c @implementation
public func qm_model_close(_ model: OpaquePointer!) { ModelHandle.all.remove(model) }

@c @implementation
public func qm_memory_needed(
  _ path: UnsafePointer<CChar>!, _ options: UnsafePointer<qm_options>!,
  _ byte_count: UnsafeMutablePointer<UInt64>!
) -> qm_status {
  status { () throws(QMError) in
    try required(byte_count, "byte_count").pointee = UInt64(
      Model.memoryNeeded(
        contentsOf: String(cString: required(path, "path")), options: modelOptions(options)))
  }
}

@c @implementation
public func qm_memory_needed_bytes(
  _ bytes: UnsafeRawPointer!, _ byte_count: Int, _ options: UnsafePointer<qm_options>!,
  _ needed: UnsafeMutablePointer<UInt64>!
) -> qm_status {
  status { () throws(QMError) in
    try required(needed, "needed").pointee = UInt64(
      Model.memoryNeeded(bytes: given(bytes, byte_count), options: modelOptions(options)))
  }
}

@c @implementation
public func qm_model_weight_bytes(
  _ model: OpaquePointer!, _ byte_count: UnsafeMutablePointer<UInt64>!
) -> qm_status {
  status { () throws(QMError) in
    try required(byte_count, "byte_count").pointee = UInt64(
      ModelHandle.all.object(model).model.weightByteCount)
  }
}

@c @implementation
public func qm_model_input_count(_ model: OpaquePointer!) -> Int {
  value(0) { () throws(QMError) in try ModelHandle.all.object(model).inputs.count }
}

@c @implementation
public func qm_model_output_count(_ model: OpaquePointer!) -> Int {
  value(0) { () throws(QMError) in try ModelHandle.all.object(model).outputs.count }
}

@c @implementation
public func qm_model_input(
  _ model: OpaquePointer!, _ index: Int, _ port: UnsafeMutablePointer<qm_port>!
) -> qm_status {
  status { () throws(QMError) in
    let inputs = try ModelHandle.all.object(model).inputs
    try store(at(index, in: inputs, "input"), to: required(port, "port"))
  }
}

@c @implementation
public func qm_model_output(
  _ model: OpaquePointer!, _ index: Int, _ port: UnsafeMutablePointer<qm_port>!
) -> qm_status {
  status { () throws(QMError) in
    let outputs = try ModelHandle.all.object(model).outputs
    try store(at(index, in: outputs, "output"), to: required(port, "port"))
  }
}

/// - Throws: `usage` if the index is out of range.
func at<Element>(
  _ index: Int, in elements: [Element], _ what: String
) throws(QMError) -> Element {
  guard elements.indices.contains(index) else {
    throw .usage("there is no \(what) \(index) of \(elements.count)")
  }
  return elements[index]
}

@c @implementation
public func qm_model_metadata(
  _ model: OpaquePointer!, _ key: UnsafePointer<CChar>!
) -> UnsafePointer<CChar>! {
  value(nil) { () throws(QMError) in
    let key = String(cString: try required(key, "key"))
    return try ModelHandle.all.object(model).metadata.first { $0.key == key }?.value
  }
}

@c @implementation
public func qm_model_metadata_count(_ model: OpaquePointer!) -> Int {
  value(0) { () throws(QMError) in try ModelHandle.all.object(model).metadata.count }
}

@c @implementation
public func qm_model_metadata_key(_ model: OpaquePointer!, _ index: Int) -> UnsafePointer<CChar>! {
  value(nil) { () throws(QMError) in
    try at(index, in: ModelHandle.all.object(model).metadata, "entry").keyText
  }
}

@c @implementation
public func qm_model_self_test(
  _ model: OpaquePointer!, _ result: UnsafeMutablePointer<qm_self_test>!
) -> qm_status {
  status { () throws(QMError) in
    try store(
      qm_self_test(ModelHandle.all.object(model).model.selfTest()), to: required(result, "result"))
  }
}

@c @implementation
public func qm_model_self_test_bytes(
  _ model: OpaquePointer!, _ bytes: UnsafeRawPointer!, _ byte_count: Int,
  _ result: UnsafeMutablePointer<qm_self_test>!
) -> qm_status {
  status { () throws(QMError) in
    let model = try ModelHandle.all.object(model).model
    try store(
      qm_self_test(model.selfTest(bytes: given(bytes, byte_count))), to: required(result, "result"))
  }
}

extension qm_self_test {
  fileprivate init(_ test: Model.SelfTest) {
    self.init()
    struct_size = MemoryLayout<qm_self_test>.size
    probe_count = test.probeCount
    agreeing_count = test.agreements.count(where: \.self)
    median_sqnr = test.medianSignalToNoise
    worst_sqnr = test.worstSignalToNoise
    made_inputs = test.areInputsMade ? 1 : 0
  }
}
