import QMGraph
import QMOperations
import QMTensor

/// Turns the nodes of one ONNX graph into operations, in an order in which they can run.
///
/// It handles what is particular to ONNX: names and their scopes, initializers, defaults and
/// settings of inputs. ``GraphConstruction`` folds constants, evaluates shape arithmetic and makes
/// float32 the only float type of the graph.
final class GraphBuilder {
  typealias Value = GraphConstruction.Value

  var construction: GraphConstruction
  let opset: Int
  let files: TensorFiles
  let limits: ONNXLimits
  /// Elements that replace the file's, by name of the constant.
  private let weights: [String: Tensor]
  /// The builder of the graph around the body of a loop that this one builds.
  private let parent: GraphBuilder?
  /// Values of the parent that the body reads, and the inputs that stand for them, in their order.
  private(set) var captures: [(outer: Value, input: Value)] = []
  /// A named value of the file.
  enum Item {
    case value(Value)
    /// A sequence of tensors. Its length is known while the file is read.
    case sequence([Value])
  }

  private var values: [String: Value] = [:]
  private var sequences: [String: [Value]] = [:]
  /// Iterations of loops that may still be put in place one by one.
  var iterationsLeft = 1 << 14
  /// By name; an error is thrown only when a node reads the initializer.
  private var initializers: [String: Result<Tensor, QMError>] = [:]
  private var usedNames: Set<String> = []
  /// Integers of fewer than 8 bits, which the graph holds as integers of 8 bits.
  private var packed: [Value.Place: PackedIntegers] = [:]
  /// Float types of computed values that are computed in float32.
  private(set) var convertedTypes: Set<ElementType> = []
  private var packedInitializers: [String: PackedIntegers] = [:]
  private var float8Initializers: Set<String> = []
  private var float8: Set<Value.Place> = []
  private var dynamic: [Value.Place: DynamicCodes] = [:]
  private var integerProducts: [Value.Place: IntegerProduct] = [:]
  /// Operands of products of two numbers.
  private var factors: [Value.Place: (Value, Value)] = [:]
  private var finite: Set<Value.Place> = []

  var graph: Graph { construction.graph }

  /// What reading a node adds to. A reading that fails is undone by setting it back.
  struct Contents {
    fileprivate var construction: GraphConstruction
    fileprivate var captures: [(outer: Value, input: Value)]
    fileprivate var values: [String: Value]
    fileprivate var sequences: [String: [Value]]
    fileprivate var packed: [Value.Place: PackedIntegers]
    fileprivate var convertedTypes: Set<ElementType>
    fileprivate var float8: Set<Value.Place>
    fileprivate var dynamic: [Value.Place: DynamicCodes]
    fileprivate var integerProducts: [Value.Place: IntegerProduct]
    fileprivate var factors: [Value.Place: (Value, Value)]
    fileprivate var finite: Set<Value.Place>
  }

  var contents: Contents {
    get {
      Contents(
        construction: construction, captures: captures, values: values, sequences: sequences,
        packed: packed, convertedTypes: convertedTypes, float8: float8, dynamic: dynamic,
        integerProducts: integerProducts, factors: factors, finite: finite)
    }
    set {
      construction = newValue.construction
      captures = newValue.captures
      values = newValue.values
      sequences = newValue.sequences
      packed = newValue.packed
      convertedTypes = newValue.convertedTypes
      float8 = newValue.float8
      dynamic = newValue.dynamic
      integerProducts = newValue.integerProducts
      factors = newValue.factors
      finite = newValue.finite
    }
  }

  init(
    opset: Int, files: TensorFiles, weights: [String: Tensor] = [:], limits: ONNXLimits
  ) {
    self.opset = opset
    self.weights = weights
    parent = nil
    self.files = files
    self.limits = limits
    construction = GraphConstruction(
      valueByteLimit: limits.valueBytes, foldedByteLimit: limits.foldedBytes)
  }

  /// A builder for the body of a loop, which can read the values of `parent`.
  init(within parent: GraphBuilder) {
    opset = parent.opset
    weights = parent.weights
    self.parent = parent
    files = parent.files
    limits = parent.limits
    iterationsLeft = parent.iterationsLeft
    construction = GraphConstruction(
      valueByteLimit: limits.valueBytes, foldedByteLimit: limits.foldedBytes)
  }

  /// Names of all values that a node can read here.
  private var knownNames: Set<String> {
    Set(values.keys).union(sequences.keys).union(initializers.keys)
      .union(parent?.knownNames ?? [])
  }

  /// Reads inputs, nodes and outputs.
  /// - Parameters:
  ///   - settings: constants that replace inputs or computed values, by name.
  ///   - inputs: values that become inputs in addition to those of the graph.
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
    var defined = try addInitializers(of: source)
    let defaulted = try addInputs(of: source, settings, inputs, defining: &defined)
    let nodes = try NodeOrder.sorted(source.nodes, defined: defined)
    usedNames.formUnion(source.namesRead)
    for output in source.outputs { usedNames.insert(output.name) }
    try read(nodes, needed: source.namesNeeded(for: source.outputs.map(\.name)))
    for output in source.outputs { try addOutput(output) }
    return defaulted
  }

  /// - Returns: the names of the initializers.
  private func addInitializers(of source: ONNXGraph) throws(QMError) -> Set<String> {
    var defined: Set<String> = []
    for tensor in source.initializers {
      guard defined.insert(tensor.name).inserted else {
        throw .malformed("two initializers are named '\(tensor.name.abbreviated)'")
      }
      initializers[tensor.name] = try elements(of: tensor)
      packedInitializers[tensor.name] = PackedIntegers(onnx: tensor.dataType)
      if Float8(onnx: tensor.dataType) != nil { float8Initializers.insert(tensor.name) }
    }
    return defined
  }

  /// - Parameter defined: names of initializers; names of inputs and settings are added.
  /// - Returns: names of the inputs that have a default and became constants.
  private func addInputs(
    of source: ONNXGraph, _ settings: [String: ONNXChanges.Setting],
    _ added: [(name: String, type: ValueType)], defining defined: inout Set<String>
  ) throws(QMError) -> [String] {
    var inputNames: Set<String> = []
    for input in added {
      guard inputNames.insert(input.name).inserted else {
        throw .usage("input '\(input.name.abbreviated)' is given twice")
      }
      try addInput(name: input.name, input.type)
      defined.insert(input.name)
      initializers[input.name] = nil
    }
    var unset = settings
    var defaulted: [String] = []
    for input in source.inputs {
      guard inputNames.insert(input.name).inserted else {
        if added.contains(where: { $0.name == input.name }) { continue }
        throw .malformed("two inputs are named '\(input.name.abbreviated)'")
      }
      if let setting = unset.removeValue(forKey: input.name) {
        defined.insert(input.name)
        initializers[input.name] = .success(try tensor(setting, for: input))
        packedInitializers[input.name] = input.type.flatMap { PackedIntegers(onnx: $0.dataType) }
      } else if defined.insert(input.name).inserted {
        try addInput(input)
      } else {
        defaulted.append(input.name)
      }
    }
    for (name, setting) in unset {
      guard case .tensor(let tensor) = setting else {
        throw .usage("no value is named '\(name.abbreviated)'")
      }
      defined.insert(name)
      initializers[name] = .success(tensor)
    }
    return defaulted
  }

  /// Reads nodes in their order. Unsupported nodes on which no output depends are skipped.
  private func read(_ nodes: [ONNXNode], needed: Set<String>) throws(QMError) {
    /// Outputs of the skipped nodes.
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
  }

  /// - Throws: `usage` if a setting does not have the input's type and shape.
  private func tensor(
    _ setting: ONNXChanges.Setting, for input: ONNXValueInfo
  ) throws(QMError) -> Tensor {
    try within(.value(input.name)) { () throws(QMError) in
      guard let type = input.type else { throw .usage("the input is not a tensor") }
      let axes = type.axes.map { $0.map { $0 == .free("?") ? .free("") : $0 } }
      return try setting.tensor(.stored(onnx: type.dataType), Shape(axes ?? []))
    }
  }

  /// Adds the nodes of a graph in place of the node that holds it, once for each call of the function
  /// that `body` gets. The graph can read values of the enclosing graphs; its own names end with it.
  /// - Parameters:
  ///   - what: the graph, for messages: "a branch".
  ///   - body: calls its parameter with a value for each input of the graph; it returns the graph's
  ///     outputs.
  func inlining<R>(
    _ source: ONNXGraph, as what: String,
    _ body: (_ add: ([Item]) throws(QMError) -> [Item]) throws(QMError) -> R
  ) throws(QMError) -> R {
    guard source.sparseInitializerCount == 0 else {
      throw .unsupported("\(what) with sparse initializers cannot be read")
    }
    let outer = (
      values, sequences, initializers, packedInitializers, float8Initializers, usedNames
    )
    defer {
      (values, sequences, initializers, packedInitializers, float8Initializers, usedNames) = outer
    }
    for tensor in source.initializers {
      initializers[tensor.name] = try elements(of: tensor)
      packedInitializers[tensor.name] = PackedIntegers(onnx: tensor.dataType)
      float8Initializers.remove(tensor.name)
      if Float8(onnx: tensor.dataType) != nil { float8Initializers.insert(tensor.name) }
      values[tensor.name] = nil
    }
    var own: Set<String> = []
    for node in source.nodes { own.formUnion(node.outputs) }
    var known = knownNames.subtracting(own)
    known.formUnion(source.inputs.map(\.name))
    let nodes = try NodeOrder.sorted(source.nodes, defined: known)
    usedNames = source.namesRead.union(source.outputs.map(\.name))
    return try body { (arguments) throws(QMError) in
      guard arguments.count == source.inputs.count else {
        throw .malformed(
          "\(what) has \(source.inputs.count) inputs, expected \(arguments.count)")
      }
      for (input, argument) in zip(source.inputs, arguments) { define(input.name, argument) }
      for node in nodes {
        do throws(QMError) { try read(node) } catch {
          throw QMError(
            error.code, "in \(what): \(error.statement)", remedies: error.remedies)
        }
      }
      var results: [Item] = []
      for output in source.outputs {
        guard let item = try item(named: output.name) else {
          throw QMError.malformed("no node of \(what) computes this output").within(
            .value(output.name))
        }
        results.append(item)
      }
      return results
    }
  }

  /// A malformed tensor throws at once; a tensor of an unsupported type only when a node reads it.
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
      let elementType = try ElementType.stored(onnx: type.dataType)
      guard let axes = type.axes else {
        throw .unsupported("the input has no shape; its number of axes must be known")
      }
      guard axes.count <= limits.axes else {
        throw .unsupported("\(axes.count) axes; at most \(limits.axes) can be read")
      }
      // Each unnamed axis gets its own name, so that axes derived from it can be compared. Some
      // exporters write the same placeholder for every unknown axis.
      let named = axes.enumerated().map { index, axis in
        ["", "?", "None", "unk", "-1"].contains { axis == .free($0) }
          ? .free("\(input.name.abbreviated).\(index)") : axis
      }
      try addInput(name: input.name, ValueType(elementType, Shape(named)))
      if let packed = PackedIntegers(onnx: type.dataType), let value = values[input.name] {
        setPacked(packed, value)
      }
    }
  }

  private func addInput(name: String, _ type: ValueType) throws(QMError) {
    values[name] = try construction.addInput(name: name, type)
  }

  private func addOutput(_ output: ONNXValueInfo) throws(QMError) {
    try within(.value(output.name)) { () throws(QMError) in
      guard let value = try value(named: output.name) else {
        throw .malformed("no node computes this output")
      }
      guard let type = output.type else {
        // An intermediate value has no declared type; it gets the type that the graph computes.
        // In two steps, because the second one changes what the first would have read from.
        let integers = try construction.integers(value)
        let computed = construction.type(of: integers).elementType
        return try construction.addOutput(
          name: output.name, Value(place: value.place, type: computed))
      }
      let elementType = try ElementType.stored(onnx: type.dataType)
      guard elementType == value.type else {
        throw .malformed("the output is declared \(elementType) and computed as \(value.type)")
      }
      try construction.addOutput(name: output.name, value)
    }
  }

  private func read(_ node: ONNXNode) throws(QMError) {
    do {
      try NodeReader(node: node, builder: self).read()
    } catch {
      // The user knows ONNX's operator, not the operation of the graph.
      let inner = error.context.filter { if case .node = $0 { false } else { true } }
      throw QMError(error.code, error.message, remedies: error.remedies, context: inner).within(
        .node(
          name: node.label,
          operation: "\(node.operation.abbreviated), opset \(node.opset ?? opset)"))
    }
  }

  // MARK: For the operators

  /// The value with this name in the file; nil if nothing defines it.
  func value(named name: String) throws(QMError) -> Value? {
    if let value = values[name] { return value }
    guard let initializer = initializers[name] else { return try captured(name) }
    let value = try addGivenConstant(name: name, try initializer.get())
    values[name] = value
    if let type = packedInitializers[name] { setPacked(type, value) }
    if float8Initializers.contains(name) { setFloat8(value) }
    return value
  }

  /// The value of a parent with this name.
  private func captured(_ name: String) throws(QMError) -> Value? {
    guard let item = try parent?.item(named: name) else { return nil }
    guard case .value(let outer) = item else {
      throw .unsupported(
        "'\(name.abbreviated)' is a sequence, which a loop of unknown length cannot read")
    }
    let value = try capture(outer)
    values[name] = value
    return value
  }

  /// The value in the body that stands for one of the parent.
  func capture(_ given: Value) throws(QMError) -> Value {
    guard let parent else { return given }
    let plain = try parent.construction.integers(given)
    let name = parent.construction.name(of: plain)
    let outer = try parent.construction.inFloat32(plain, name: "\(name)/float32")
    if let tensor = parent.construction.constant(of: outer) {
      let constant = construction.addConstant(name: name, tensor)
      return Value(place: constant.place, type: given.type)
    }
    if let known = captures.first(where: { $0.outer == outer }) { return known.input }
    let input = try construction.addInput(
      name: "\(name)/captured\(captures.count)", parent.construction.type(of: outer))
    let value = Value(place: input.place, type: given.type)
    captures.append((outer, value))
    return value
  }

  /// The value or sequence with this name in the file; nil if nothing defines it.
  func item(named name: String) throws(QMError) -> Item? {
    if let sequence = sequences[name] { return .sequence(sequence) }
    return try value(named: name).map(Item.value)
  }

  /// Adds a constant that the file holds, or its replacement from `weights`.
  func addGivenConstant(name: String, _ tensor: Tensor) throws(QMError) -> Value {
    guard let other = weights[name] else {
      return construction.addGivenConstant(name: name, tensor)
    }
    let replacement = try within(.value(name)) { () throws(QMError) -> Tensor in
      guard other.shape == tensor.shape else {
        throw .invalidInput("the new weights have shape \(other.shape), expected \(tensor.shape)")
      }
      return try other.converted(to: tensor.elementType)
    }
    return construction.addGivenConstant(name: name, replacement)
  }

  /// The type of integers of fewer than 8 bits; nil for any other value.
  func packedType(of value: Value) -> PackedIntegers? { packed[value.place] }

  func setPacked(_ type: PackedIntegers, _ value: Value) { packed[value.place] = type }

  /// Whether a constant has elements of ``Float8`` in the file; they are float32 here.
  func isFloat8(_ value: Value) -> Bool { float8.contains(value.place) }

  /// Scale and zero point of codes of a DynamicQuantizeLinear; nil for any other value.
  func dynamicCodes(_ value: Value) -> DynamicCodes? { dynamic[value.place] }

  func setDynamic(_ codes: DynamicCodes, _ value: Value) { dynamic[value.place] = codes }

  /// The product of integers whose sums a value is; nil for any other value.
  func integerProduct(_ value: Value) -> IntegerProduct? { integerProducts[value.place] }

  func setIntegerProduct(_ product: IntegerProduct, _ value: Value) {
    integerProducts[value.place] = product
  }

  /// What a value is the product of; nil if that is not known.
  func factors(_ value: Value) -> (Value, Value)? { factors[value.place] }

  func setFactors(_ left: Value, _ right: Value, of value: Value) {
    factors[value.place] = (left, right)
  }

  func setFloat8(_ value: Value) { float8.insert(value.place) }

  func define(_ name: String, _ item: Item) {
    switch item {
    case .value(let value): define(name, value)
    case .sequence(let elements):
      values[name] = nil
      sequences[name] = elements
    }
  }

  func define(_ name: String, _ value: Value) {
    values[name] = value
    sequences[name] = nil
    if case .graph = value.place, value.type.isFloatingPoint, value.type != .float32 {
      convertedTypes.insert(value.type)
    }
  }

  /// Whether a node reads the value or it is an output.
  func isUsed(_ name: String) -> Bool { !name.isEmpty && usedNames.contains(name) }

  /// Index of the first element of a float32 constant that is NaN or infinite. A constant that was
  /// found finite is not searched again.
  func firstNonFinite(in value: Value) -> Int? {
    guard let tensor = construction.constant(of: value), tensor.elementType == .float32,
      finite.insert(value.place).inserted
    else { return nil }
    let index = tensor.withElements(as: Float.self) { elements in
      elements.firstIndex { !$0.isFinite }
    }
    if index != nil { finite.remove(value.place) }
    return index
  }
}

extension ONNXNode {
  /// The name; the name of its first output if it has none, as some exporters write it.
  var label: String {
    name.isEmpty ? outputs.first { !$0.isEmpty } ?? operation : name
  }
}
