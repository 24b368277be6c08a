import COnnxProto
import CProtobufC
import QMTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

// Only this file and ONNXModel+Packing.swift use protobuf-c's structs.

/// Memory that protobuf-c may still allocate. Freed memory is not added again: a message is
/// unpacked once and freed at the end.
private struct AllocationBudget {
  var bytesLeft: Int
  var isExceeded = false
}

/// Unpacks `skeleton` within the budget of `limits`, passes the message to `body`, and frees it.
private func withUnpacked<Proto, R>(
  _ skeleton: [UInt8], limits: ONNXLimits,
  unpack: (UnsafeMutablePointer<ProtobufCAllocator>, Int, UnsafePointer<UInt8>?)
    -> UnsafeMutablePointer<Proto>?,
  free release: (UnsafeMutablePointer<Proto>, UnsafeMutablePointer<ProtobufCAllocator>) -> Void,
  _ body: (Proto) throws(QMError) -> R
) throws(QMError) -> R {
  let budget = UnsafeMutablePointer<AllocationBudget>.allocate(capacity: 1)
  budget.initialize(to: AllocationBudget(bytesLeft: limits.messageBytes))
  defer { budget.deallocate() }
  var allocator = ProtobufCAllocator(
    alloc: { state, size in
      let budget = state!.assumingMemoryBound(to: AllocationBudget.self)
      guard size <= budget.pointee.bytesLeft, let memory = malloc(size) else {
        budget.pointee.isExceeded = true
        return nil
      }
      budget.pointee.bytesLeft -= size
      return memory
    },
    free: { _, memory in free(memory) },
    allocator_data: UnsafeMutableRawPointer(budget))
  let message = skeleton.withUnsafeBufferPointer { bytes in
    unpack(&allocator, bytes.count, bytes.baseAddress)
  }
  guard let message else {
    if budget.pointee.isExceeded {
      throw .unsupported(
        "nodes and attributes need more memory than the limit of \(limits.messageBytes) bytes")
    }
    throw .malformed("protobuf cannot read the message; not an ONNX file, or a damaged one")
  }
  defer { release(message, &allocator) }
  return try body(message.pointee)
}

extension ONNXModel {
  /// The model in `bytes`. The elements of its tensors are not copied.
  /// - Throws: `malformed` or `unsupported`, with the byte offset as context where it is known.
  init(bytes: UnsafeRawBufferPointer, limits: ONNXLimits) throws(QMError) {
    if let kind = FileKind(bytes), kind != .onnx {
      throw kind.refusal(expected: "an ONNX network (.onnx)")
    }
    let skeleton = try WireScan.skeleton(of: bytes, as: .model, limits: limits)
    self = try withUnpacked(
      skeleton, limits: limits,
      unpack: { onnx__model_proto__unpack($0, $1, $2) },
      free: { onnx__model_proto__free_unpacked($0, $1) }
    ) { (proto) throws(QMError) in try ONNXModel(proto) }
  }

  private init(_ proto: Onnx__ModelProto) throws(QMError) {
    guard proto.has_ir_version != 0, let graph = proto.graph else {
      throw .malformed(
        "found no \(proto.has_ir_version == 0 ? "ir_version" : "graph"); not an ONNX model, or a damaged one"
      )
    }
    irVersion = Int(proto.ir_version)
    let name = try string(proto.producer_name)
    let version = try string(proto.producer_version)
    producer = version.isEmpty ? name : "\(name) \(version)"
    operatorSets = try QMONNX.operatorSets(proto.opset_import, proto.n_opset_import)
    functions = []
    for entry in messages(proto.functions, proto.n_functions) {
      functions.append(try ONNXFunction(entry))
    }
    self.graph = try ONNXGraph(graph.pointee)
  }
}

extension ONNXTensor {
  /// The tensor in `bytes`, the content of an ONNX `.pb` file.
  /// - Throws: as ``ONNXModel/init(bytes:limits:)``.
  init(bytes: UnsafeRawBufferPointer, limits: ONNXLimits) throws(QMError) {
    let skeleton = try WireScan.skeleton(of: bytes, as: .tensor, limits: limits)
    self = try withUnpacked(
      skeleton, limits: limits,
      unpack: { onnx__tensor_proto__unpack($0, $1, $2) },
      free: { onnx__tensor_proto__free_unpacked($0, $1) }
    ) { (proto) throws(QMError) in try ONNXTensor(proto) }
  }

  fileprivate init(_ proto: Onnx__TensorProto) throws(QMError) {
    name = try string(proto.name)
    dataType = proto.data_type
    shape = numbers(proto.dims, proto.n_dims)
    pieces = []
    let places = numbers(proto.pieces, proto.n_pieces)
    for start in stride(from: 0, to: places.count - 3, by: 4) {
      let offset = Int(places[start + 2])
      pieces.append(
        WireScan.Piece(
          field: Int(places[start]), isTagged: places[start + 1] != 0,
          range: offset..<offset + Int(places[start + 3])))
    }
    guard proto.data_location != 0 else { return }
    guard proto.data_location == 1 else {
      throw .malformed(
        "tensor '\(name.abbreviated)' has data_location \(proto.data_location); ONNX defines 0 and 1"
      )
    }
    var entries: [(key: String, value: String)] = []
    for entry in messages(proto.external_data, proto.n_external_data) {
      entries.append(try (string(entry.key), string(entry.value)))
    }
    external = entries
  }
}

extension ONNXGraph {
  fileprivate init(_ proto: Onnx__GraphProto) throws(QMError) {
    name = try string(proto.name)
    nodes = []
    initializers = []
    inputs = []
    outputs = []
    sparseInitializerCount = proto.n_sparse_initializer
    nodes.reserveCapacity(proto.n_node)
    for node in messages(proto.node, proto.n_node) { nodes.append(try ONNXNode(node)) }
    for tensor in messages(proto.initializer, proto.n_initializer) {
      initializers.append(try ONNXTensor(tensor))
    }
    for info in messages(proto.input, proto.n_input) { inputs.append(try ONNXValueInfo(info)) }
    for info in messages(proto.output, proto.n_output) { outputs.append(try ONNXValueInfo(info)) }
  }
}

extension ONNXFunction {
  fileprivate init(_ proto: Onnx__FunctionProto) throws(QMError) {
    key = Key(
      domain: try domain(proto.domain), name: try string(proto.name),
      overload: try string(proto.overload))
    inputs = try strings(proto.input, proto.n_input)
    outputs = try strings(proto.output, proto.n_output)
    defaults = try ONNXAttribute.all(
      messages(proto.attribute_proto, proto.n_attribute_proto), of: "a function")
    nodes = []
    for node in messages(proto.node, proto.n_node) { nodes.append(try ONNXNode(node)) }
    operatorSets = try QMONNX.operatorSets(proto.opset_import, proto.n_opset_import)
  }
}

extension ONNXNode {
  fileprivate init(_ proto: Onnx__NodeProto) throws(QMError) {
    self = try within(.offset(Int(proto.position))) { () throws(QMError) in
      ONNXNode(
        name: try string(proto.name), operation: try string(proto.op_type),
        domain: try QMONNX.domain(proto.domain), overload: try string(proto.overload),
        inputs: try strings(proto.input, proto.n_input),
        outputs: try strings(proto.output, proto.n_output),
        attributes: try ONNXAttribute.all(
          messages(proto.attribute, proto.n_attribute), of: "a node"),
        position: Int(proto.position))
    }
  }
}

extension ONNXAttribute {
  /// - Parameter owner: for messages: "a node".
  fileprivate static func all(
    _ protos: some Sequence<Onnx__AttributeProto>, of owner: String
  ) throws(QMError) -> [ONNXAttribute] {
    var attributes: [ONNXAttribute] = []
    var names: Set<String> = []
    for proto in protos {
      let attribute = try ONNXAttribute(proto)
      guard names.insert(attribute.name).inserted else {
        throw .malformed("\(owner) has two attributes '\(attribute.name.abbreviated)'")
      }
      attributes.append(attribute)
    }
    return attributes
  }

  private init(_ proto: Onnx__AttributeProto) throws(QMError) {
    name = try string(proto.name)
    guard !name.isEmpty else {
      throw .malformed("an attribute has no name; export the model again")
    }
    guard proto.has_ref_attr_name == 0 else {
      value = .reference(try string(proto.ref_attr_name))
      return
    }
    // AttributeProto.AttributeType. An encoder may leave out fields that are zero, so the type
    // decides. In a file without types, the field that is present decides.
    var type = proto.type
    if type == 0 {
      type =
        proto.has_f != 0
        ? 1
        : proto.has_i != 0
          ? 2
          : proto.has_s != 0
            ? 3
            : proto.t != nil
              ? 4
              : proto.g != nil
                ? 5
                : proto.n_floats > 0
                  ? 6
                  : proto.n_ints > 0 ? 7 : proto.n_strings > 0 ? 8 : 0
    }
    switch type {
    case 1: value = .float(proto.f)
    case 2: value = .integer(proto.i)
    case 3: value = .string(bytes(proto.s))
    case 4:
      guard let tensor = proto.t else {
        throw .malformed("attribute '\(name.abbreviated)' has the type tensor but holds none")
      }
      value = .tensor(try ONNXTensor(tensor.pointee))
    case 5:
      guard let graph = proto.g else {
        throw .malformed("attribute '\(name.abbreviated)' has the type graph but holds none")
      }
      value = .graph(try ONNXGraph(graph.pointee))
    case 6: value = .floats(numbers(proto.floats, proto.n_floats))
    case 7: value = .integers(numbers(proto.ints, proto.n_ints))
    case 8:
      value = .strings((0..<proto.n_strings).map { bytes(proto.strings[$0]) })
    case 9: value = .other("tensors")
    case 10: value = .other("graphs")
    case 11, 12: value = .other("a sparse tensor")
    case 13, 14: value = .other("a type")
    default: value = .other("nothing")
    }
  }
}

extension ONNXValueInfo {
  fileprivate init(_ proto: Onnx__ValueInfoProto) throws(QMError) {
    name = try string(proto.name)
    guard let tensor = proto.type?.pointee.tensor_type?.pointee else { return }
    var axes: [Shape.Axis]?
    if let shape = tensor.shape?.pointee {
      var known: [Shape.Axis] = []
      for dimension in messages(shape.dim, shape.n_dim) {
        switch dimension.value_case {
        case ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE where dimension.dim_value > 0:
          known.append(.fixed(Int(dimension.dim_value)))
        case ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM:
          known.append(.free(try string(dimension.dim_param)))
        default:
          // Some exporters write 0 or −1 for an unknown extent.
          known.append(.free(""))
        }
      }
      axes = known
    }
    type = TensorType(dataType: tensor.elem_type, axes: axes)
  }
}

// MARK: Fields

private func bytes(_ field: ProtobufCBinaryData) -> [UInt8] {
  [UInt8](UnsafeBufferPointer(start: field.data, count: field.len))
}

/// - Throws: `malformed` unless the bytes are UTF-8.
private func string(_ field: ProtobufCBinaryData) throws(QMError) -> String {
  let bytes = UnsafeBufferPointer(start: field.data, count: field.len)
  let string = String(decoding: bytes, as: UTF8.self)
  guard string.utf8.elementsEqual(bytes) else {
    throw .malformed("the name '\(string.abbreviated)' is not UTF-8")
  }
  return string
}

private func strings(
  _ fields: UnsafeMutablePointer<ProtobufCBinaryData>?, _ count: Int
) throws(QMError) -> [String] {
  var result: [String] = []
  result.reserveCapacity(count)
  for field in UnsafeBufferPointer(start: fields, count: count) {
    result.append(try string(field))
  }
  return result
}

/// The domain of an operator; ONNX's own domain, "" or "ai.onnx", is returned as "".
private func domain(_ field: ProtobufCBinaryData) throws(QMError) -> String {
  let domain = try string(field)
  return domain == "ai.onnx" ? "" : domain
}

/// The version of each imported operator set, by domain.
private func operatorSets(
  _ field: UnsafeMutablePointer<UnsafeMutablePointer<Onnx__OperatorSetIdProto>?>?, _ count: Int
) throws(QMError) -> [String: Int] {
  var sets: [String: Int] = [:]
  for entry in messages(field, count) {
    let domain = try domain(entry.domain)
    guard let version = Int(exactly: entry.version),
      sets.updateValue(version, forKey: domain) ?? version == version
    else { throw .malformed("domain '\(domain.abbreviated)' is imported in two versions") }
  }
  return sets
}

private func numbers<Number>(_ field: UnsafeMutablePointer<Number>?, _ count: Int) -> [Number] {
  Array(UnsafeBufferPointer(start: field, count: count))
}

private func messages<Proto>(
  _ field: UnsafeMutablePointer<UnsafeMutablePointer<Proto>?>?, _ count: Int
) -> some Sequence<Proto> {
  UnsafeBufferPointer(start: field, count: count).lazy.compactMap { $0?.pointee }
}
