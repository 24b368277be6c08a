import QMGraph
import QMOperations
import QMRuntime
import QMTensor

/// Turns the nodes of one ONNX graph into operations, in an order in which they can run.
///
/// float16, bfloat16 and float64 values are computed in float32: they are converted where they
/// enter an operation, and back where they leave the graph. Nodes whose inputs are all constants
/// are computed at once, so that shapes and weights are known however they are spelled; a constant
/// enters the graph when a node needs it.
final class GraphBuilder {
  /// A value under the name that the file gives it.
  struct Value: Hashable {
    enum Place: Hashable {
      case graph(Graph.ValueID)
      /// Index in the builder's constants.
      case constant(Int)
    }
    let place: Place
    /// ONNX's element type. The value in the graph may be float32 in its place.
    let type: ElementType
  }

  private struct Constant {
    let name: String
    let tensor: Tensor
    /// Codes that stand for the elements, where the file has them.
    var codes: Plan.Weights?
    /// Set once a node of the graph reads it.
    var id: Graph.ValueID?
  }

  private struct FoldKey: Hashable {
    let operation: Operation
    let inputs: [Value.Place?]
  }

  private(set) var graph = Graph()
  let opset: Int
  /// "domain.name" of the functions that the file defines.
  let functions: Set<String>
  let files: TensorFiles
  let limits: ONNXLimits
  /// Elements that stand in the place of the file's, by the name of the constant.
  private let weights: [String: Tensor]
  private var values: [String: Value] = [:]
  private var constants: [Constant] = []
  /// Each, or why it cannot be read: that matters once a node reads it.
  private var initializers: [String: Result<Tensor, QMError>] = [:]
  private var usedNames: Set<String> = []
  private var folded: [FoldKey: [Value.Place]] = [:]
  /// Bytes that computed constants may still take.
  private var foldedBytesLeft: Int
  private var finite: Set<Value.Place> = []
  /// Shape arithmetic that free axes keep from being constant.
  private var partials: [Value.Place: PartialIntegers] = [:]

  init(
    opset: Int, functions: Set<String>, files: TensorFiles, weights: [String: Tensor] = [:],
    limits: ONNXLimits
  ) {
    self.opset = opset
    self.weights = weights
    self.functions = functions
    self.files = files
    self.limits = limits
    foldedBytesLeft = limits.foldedBytes
  }

  /// Reads inputs, nodes and outputs.
  /// - Parameters:
  ///   - settings: inputs that become constants of these values, and constants in the place of
  ///     values that are computed.
  ///   - inputs: values that are inputs beside those of the graph.
  /// - Returns: names of the inputs that have a default and became constants.
  func build(
    _ source: ONNXGraph, settings: [String: ONNXChanges.Setting] = [:],
    inputs: [(name: String, type: ValueType)] = []
  ) throws(QMError) -> [String] {
    guard max(source.inputs.count, source.outputs.count) <= limits.ports else {
      throw .unsupported("more than \(limits.ports) inputs or outputs")
    }
    guard source.sparseInitializerCount == 0 else {
      throw .unsupported("sparse initializers; store the weights densely")
    }
    guard !source.outputs.isEmpty else { throw .malformed("the graph has no outputs") }
    var defined: Set<String> = []
    for tensor in source.initializers {
      guard defined.insert(tensor.name).inserted else {
        throw .malformed("two initializers are named '\(tensor.name.abbreviated)'")
      }
      initializers[tensor.name] = try elements(of: tensor)
    }
    var defaulted: [String] = []
    var inputNames: Set<String> = []
    for input in inputs {
      guard inputNames.insert(input.name).inserted else {
        throw .usage("input '\(input.name.abbreviated)' is given twice")
      }
      try addInput(name: input.name, input.type)
      defined.insert(input.name)
      initializers[input.name] = nil
    }
    var unset = settings
    for input in source.inputs {
      guard inputNames.insert(input.name).inserted else {
        if inputs.contains(where: { $0.name == input.name }) { continue }
        throw .malformed("two inputs are named '\(input.name.abbreviated)'")
      }
      if let setting = unset.removeValue(forKey: input.name) {
        defined.insert(input.name)
        initializers[input.name] = .success(try tensor(setting, for: input))
        continue
      }
      if defined.contains(input.name) {
        defaulted.append(input.name)
        continue
      }
      defined.insert(input.name)
      try addInput(input)
    }
    for (name, setting) in unset {
      guard case .tensor(let tensor) = setting else {
        throw .usage("no value is named '\(name.abbreviated)'")
      }
      defined.insert(name)
      initializers[name] = .success(tensor)
    }
    let nodes = try NodeOrder.sorted(source.nodes, defined: defined)
    usedNames.formUnion(source.namesRead)
    for output in source.outputs { usedNames.insert(output.name) }
    let needed = source.namesNeeded(for: source.outputs.map(\.name))
    /// What nodes would give that cannot be read and that no output needs.
    var skipped: Set<String> = []
    for node in nodes {
      let isNeeded = node.outputs.contains(where: needed.contains)
      guard isNeeded || skipped.isDisjoint(with: node.namesRead) else {
        skipped.formUnion(node.outputs)
        continue
      }
      do throws(QMError) { try read(node) } catch {
        guard !isNeeded, error.code == .unsupported else { throw error }
        skipped.formUnion(node.outputs)
      }
    }
    for output in source.outputs { try addOutput(output) }
    return defaulted
  }

  /// - Throws: `usage` if a value given for an input does not fit it.
  private func tensor(
    _ setting: ONNXChanges.Setting, for input: ONNXValueInfo
  ) throws(QMError) -> Tensor {
    try within(.value(input.name)) { () throws(QMError) in
      guard let type = input.type else { throw .usage("the input is not a tensor") }
      let axes = type.axes.map { $0.map { $0 == .free("?") ? .free("") : $0 } }
      return try setting.tensor(ElementType(onnx: type.dataType), Shape(axes ?? []))
    }
  }

  /// The outputs of a graph that stands in a node, its nodes added as if they stood there. It reads
  /// values of the graphs around it; its own names end with it.
  func inline(_ source: ONNXGraph) throws(QMError) -> [Value] {
    guard source.inputs.isEmpty, source.sparseInitializerCount == 0 else {
      throw .unsupported("a branch with inputs or sparse initializers")
    }
    let outer = (values, initializers, usedNames)
    defer { (values, initializers, usedNames) = outer }
    for tensor in source.initializers {
      initializers[tensor.name] = try elements(of: tensor)
      values[tensor.name] = nil
    }
    var own: Set<String> = []
    for node in source.nodes { own.formUnion(node.outputs) }
    let known = Set(values.keys).union(initializers.keys).subtracting(own)
    let nodes = try NodeOrder.sorted(source.nodes, defined: known)
    usedNames = source.namesRead.union(source.outputs.map(\.name))
    for node in nodes {
      do { try read(node) } catch {
        throw QMError(
          error.code, "in its branch: \(error.statement)", remedies: error.remedies)
      }
    }
    var results: [Value] = []
    for output in source.outputs {
      guard let value = try value(named: output.name) else {
        throw QMError.malformed("the branch does not produce it").within(.value(output.name))
      }
      results.append(value)
    }
    return results
  }

  /// A tensor that contradicts itself is an error at once; one of a type that is not read only
  /// where it is used.
  private func elements(of tensor: ONNXTensor) throws(QMError) -> Result<Tensor, QMError> {
    do { return .success(try files.tensor(tensor)) } catch {
      guard error.code == .unsupported else { throw error }
      return .failure(error)
    }
  }

  private func addInput(_ input: ONNXValueInfo) throws(QMError) {
    try within(.value(input.name)) { () throws(QMError) in
      guard let type = input.type else {
        throw .unsupported("the input is not a tensor")
      }
      let elementType = try ElementType(onnx: type.dataType)
      guard let axes = type.axes else {
        throw .unsupported("the input has no shape; its number of axes must be known")
      }
      guard axes.count <= limits.axes else {
        throw .unsupported("\(axes.count) axes; at most \(limits.axes) can be read")
      }
      // An axis of its own gets a name of its own: what follows from it stays comparable. Some
      // exporters write one word for every axis they do not know.
      let named = axes.enumerated().map { index, axis in
        ["", "?", "None", "unk", "-1"].contains { axis == .free($0) }
          ? .free("\(input.name.abbreviated).\(index)") : axis
      }
      try addInput(name: input.name, ValueType(elementType, Shape(named)))
    }
  }

  private func addInput(name: String, _ type: ValueType) throws(QMError) {
    try checkSize(type)
    let id = try graph.addInput(name: name, type)
    values[name] = Value(place: .graph(id), type: type.elementType)
  }

  private func addOutput(_ output: ONNXValueInfo) throws(QMError) {
    try within(.value(output.name)) { () throws(QMError) in
      guard let value = try value(named: output.name) else {
        throw .malformed("the output is produced by no node")
      }
      guard let type = output.type else {
        return try graph.addOutput(name: output.name, id(of: value))
      }
      let elementType = try ElementType(onnx: type.dataType)
      guard elementType == value.type else {
        throw .malformed("the output is declared \(elementType) and computed as \(value.type)")
      }
      var place = value.place
      if self.type(of: value).elementType != elementType {
        guard elementType.isFloatingPoint else {
          throw .unsupported("codes of QuantizeLinear leave the graph", remedies: .cutBefore)
        }
        place = try append(
          .cast(Cast(to: elementType)), name: output.name, [value], outputNames: [output.name])[0]
      }
      try graph.addOutput(name: output.name, id(of: Value(place: place, type: elementType)))
    }
  }

  private func read(_ node: ONNXNode) throws(QMError) {
    do {
      try NodeReader(node: node, builder: self).read()
    } catch {
      // The graph names its own operation; the user knows ONNX's.
      let inner = error.context.filter { if case .node = $0 { false } else { true } }
      throw QMError(error.code, error.message, remedies: error.remedies, context: inner).within(
        .node(name: node.label, operation: "\(node.operation.abbreviated), opset \(opset)"))
    }
  }

  // MARK: For the operators

  /// Type in the graph.
  func type(of value: Value) -> ValueType {
    switch value.place {
    case .graph(let id): graph[id].type
    case .constant(let index): constants[index].tensor.type
    }
  }

  /// The elements, where the value is a constant.
  func constant(of value: Value) -> Tensor? {
    if case .constant(let index) = value.place { constants[index].tensor } else { nil }
  }

  func name(of value: Value) -> String {
    switch value.place {
    case .graph(let id): graph[id].name
    case .constant(let index): constants[index].name
    }
  }

  /// The value that the file calls `name`; nil if nothing defines it.
  func value(named name: String) throws(QMError) -> Value? {
    if let value = values[name] { return value }
    guard let initializer = initializers[name] else { return nil }
    let value = try addGivenConstant(name: name, try initializer.get())
    values[name] = value
    return value
  }

  /// A constant that stands in the file.
  func addGivenConstant(name: String, _ tensor: Tensor) throws(QMError) -> Value {
    foldedBytesLeft += 4 * tensor.byteCount
    guard let other = weights[name] else { return addConstant(name: name, tensor) }
    let replacement = try within(.value(name)) { () throws(QMError) -> Tensor in
      guard other.shape == tensor.shape else {
        throw .invalidInput("its new weights have extents \(other.shape), expected \(tensor.shape)")
      }
      return try other.converted(to: tensor.elementType)
    }
    return addConstant(name: name, replacement)
  }

  func define(_ name: String, _ value: Value) { values[name] = value }

  /// Whether a node or the caller reads the value.
  func isUsed(_ name: String) -> Bool { !name.isEmpty && usedNames.contains(name) }

  /// The place of the first element of a float32 constant that is no finite number.
  func firstNonFinite(in value: Value) -> Int? {
    guard let tensor = constant(of: value), tensor.elementType == .float32,
      finite.insert(value.place).inserted
    else { return nil }
    let index = tensor.withElements(as: Float.self) { elements in
      elements.firstIndex { !$0.isFinite }
    }
    if index != nil { finite.remove(value.place) }
    return index
  }

  /// Says by which codes a constant stands in the file.
  func attach(_ codes: Plan.Weights, to value: Value) {
    if case .constant(let index) = value.place { constants[index].codes = codes }
  }

  func addConstant(name: String, _ tensor: Tensor) -> Value {
    constants.append(Constant(name: name, tensor: tensor))
    return Value(place: .constant(constants.count - 1), type: tensor.elementType)
  }

  /// Adds a node, or its results where all inputs are constants.
  func append(
    _ operation: Operation, name: String, _ given: [Value?], outputNames: [String]
  ) throws(QMError) -> [Value.Place] {
    let inputs = try withKnownExtents(operation, given, name: name)
    let operands = inputs.map { $0.map { Operand(type(of: $0), constant: constant(of: $0)) } }
    let types = try operation.body.outputTypes(for: operands)
    for type in types { try checkSize(type) }
    if let places = try fold(operation, inputs, operands, types, name: name, outputNames) {
      return places
    }
    let partial = try partialResult(operation, inputs, types)
    if let partial, let tensor = try partial.tensor(types[0].elementType, types[0].shape.extents!) {
      return [addConstant(name: outputNames.first ?? name, tensor).place]
    }
    let ids = inputs.map { $0.map(id) }
    let places = try graph.append(operation, name: name, ids, outputNames: outputNames)
      .map(Value.Place.graph)
    if let partial { partials[places[0]] = partial }
    return places
  }

  /// The elements of an integer value as far as they are known.
  func partial(of value: Value) -> PartialIntegers? {
    constant(of: value).flatMap { PartialIntegers($0) } ?? partials[value.place]
  }

  /// What is known of integers that an operation computes; nil where it has several results.
  private func partialResult(
    _ operation: Operation, _ inputs: [Value?], _ types: [ValueType]
  ) throws(QMError) -> PartialIntegers? {
    guard types.count == 1 else { return nil }
    let operands = inputs.map { input in
      input.map {
        PartialIntegers.Operand(
          type: type(of: $0), constant: constant(of: $0), partial: partial(of: $0))
      }
    }
    return try PartialIntegers(operation, operands, result: types[0])
  }

  /// The inputs with computed extents replaced by constants that say the same of every run.
  private func withKnownExtents(
    _ operation: Operation, _ inputs: [Value?], name: String
  ) throws(QMError) -> [Value?] {
    guard inputs.count == 2, let data = inputs[0], let extents = inputs[1],
      constant(of: extents) == nil, let partial = partials[extents.place]
    else { return inputs }
    let known: [Int]? =
      switch operation {
      case .reshape(let reshape):
        partial.reshaping(type(of: data).shape, zeroIsZero: reshape.zeroIsZero)
      case .expand: partial.expanding(type(of: data).shape)
      default: nil
      }
    guard let known else { return inputs }
    let tensor = try Tensor([known.count], known.map(Int64.init))
    return [data, addConstant(name: "\(name).extents", tensor)]
  }

  private func id(of value: Value) -> Graph.ValueID {
    switch value.place {
    case .graph(let id): return id
    case .constant(let index):
      if let id = constants[index].id { return id }
      let id = graph.addConstant(
        name: constants[index].name, constants[index].tensor, codes: constants[index].codes)
      constants[index].id = id
      return id
    }
  }

  /// The results of an operation on constants; nil where an input is none, or the results are big
  /// and nothing but a pattern.
  private func fold(
    _ operation: Operation, _ inputs: [Value?], _ operands: [Operand?], _ types: [ValueType],
    name: String, _ outputNames: [String]
  ) throws(QMError) -> [Value.Place]? {
    var byteCount = 0
    var tensors: [Tensor?] = []
    for operand in operands {
      guard let operand else {
        tensors.append(nil)
        continue
      }
      guard let tensor = operand.constant else { return nil }
      tensors.append(tensor)
      byteCount += tensor.byteCount
    }
    let key = FoldKey(operation: operation, inputs: inputs.map { $0?.place })
    if let known = folded[key] { return known }
    // Shape arithmetic has no products; big ones would take longer than reading may.
    guard byteCount <= 1 << 16 || !operation.isProduct else { return nil }
    var resultByteCount = 0
    for type in types {
      guard let extents = type.shape.extents, type.quantization == .none else { return nil }
      // Each is within limits.valueBytes, and there are as many as the node has outputs.
      resultByteCount += try Tensor.byteCount(of: type.elementType, extents)
    }
    guard resultByteCount <= max(1 << 20, 8 * byteCount) else { return nil }
    if !operation.keepsBytes {
      guard resultByteCount <= foldedBytesLeft else { return nil }
      foldedBytesLeft -= resultByteCount
    }
    let results =
      if operation.keepsBytes, let extents = types[0].shape.extents, let tensor = tensors[0] {
        [try tensor.reshaped(extents)]
      } else {
        try operation.evaluate(tensors)
      }
    var places: [Value.Place] = []
    for (index, tensor) in results.enumerated() {
      let given = index < outputNames.count ? outputNames[index] : name
      let kept = operation.keepsName ? inputs.first?.map { self.name(of: $0) } : nil
      let value = addConstant(name: kept ?? given, tensor)
      if case .transpose(let transpose) = operation, case .constant(let source)? = inputs[0]?.place,
        let codes = constants[source].codes
      {
        attach(try codes.transposed(transpose.permutation), to: value)
      }
      places.append(value.place)
    }
    folded[key] = places
    return places
  }

  private func checkSize(_ type: ValueType) throws(QMError) {
    // An extent of 0 hides none beside it.
    let extents = type.shape.axes.map { $0.extent.map { $0 == 0 ? 1 : $0 } ?? 1 }
    guard let count = Shape.elementCount(of: extents),
      count <= limits.valueBytes / type.elementType.byteCount
    else {
      throw .unsupported("a value of type \(type) takes more than \(limits.valueBytes) bytes")
    }
  }
}

extension Operation {
  /// Whether the result on a constant is that constant in another form, to be called as before.
  fileprivate var keepsName: Bool {
    switch self {
    case .cast, .reshape, .flatten, .squeeze, .unsqueeze, .transpose, .expand, .identity, .unary:
      true
    default: false
    }
  }
}

extension Operation {
  /// Whether the time it takes is more than proportional to its operands.
  fileprivate var isProduct: Bool {
    switch self {
    case .convolution, .matrixMultiply, .pooling: true
    default: false
    }
  }

  /// Whether the result has the bytes of the first input, under other extents.
  fileprivate var keepsBytes: Bool {
    switch self {
    case .reshape, .flatten, .squeeze, .unsqueeze, .identity: true
    default: false
    }
  }
}

extension ONNXNode {
  /// The name, or what it produces: exporters leave names out.
  var label: String {
    name.isEmpty ? outputs.first { !$0.isEmpty } ?? operation : name
  }
}
