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

extension ONNXModel {
  /// The bytes of the file. Equal models give equal bytes.
  /// - Parameter version: of the producer.
  /// - Throws: `unsupported` for a model of 2 GiB or more, the limit of protobuf; `outOfMemory`.
  func packed(version: String) throws(QMError) -> Buffer {
    let arena = MessageArena()
    let proto = arena.message(onnx__model_proto__init)
    proto.pointee.has_ir_version = 1
    proto.pointee.ir_version = Int64(irVersion)
    proto.pointee.has_producer_name = 1
    proto.pointee.producer_name = arena.text(producer)
    proto.pointee.has_producer_version = 1
    proto.pointee.producer_version = arena.text(version)
    let sets = operatorSets.sorted { $0.key < $1.key }.map { (domain, version) in
      let set = arena.message(onnx__operator_set_id_proto__init)
      set.pointee.has_domain = 1
      set.pointee.domain = arena.text(domain)
      set.pointee.has_version = 1
      set.pointee.version = Int64(version)
      return set
    }
    (proto.pointee.opset_import, proto.pointee.n_opset_import) = arena.list(sets)
    proto.pointee.graph = arena.graph(graph)
    let size = onnx__model_proto__get_packed_size(proto)
    guard size <= Int(Int32.max) else {
      throw .unsupported(
        "the network takes \(size) bytes; an .onnx file holds less than 2 GiB",
        remedies: .changeModel(how: "write the weights to a .safetensors file"))
    }
    let buffer = try Buffer.allocate(byteCount: size)
    onnx__model_proto__pack(proto, buffer.base.assumingMemoryBound(to: UInt8.self))
    withExtendedLifetime(self) {}
    return buffer
  }
}

/// Memory of messages until they are packed. Elements of tensors are not copied; their owner must
/// outlive the packing.
private final class MessageArena {
  private var blocks: [UnsafeMutableRawPointer] = []

  deinit { for block in blocks { block.deallocate() } }

  private func allocate<Element>(_ count: Int, of: Element.Type) -> UnsafeMutablePointer<Element> {
    let pointer = UnsafeMutablePointer<Element>.allocate(capacity: max(count, 1))
    blocks.append(UnsafeMutableRawPointer(pointer))
    return pointer
  }

  func message<Proto>(
    _ initialize: (UnsafeMutablePointer<Proto>) -> Void
  ) -> UnsafeMutablePointer<Proto> {
    let proto = allocate(1, of: Proto.self)
    initialize(proto)
    return proto
  }

  /// A repeated field: its elements, and their number.
  func list<Element>(_ elements: [Element]) -> (UnsafeMutablePointer<Element>?, Int) {
    guard !elements.isEmpty else { return (nil, 0) }
    let pointer = allocate(elements.count, of: Element.self)
    pointer.initialize(from: elements, count: elements.count)
    return (pointer, elements.count)
  }

  /// A repeated field of messages.
  func list<Proto>(
    _ messages: [UnsafeMutablePointer<Proto>]
  ) -> (UnsafeMutablePointer<UnsafeMutablePointer<Proto>?>?, Int) {
    list(messages.map { Optional($0) })
  }

  func bytes(_ bytes: [UInt8]) -> ProtobufCBinaryData {
    ProtobufCBinaryData(len: bytes.count, data: list(bytes).0)
  }

  func text(_ text: String) -> ProtobufCBinaryData { bytes(Array(text.utf8)) }

  func graph(_ graph: ONNXGraph) -> UnsafeMutablePointer<Onnx__GraphProto> {
    let proto = message(onnx__graph_proto__init)
    proto.pointee.has_name = 1
    proto.pointee.name = text(graph.name)
    (proto.pointee.node, proto.pointee.n_node) = list(graph.nodes.map(node))
    (proto.pointee.initializer, proto.pointee.n_initializer) = list(graph.initializers.map(tensor))
    (proto.pointee.input, proto.pointee.n_input) = list(graph.inputs.map(valueInfo))
    (proto.pointee.output, proto.pointee.n_output) = list(graph.outputs.map(valueInfo))
    return proto
  }

  private func node(_ node: ONNXNode) -> UnsafeMutablePointer<Onnx__NodeProto> {
    let proto = message(onnx__node_proto__init)
    (proto.pointee.input, proto.pointee.n_input) = list(node.inputs.map(text))
    (proto.pointee.output, proto.pointee.n_output) = list(node.outputs.map(text))
    proto.pointee.has_name = 1
    proto.pointee.name = text(node.name)
    proto.pointee.has_op_type = 1
    proto.pointee.op_type = text(node.operation)
    (proto.pointee.attribute, proto.pointee.n_attribute) = list(node.attributes.map(attribute))
    return proto
  }

  private func attribute(_ attribute: ONNXAttribute) -> UnsafeMutablePointer<Onnx__AttributeProto> {
    let proto = message(onnx__attribute_proto__init)
    proto.pointee.has_name = 1
    proto.pointee.name = text(attribute.name)
    proto.pointee.has_type = 1
    switch attribute.value {
    case .float(let number):
      (proto.pointee.type, proto.pointee.has_f, proto.pointee.f) = (1, 1, number)
    case .integer(let number):
      (proto.pointee.type, proto.pointee.has_i, proto.pointee.i) = (2, 1, number)
    case .string(let string):
      (proto.pointee.type, proto.pointee.has_s, proto.pointee.s) = (3, 1, bytes(string))
    case .tensor(let value): (proto.pointee.type, proto.pointee.t) = (4, tensor(value))
    case .graph(let value): (proto.pointee.type, proto.pointee.g) = (5, graph(value))
    case .floats(let numbers):
      proto.pointee.type = 6
      (proto.pointee.floats, proto.pointee.n_floats) = list(numbers)
    case .integers(let numbers):
      proto.pointee.type = 7
      (proto.pointee.ints, proto.pointee.n_ints) = list(numbers)
    case .strings(let strings):
      proto.pointee.type = 8
      (proto.pointee.strings, proto.pointee.n_strings) = list(strings.map(bytes))
    case .other, .reference: preconditionFailure("attributes of this kind are only read")
    }
    return proto
  }

  private func tensor(_ tensor: ONNXTensor) -> UnsafeMutablePointer<Onnx__TensorProto> {
    let proto = message(onnx__tensor_proto__init)
    (proto.pointee.dims, proto.pointee.n_dims) = list(tensor.shape)
    proto.pointee.has_data_type = 1
    proto.pointee.data_type = tensor.dataType
    proto.pointee.has_name = 1
    proto.pointee.name = text(tensor.name)
    guard let elements = tensor.elements else { return proto }
    proto.pointee.has_raw_data = 1
    proto.pointee.raw_data = ProtobufCBinaryData(
      len: elements.byteCount,
      data: (elements.buffer.base + elements.byteOffset).assumingMemoryBound(to: UInt8.self))
    return proto
  }

  private func valueInfo(_ info: ONNXValueInfo) -> UnsafeMutablePointer<Onnx__ValueInfoProto> {
    let proto = message(onnx__value_info_proto__init)
    proto.pointee.has_name = 1
    proto.pointee.name = text(info.name)
    guard let type = info.type else { return proto }
    let tensor = message(onnx__type_proto__tensor__init)
    tensor.pointee.has_elem_type = 1
    tensor.pointee.elem_type = type.dataType
    if let axes = type.axes {
      let shape = message(onnx__tensor_shape_proto__init)
      (shape.pointee.dim, shape.pointee.n_dim) = list(axes.map(dimension))
      tensor.pointee.shape = shape
    }
    let kind = message(onnx__type_proto__init)
    kind.pointee.tensor_type = tensor
    proto.pointee.type = kind
    return proto
  }

  private func dimension(
    _ axis: Shape.Axis
  ) -> UnsafeMutablePointer<Onnx__TensorShapeProto__Dimension> {
    let proto = message(onnx__tensor_shape_proto__dimension__init)
    switch axis {
    case .fixed(let extent):
      proto.pointee.value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE
      proto.pointee.dim_value = Int64(extent)
    case .free(""): break
    case .free(let name):
      proto.pointee.value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM
      proto.pointee.dim_param = text(name)
    }
    return proto
  }
}
