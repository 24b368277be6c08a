import QMGraph
import QMOperations
import QMTensor

extension GraphWriter {
  mutating func write(_ quantize: Quantize, _ node: Graph.Node) throws(QMError) {
    let scale = try constant(quantize.scale, stepName(node, "scale"))
    let zeroPoint = try zeroPoint(quantize.zeroPoint, of: node.outputs[0], node)
    try emit("QuantizeLinear", [input(node, 0), scale, zeroPoint], node)
  }

  /// A zero point, whose type says that of the codes.
  private mutating func zeroPoint(
    _ zeroPoint: Int32, of codes: Graph.ValueID, _ node: Graph.Node
  ) throws(QMError) -> String {
    let name = try stepName(node, "zeroPoint")
    if isUnsigned(codes) { return try constant(Tensor([], [UInt8(zeroPoint + 128)]), name) }
    switch graph[codes].type.elementType {
    case .int8: return try constant(Tensor([], [Int8(zeroPoint)]), name)
    case .uint8: return try constant(Tensor([], [UInt8(zeroPoint)]), name)
    case .int16: return try constant(Tensor([], [Int16(zeroPoint)]), name)
    case let type: throw .unsupported("codes of type \(type)")
    }
  }

  /// DynamicQuantizeLinear, whose codes are uint8, 128 above those of the graph.
  mutating func write(_ quantize: DynamicQuantize, _ node: Graph.Node) throws(QMError) {
    guard quantize.axes == 0 else {
      throw .unsupported(
        "a scale and zero point of each row, which ONNX's operators do not compute")
    }
    let (codes, scale, zeroPoint) = try (
      stepName(node, "uint8"), stepName(node, "scale"), stepName(node, "zeroPoint")
    )
    try add("DynamicQuantizeLinear", [input(node, 0)], as: [codes, scale, zeroPoint])
    dynamicOutputs[node.outputs[0]] = [codes, scale, zeroPoint]
    func cast(_ name: String, _ type: ElementType, _ output: String) -> String {
      add("Cast", [name], as: output, [("to", .integer(Int(type.onnxType)))])
    }
    // What reads the codes as integers, or the parameters as numbers.
    let wide = try cast(codes, .int32, stepName(node, "int32"))
    let shifted = try add(
      "Sub", [wide, constant(Tensor([], [Int32(128)]), stepName(node, "shift"))],
      as: stepName(node, "shifted"))
    _ = try cast(shifted, .int8, name(of: node.outputs[0]))
    let number = try cast(zeroPoint, .float32, stepName(node, "zeroNumber"))
    let zero = try add(
      "Sub", [number, constant(128, stepName(node, "shiftNumber"))],
      as: stepName(node, "zeroShifted"))
    let one = try constant([1], stepName(node, "one"))
    let parts = try [
      add("Reshape", [scale, one], as: stepName(node, "scaleRow")),
      add("Reshape", [zero, one], as: stepName(node, "zeroRow")),
    ]
    try add("Concat", parts, as: [name(of: node.outputs[1])], [("axis", .integer(0))])
  }

  mutating func writeDequantize(_ node: Graph.Node) throws(QMError) {
    guard let codes = node.input(0) else { throw .malformed("input 0 is missing") }
    switch graph[codes].type.quantization {
    case .fixed(let scale, let zeroPoint):
      let operands = [
        try name(of: codes), try constant(scale, stepName(node, "scale")),
        try self.zeroPoint(zeroPoint, of: codes, node),
      ]
      try emit("DequantizeLinear", operands, node)
    case .weights(let bits, let granularity):
      guard let scales = node.input(1).flatMap({ graph[$0].constant }) else {
        throw .unsupported("scales that are no constant")
      }
      try addDequantize(
        name(of: codes), bits, scales, granularity, as: name(of: node.outputs[0]))
    case .dynamic:
      guard let outputs = dynamicOutputs[codes] else {
        throw .unsupported("codes of \(graph[codes].type)")
      }
      try emit("DequantizeLinear", outputs, node)
    case .none: throw .unsupported("codes of \(graph[codes].type)")
    }
  }

  /// Adds the DequantizeLinear of weights.
  mutating func addDequantize(
    _ codes: String, _ bits: BitWidth, _ scales: Tensor, _ granularity: Granularity,
    as output: String
  ) throws(QMError) {
    var attributes: Attributes = []
    var scales = scales
    switch granularity {
    case .perTensor: scales = try scales.reshaped([])
    case .perChannel(let axis): attributes = [("axis", .integer(axis))]
    case .perGroup(let axis, let size):
      attributes = [("axis", .integer(axis)), ("block_size", .integer(size))]
    }
    var operands = [codes, try constant(scales, unique(output + ".scale"))]
    // ONNX Runtime 1.32 makes weights uint8 where it is asked for exact sums. It fails without zero
    // points, and if two weights share one.
    if bits.bits > 4 {
      operands.append(
        try constant(
          Tensor(zeros: .int8, scales.shape), unique(output + ".zeroPoint"), isShared: false))
    }
    add("DequantizeLinear", operands, as: output, attributes)
  }

  /// A lookup of int8 codes: Gather counts entries from 0, the code −128 is the first.
  mutating func writeTable(_ node: Graph.Node) throws(QMError) {
    guard let codes = node.input(0), let table = node.input(1) else {
      throw .malformed("an input is missing")
    }
    var indices = add(
      "Cast", [try name(of: codes)], as: try stepName(node, "integers"),
      [("to", .integer(Int(ElementType.int32.onnxType)))])
    if !isUnsigned(codes) {
      let first = try constant(Tensor([], [Int32(128)]), stepName(node, "first"))
      indices = add("Add", [indices, first], as: try stepName(node, "indices"))
    }
    var entries = try name(of: table)
    if isUnsigned(node.outputs[0]) {
      guard let tensor = graph[table].constant else { throw .unsupported("a computed table") }
      let shifted = tensor.elements(as: Int8.self).map { UInt8(Int($0) + 128) }
      entries = try constant(Tensor([shifted.count], shifted), stepName(node, "entries"))
    }
    try emit("Gather", [entries, indices], node, [("axis", .integer(0))])
  }
}
