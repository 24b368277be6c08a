import QMOperations
import QMTensor

extension Graph {
  /// The simulation as an integer graph: `Dequantize → operation → Quantize` becomes the operation
  /// on codes.
  ///
  /// Given: a graph with Quantize → Dequantize pairs, from ``inserting(_:)``.
  /// Result: integer operations wherever the operands of a node have codes. A Quantize or
  /// Dequantize node remains only between a float node and a node on codes.
  public func lowered() throws(QMError) -> Graph {
    var lowering = try Lowering(self)
    for index in nodes.indices { try lowering.lower(index) }
    return try lowering.finish()
  }
}

/// The state of one lowering. Operations with rules of their own have a file each.
struct Lowering {
  /// The codes, in the new graph, from which an old float value was dequantized.
  struct Codes {
    let value: Graph.ValueID
    /// Scales of weights, or the parameters of a dynamic quantization.
    let scales: Graph.ValueID?
    let quantization: Quantization
    let elementType: ElementType
  }

  let source: Graph
  let uses: Uses
  var rewriter: Rewriter
  private var codes: [Graph.ValueID: Codes] = [:]
  /// Indices of the Quantize nodes that were fused into the node before them.
  private var absorbed: Set<Int> = []

  init(_ source: Graph) throws(QMError) {
    self.source = source
    uses = Uses(source)
    rewriter = try Rewriter(source)
  }

  mutating func finish() throws(QMError) -> Graph {
    for output in source.outputs { _ = try float(output.value) }
    return try RemoveDeadNodes().run(on: rewriter.finish())
  }

  /// The codes of an old float value, if it has any.
  func codes(of value: Graph.ValueID?) -> Codes? { value.flatMap { codes[$0] } }

  mutating func setCodes(of value: Graph.ValueID, _ new: Codes) { codes[value] = new }

  /// Scale and zero point of an old float value's codes; nil unless both are fixed.
  func fixedParameters(of value: Graph.ValueID?) -> (scale: Float, zeroPoint: Int32)? {
    guard case .fixed(let scale, let zeroPoint) = codes(of: value)?.quantization else {
      return nil
    }
    return (scale, zeroPoint)
  }

  /// The old value in float32. The first float reader adds the Dequantize; later ones share it.
  mutating func float(_ value: Graph.ValueID) throws(QMError) -> Graph.ValueID {
    if rewriter.hasValue(value) { return rewriter.value(value) }
    guard let codes = codes[value] else {
      throw .internalFault("value '\(source[value].name)' is read before it is lowered")
    }
    try rewriter.append(
      .dequantize(Dequantize()), name: source[value].name,
      codes.scales.map { [codes.value, $0] } ?? [codes.value], replacing: [value])
    return rewriter.value(value)
  }

  /// An operand of an operation that reads codes as well as float32.
  mutating func codesOrFloat(_ value: Graph.ValueID) throws(QMError) -> Graph.ValueID {
    if fixedParameters(of: value) != nil, let codes = codes[value] { return codes.value }
    return try float(value)
  }

  /// How a node's result is stored: as codes if its only reader is a Quantize, else as float32.
  func encoding(of value: Graph.ValueID) -> OutputEncoding {
    guard let (quantize, _) = onlyQuantize(of: value) else { return .float32 }
    return .quantized(quantize.elementType, scale: quantize.scale, zeroPoint: quantize.zeroPoint)
  }

  /// The Quantize that is the only reader of a value, and the index of its node.
  func onlyQuantize(of value: Graph.ValueID) -> (Quantize, Int)? {
    guard let reader = uses.onlyConsumer(of: value),
      case .quantize(let quantize) = source.nodes[reader].operation
    else { return nil }
    return (quantize, reader)
  }

  /// Adds a node whose attributes hold the encoding of its one output. If the encoding came from a
  /// Quantize, that node is dropped.
  mutating func emit(
    _ operation: Operation, for node: Graph.Node, _ inputs: [Graph.ValueID?]
  ) throws(QMError) {
    let output = node.outputs[0]
    guard let (_, reader) = onlyQuantize(of: output) else {
      try rewriter.append(operation, name: node.name, inputs, replacing: node.outputs)
      return
    }
    absorbed.insert(reader)
    let new = try rewriter.append(
      operation, name: node.name, inputs, outputNames: [source[output].name])
    rewriter.replace(source.nodes[reader].outputs[0], by: new[0])
  }

  /// Adds a node whose outputs are codes with the quantization parameters of its input.
  mutating func emitOnCodes(
    _ operation: Operation, for node: Graph.Node, _ inputs: [Graph.ValueID?], like input: Codes
  ) throws(QMError) {
    let outputs = try rewriter.append(
      operation, name: node.name, inputs, outputNames: node.outputs.map { source[$0].name })
    for (old, new) in zip(node.outputs, outputs) {
      codes[old] = Codes(
        value: new, scales: input.scales, quantization: input.quantization,
        elementType: input.elementType)
    }
  }

  mutating func addConstant(
    name: String, _ tensor: Tensor, _ quantization: Quantization = .none
  ) -> Graph.ValueID {
    rewriter.addConstant(name: name, tensor, quantization)
  }

  mutating func lower(_ index: Int) throws(QMError) {
    let node = source.nodes[index]
    switch node.operation {
    case .quantize(let quantize):
      if absorbed.contains(index) { return }
      let input = try node.requiredInput(0)
      let quantization = Quantization.fixed(scale: quantize.scale, zeroPoint: quantize.zeroPoint)
      if let known = codes[input], known.quantization == quantization,
        known.elementType == quantize.elementType
      {
        rewriter.replace(node.outputs[0], by: known.value)
      } else {
        try rewriter.append(
          node.operation, name: node.name, [float(input)], replacing: node.outputs)
      }
    case .dequantize:
      let input = try node.requiredInput(0)
      let type = source[input].type
      codes[node.outputs[0]] = Codes(
        value: rewriter.value(input),
        scales: node.input(1).map { rewriter.value($0) },
        quantization: type.quantization, elementType: type.elementType)
    case .convolution, .matrixMultiply: try lowerProduct(node)
    case .recurrent(let recurrent): try lower(recurrent, node)
    case .unary(let unary): try lower(unary, node)
    case .binary(let binary): try lower(binary, node)
    // Every other operation is lowered by its facts.
    default: try lowerByFacts(node)
    }
  }

  /// The node as it was, in float32.
  mutating func lowerToFloat(_ node: Graph.Node) throws(QMError) {
    var inputs: [Graph.ValueID?] = []
    for input in node.inputs {
      inputs.append(try input.map { (input) throws(QMError) in try float(input) })
    }
    try emitFloat(node.operation, for: node, inputs)
  }

  /// Adds a node whose outputs are not codes.
  mutating func emitFloat(
    _ operation: Operation, for node: Graph.Node, _ inputs: [Graph.ValueID?]
  ) throws(QMError) {
    try rewriter.append(operation, name: node.name, inputs, replacing: node.outputs)
  }
}
