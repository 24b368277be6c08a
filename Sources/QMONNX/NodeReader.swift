import QMGraph
import QMOperations
import QMTensor

/// Reads one ONNX node: its inputs and attributes, and functions that add operations to the graph.
/// The files in `Operators/` extend it with one function per operator.
struct NodeReader {
  typealias Value = GraphBuilder.Value

  let node: ONNXNode
  let builder: GraphBuilder
  /// Version of ONNX's operator set by which the node is read.
  let opset: Int
  /// Set for a step of another node: its operands, and where its results go.
  private let step: Step?

  /// A node that is not in the file, but that one of the file is read as.
  private final class Step {
    let operands: [Value?]
    var results: [GraphBuilder.Item] = []

    init(_ operands: [Value?]) { self.operands = operands }
  }

  init(node: ONNXNode, builder: GraphBuilder) {
    self.node = node
    self.builder = builder
    opset = node.opset ?? builder.opset
    step = nil
  }

  private init(_ node: ONNXNode, _ builder: GraphBuilder, opset: Int, _ step: Step) {
    self.node = node
    self.builder = builder
    self.opset = opset
    self.step = step
  }

  func read() throws(QMError) {
    // A name with a dot in ONNX's own domain is none of the other domain.
    guard let entry = OperatorTable.entries[node.fullOperation], !node.operation.contains(".")
    else {
      throw refusal
    }
    guard entry.opsets.contains(opset) else {
      throw .unsupported(
        "the operator is read in opsets \(entry.opsets.lowerBound) to \(entry.opsets.upperBound)")
    }
    guard entry.inputs.contains(node.inputs.count) else {
      let expected =
        entry.inputs.count == 1
        ? "\(entry.inputs.lowerBound)" : "\(entry.inputs.lowerBound) to \(entry.inputs.upperBound)"
      throw .malformed("\(node.inputs.count) inputs, expected \(expected)")
    }
    try requireKnownAttributes()
    for attribute in node.attributes {
      if case .reference = attribute.value {
        throw .malformed(
          "attribute '\(attribute.name.abbreviated)' refers to an attribute of a function, but the node is in none"
        )
      }
    }
    try entry.read(self)
  }

  /// For an operator that the table does not have.
  private var refusal: QMError {
    if node.isRandom {
      return .unsupported(
        "it draws random numbers, and no two runs would give the same",
        remedies: .setInputs(which: "its result '\((node.outputs.first ?? "").abbreviated)'"),
        .cutAfter)
    }
    if node.domain.isEmpty {
      return OperatorTable.refusals[node.operation]
        ?? .unsupported("unsupported operator", remedies: .cutBefore)
    }
    guard !node.domain.hasPrefix("com.microsoft") else {
      return .unsupported(
        "this operator of ONNX Runtime's domain '\(node.domain.abbreviated)' cannot be read",
        remedies: .changeModel(how: "export the model without its optimizer or quantizer"),
        .cutBefore)
    }
    return .unsupported(
      "operators of domain '\(node.domain.abbreviated)' cannot be read", remedies: .cutBefore)
  }

  /// The results of an operator of ONNX, as if the file had a node of it.
  /// - Parameters:
  ///   - outputs: names of the results in the graph.
  ///   - opset: the operator's version; that of the file if nil.
  func results(
    of operation: String, _ operands: [Value?], _ attributes: [ONNXAttribute],
    named outputs: [String], opset: Int? = nil
  ) throws(QMError) -> [Value] {
    guard let entry = OperatorTable.entries[operation] else {
      throw .internalFault("no operator \(operation)")
    }
    let step = Step(operands)
    let node = ONNXNode(
      name: outputs.first ?? node.label, operation: operation, domain: "",
      inputs: operands.map { $0 == nil ? "" : operation }, outputs: outputs,
      attributes: attributes, position: node.position)
    try entry.read(NodeReader(node, builder, opset: opset ?? self.opset, step))
    var results: [Value] = []
    for case .value(let result) in step.results { results.append(result) }
    return results
  }

  /// The first result of an operator of ONNX, as ``results(of:_:_:named:opset:)``.
  func result(
    of operation: String, _ operands: [Value?], _ attributes: [ONNXAttribute] = [],
    named name: String, opset: Int? = nil
  ) throws(QMError) -> Value {
    guard
      let result = try results(of: operation, operands, attributes, named: [name], opset: opset)
        .first
    else { throw .internalFault("\(operation) has no result") }
    return result
  }

  /// Whether the node is read in place of another one of the file.
  var isStep: Bool { step != nil }

  // MARK: Inputs

  func hasInput(_ index: Int) -> Bool {
    if let step { return index < step.operands.count && step.operands[index] != nil }
    return index < node.inputs.count && !node.inputs[index].isEmpty
  }

  /// Input `index` in its own type; nil if it is absent.
  func optional(_ index: Int) throws(QMError) -> Value? {
    guard hasInput(index) else { return nil }
    if let step { return step.operands[index] }
    switch try builder.item(named: node.inputs[index]) {
    case .value(let value): return value
    case .sequence:
      throw .malformed("input \(index) is a sequence, expected a tensor")
    case nil:
      throw .malformed("it reads '\(node.inputs[index].abbreviated)', which nothing produces")
    }
  }

  /// The tensors of input `index`, a sequence.
  func sequence(_ index: Int) throws(QMError) -> [Value] {
    guard hasInput(index),
      case .sequence(let elements)? = try builder.item(named: node.inputs[index])
    else { throw .malformed("input \(index) is missing or no sequence") }
    return elements
  }

  func raw(_ index: Int) throws(QMError) -> Value {
    guard let value = try optional(index) else { throw .malformed("input \(index) is missing") }
    return value
  }

  /// Input `index`, converted to float32 if it has another float type.
  func input(_ index: Int) throws(QMError) -> Value { try inFloat32(raw(index)) }

  /// Input `index`, converted to float32.
  /// - Throws: `unsupported` unless it has a float type.
  func float(_ index: Int) throws(QMError) -> Value {
    let value = try input(index)
    guard value.type.isFloatingPoint else {
      throw .unsupported("input \(index) is \(value.type), expected a float type")
    }
    return value
  }

  func optionalFloat(_ index: Int) throws(QMError) -> Value? {
    hasInput(index) ? try float(index) : nil
  }

  func inFloat32(_ value: Value) throws(QMError) -> Value {
    try builder.construction.inFloat32(value, name: "\(node.label)/float32")
  }

  /// - Throws: `malformed` for integers of 8 or 16 bits, on which ONNX does not define the operator.
  func refuseShortIntegers(_ value: Value) throws(QMError) {
    guard [.int8, .uint8, .int16, .uint16].contains(value.type) else { return }
    throw .malformed("ONNX does not define the operator for elements of type \(value.type)")
  }

  /// - Throws: `malformed` unless the element types in the file are equal.
  func requireSameType(_ values: Value?...) throws(QMError) {
    let types = values.compactMap { $0?.type }
    for type in types where type != types[0] {
      throw .malformed("the element types of the inputs differ: \(types[0]) and \(type)")
    }
  }

  func shape(_ value: Value) -> Shape { builder.construction.type(of: value).shape }
  func constant(_ value: Value) -> Tensor? { builder.construction.constant(of: value) }

  /// The integers of a constant input; nil if it is absent.
  /// - Parameter what: a plural noun for the error, such as "axes".
  /// - Throws: `unsupported` if the input is computed; `malformed` if it is not of integers.
  func constantIntegers(_ index: Int, _ what: String) throws(QMError) -> [Int]? {
    guard let value = try optional(index) else { return nil }
    guard let tensor = constant(value) else {
      throw .unsupported("the \(what) (input \(index)) are computed; expected constants")
    }
    switch tensor.elementType {
    case .int64: return tensor.elements(as: Int64.self).map(Int.init)
    case .int32: return tensor.elements(as: Int32.self).map(Int.init)
    default:
      throw .malformed("the \(what) (input \(index)) are \(tensor.elementType), expected int64")
    }
  }

  /// The number in a float32 constant of one element; nil for any other value.
  func constantScalar(_ value: Value) -> Float? {
    guard let tensor = constant(value), tensor.elementType == .float32, tensor.elementCount == 1
    else { return nil }
    return tensor.elements(as: Float.self)[0]
  }

  /// Input `index`, converted to int64 if it is int32; nil if it is absent.
  func int64(_ index: Int) throws(QMError) -> Value? {
    guard let value = try optional(index) else { return nil }
    switch value.type {
    case .int64: return value
    case .int32: return try append(.cast(Cast(to: .int64)), [value], as: .int64, "int64")
    default: throw .malformed("input \(index) is \(value.type), expected int64")
    }
  }

  /// `axis` counted from the front.
  func axis(_ axis: Int, rank: Int) throws(QMError) -> Int {
    guard axis >= -rank, axis < rank else {
      throw .malformed("axis \(axis) of a value with \(rank) axes")
    }
    return axis < 0 ? axis + rank : axis
  }

  /// `axes` counted from the front, ascending.
  func axes(_ axes: [Int], rank: Int) throws(QMError) -> [Int] {
    var result: Set<Int> = []
    for given in axes {
      guard try result.insert(axis(given, rank: rank)).inserted else {
        throw .malformed("axis \(given) is given twice in \(axes)")
      }
    }
    return result.sorted()
  }

  // MARK: Attributes

  private func attribute(_ name: String) -> ONNXAttribute? {
    node.attributes.first { $0.name == name }
  }

  private func mismatch(_ attribute: ONNXAttribute, _ expected: String) -> QMError {
    .malformed(
      "attribute '\(attribute.name.abbreviated)' is \(attribute.kind), expected \(expected)")
  }

  func integer(_ name: String) throws(QMError) -> Int? {
    guard let attribute = attribute(name) else { return nil }
    guard case .integer(let value) = attribute.value else {
      throw mismatch(attribute, "an integer")
    }
    return Int(value)
  }

  /// An integer attribute in which 0 means false and any other number true.
  func flag(_ name: String, default standard: Bool) throws(QMError) -> Bool {
    try integer(name).map { $0 != 0 } ?? standard
  }

  func integers(_ name: String) throws(QMError) -> [Int]? {
    guard let attribute = attribute(name) else { return nil }
    guard case .integers(let values) = attribute.value else {
      throw mismatch(attribute, "integers")
    }
    return values.map(Int.init)
  }

  func number(_ name: String, default standard: Float) throws(QMError) -> Float {
    try number(name) ?? standard
  }

  func number(_ name: String) throws(QMError) -> Float? {
    guard let attribute = attribute(name) else { return nil }
    guard case .float(let value) = attribute.value else { throw mismatch(attribute, "a float") }
    guard value.isFinite else {
      throw .malformed("attribute '\(name)' is \(value), expected a finite number")
    }
    return value
  }

  /// As ``number(_:)`` for attributes that may be infinite or NaN, such as bounds and fill values.
  func anyNumber(_ name: String) throws(QMError) -> Float? {
    guard let attribute = attribute(name) else { return nil }
    guard case .float(let value) = attribute.value else { throw mismatch(attribute, "a float") }
    return value
  }

  func numbers(_ name: String) throws(QMError) -> [Float]? {
    guard let attribute = attribute(name) else { return nil }
    guard case .floats(let values) = attribute.value else { throw mismatch(attribute, "floats") }
    return values
  }

  func text(_ name: String, default standard: String) throws(QMError) -> String {
    guard let attribute = attribute(name) else { return standard }
    guard case .string(let bytes) = attribute.value else { throw mismatch(attribute, "a string") }
    return String(decoding: bytes, as: UTF8.self)
  }

  func texts(_ name: String) throws(QMError) -> [String]? {
    guard let attribute = attribute(name) else { return nil }
    guard case .strings(let values) = attribute.value else { throw mismatch(attribute, "strings") }
    return values.map { String(decoding: $0, as: UTF8.self) }
  }

  /// - Throws: `malformed` if the graph is missing.
  func graph(_ name: String) throws(QMError) -> ONNXGraph {
    guard let attribute = attribute(name) else {
      throw .malformed("attribute '\(name)' is missing")
    }
    guard case .graph(let graph) = attribute.value else { throw mismatch(attribute, "a graph") }
    return graph
  }

  func tensor(_ name: String) throws(QMError) -> Tensor? {
    guard let attribute = attribute(name) else { return nil }
    guard case .tensor(let source) = attribute.value else { throw mismatch(attribute, "a tensor") }
    return try builder.files.tensor(source)
  }

  // MARK: Adding to the graph

  /// Adds an intermediate operation named after the node and `suffix`.
  /// - Parameter type: the result's element type in ONNX; in the graph a float type is float32.
  func append(
    _ operation: Operation, _ inputs: [Value?], as type: ElementType, _ suffix: String
  ) throws(QMError) -> Value {
    let name = "\(node.label)/\(suffix)"
    let places = try builder.construction.append(operation, name: name, inputs, outputNames: [name])
    return Value(place: places[0], type: type)
  }

  /// Adds the operation that computes the node's outputs.
  /// - Parameters:
  ///   - type: the element type of all outputs in ONNX; in the graph a float type is float32.
  ///   - made: that type where it has fewer than 8 bits and the operation makes it.
  func finish(
    _ operation: Operation, _ inputs: [Value?], as type: ElementType,
    packed made: PackedIntegers? = nil
  ) throws(QMError) {
    let places = try builder.construction.append(
      operation, name: node.label, inputs, outputNames: node.outputs)
    let results = places.map { Value(place: $0, type: type) }
    var packed = made
    if case .moved(let sources) = operation.body.elementSource(operandCount: inputs.count) {
      packed = sources.first.flatMap { inputs[$0] }.flatMap(builder.packedType)
    }
    if let packed { for result in results { builder.setPacked(packed, result) } }
    try finish(results)
  }

  /// Defines the node's outputs as these values.
  /// - Throws: `unsupported` if an output that is used has no value.
  func finish(_ results: [Value]) throws(QMError) {
    try finish(results.map(GraphBuilder.Item.value))
  }

  func finish(_ results: [GraphBuilder.Item]) throws(QMError) {
    if let step {
      step.results = results
      return
    }
    for (index, name) in node.outputs.enumerated() {
      if index < results.count {
        builder.define(name, results[index])
      } else if builder.isUsed(name) {
        throw .unsupported(
          "output \(index) '\(name.abbreviated)' is used, but this output cannot be read")
      }
    }
  }

  func addConstant(_ tensor: Tensor, _ suffix: String) -> Value {
    builder.construction.addConstant(name: "\(node.label)/\(suffix)", tensor)
  }

  func addConstant(_ numbers: [Int], _ suffix: String) throws(QMError) -> Value {
    addConstant(try Tensor([numbers.count], numbers.map(Int64.init)), suffix)
  }

  func addScalar(_ number: Float, _ suffix: String) throws(QMError) -> Value {
    addConstant(try Tensor([], [number]), suffix)
  }
}
