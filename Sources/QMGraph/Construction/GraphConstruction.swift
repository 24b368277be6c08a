import QMFormat
import QMOperations
import QMTensor

/// Builds a graph for a reader of network files.
///
/// The same rules apply to every file format:
/// - **Constants are folded.** A node whose inputs are all constants is computed when it is
///   appended, so shapes and weights are known however the file computes them. A constant enters
///   the graph when a node of the graph reads it.
/// - **Shape arithmetic is evaluated as far as possible.** Integers computed from shapes with
///   dynamic axes are ``PartialIntegers``; a Reshape or Expand whose shape they determine gets it
///   as a constant.
/// - **Codes are integers.** An operation that neither moves codes nor dequantizes them reads them
///   as the integers that the file declares (``integers(_:)``).
/// - **Float arithmetic is float32.** float16, bfloat16 and float64 values are converted where an
///   operation reads them (``inFloat32(_:name:)``), and back at the outputs of the graph.
public struct GraphConstruction {
  /// A value of the network that is being read.
  public struct Value: Hashable, Sendable {
    /// Where the value is kept.
    public enum Place: Hashable, Sendable {
      /// In the graph.
      case graph(Graph.ValueID)
      /// Index among the constants that were read or folded; they are not in the graph until a node
      /// reads them.
      case constant(Int)
    }
    /// Where the value is kept.
    public let place: Place
    /// The element type that the file declares. In the graph it may be float32 instead.
    public let type: ElementType

    /// A value at `place` that the file declares to have elements of `type`.
    public init(place: Place, type: ElementType) {
      self.place = place
      self.type = type
    }
  }

  private struct Constant {
    let name: String
    let tensor: Tensor
    /// How the file stores the elements, if as codes.
    var stored: StoredCodes?
    /// What was done to the file's constant of this name.
    var steps: [ConstantStep] = []
    /// Set once a node of the graph reads the constant.
    var id: Graph.ValueID?
  }

  private struct FoldKey: Hashable {
    let operation: Operation
    let inputs: [Value.Place?]
  }

  /// The inputs, and the nodes that could not be folded.
  public private(set) var graph = Graph()
  private var constants: [Constant] = []
  private var folder: ConstantFolder
  /// Results of folded nodes, so that equal nodes share their constants.
  private var folded: [FoldKey: [Value.Place]] = [:]
  /// Codes that were read as integers, by place of the codes.
  var knownIntegers: [Value.Place: Value] = [:]
  /// Results of shape arithmetic that are not constant because of dynamic axes.
  private var partials: [Value.Place: PartialIntegers] = [:]
  private let valueByteLimit: Int

  /// An empty graph with limits.
  /// - Parameters:
  ///   - valueByteLimit: bytes of one value, dynamic axes counted as 1.
  ///   - foldedByteLimit: bytes of all folded constants, in addition to four times the bytes of the
  ///     constants in the file.
  public init(valueByteLimit: Int, foldedByteLimit: Int = ConstantFolder.allowance) {
    self.valueByteLimit = valueByteLimit
    folder = ConstantFolder(for: .graph, byteLimit: foldedByteLimit)
  }

  // MARK: Properties of values

  /// The type that the value has in the graph.
  public func type(of value: Value) -> ValueType {
    switch value.place {
    case .graph(let id): graph[id].type
    case .constant(let index): constants[index].tensor.type
    }
  }

  /// The elements; nil unless the value is a constant.
  public func constant(of value: Value) -> Tensor? {
    if case .constant(let index) = value.place { constants[index].tensor } else { nil }
  }

  /// The name of a value, which is part of the names of nodes derived from it.
  public func name(of value: Value) -> String {
    switch value.place {
    case .graph(let id): graph[id].name
    case .constant(let index): constants[index].name
    }
  }

  /// The elements of an integer value as far as they are known; nil if nothing is known.
  public func partial(of value: Value) -> PartialIntegers? {
    constant(of: value).flatMap { PartialIntegers($0) } ?? partials[value.place]
  }

  // MARK: Inputs, constants, outputs

  /// Adds an input of the graph.
  /// - Throws: `malformed` if the name is taken; `unsupported` if the value is too large.
  public mutating func addInput(name: String, _ type: ValueType) throws(QMError) -> Value {
    try checkSize(type)
    return Value(place: .graph(try graph.addInput(name: name, type)), type: type.elementType)
  }

  /// Adds a constant that the file holds. It raises the limit of folded bytes.
  public mutating func addGivenConstant(name: String, _ tensor: Tensor) -> Value {
    folder.addGivenConstant(tensor)
    return addConstant(name: name, tensor)
  }

  /// Adds a constant that the reader made.
  public mutating func addConstant(name: String, _ tensor: Tensor) -> Value {
    constants.append(Constant(name: name, tensor: tensor))
    return Value(place: .constant(constants.count - 1), type: tensor.elementType)
  }

  /// Adds a constant of another graph, with what is known of it; nil if the value is none.
  public mutating func addCopy(of value: Graph.Value) -> Value? {
    guard let tensor = value.constant else { return nil }
    constants.append(
      Constant(name: value.name, tensor: tensor, stored: value.stored, steps: value.steps))
    return Value(place: .constant(constants.count - 1), type: tensor.elementType)
  }

  /// Records how the file stores a constant.
  public mutating func attach(_ stored: StoredCodes, to value: Value) {
    if case .constant(let index) = value.place { constants[index].stored = stored }
  }

  /// Makes a value an output of the graph, cast to the element type that the file declares. Codes
  /// become integers.
  /// - Throws: `malformed` if another output has the name.
  public mutating func addOutput(name: String, _ given: Value) throws(QMError) {
    let value = try integers(given)
    var place = value.place
    if type(of: value).elementType != value.type {
      place = try append(
        .cast(Cast(to: value.type)), name: name, [value], outputNames: [name])[0]
    }
    let output = Value(place: place, type: value.type)
    try graph.addOutput(name: name, id(of: output))
  }

  private mutating func id(of value: Value) -> Graph.ValueID {
    switch value.place {
    case .graph(let id): return id
    case .constant(let index):
      if let id = constants[index].id { return id }
      let id = graph.addConstant(
        name: constants[index].name, constants[index].tensor, stored: constants[index].stored,
        steps: constants[index].steps)
      constants[index].id = id
      return id
    }
  }

  // MARK: Nodes

  /// Adds a node, or its results as constants if all inputs are constants.
  /// - Throws: the error of the operation's type rule; `unsupported` if a result is too large.
  public mutating func append(
    _ operation: Operation, name: String, _ given: [Value?], outputNames: [String]
  ) throws(QMError) -> [Value.Place] {
    try add(
      operation, name: name, withIntegers(operation, given), outputNames: outputNames)
  }

  /// As ``append(_:name:_:outputNames:)``, with codes as they are.
  mutating func add(
    _ operation: Operation, name: String, _ given: [Value?], outputNames: [String]
  ) throws(QMError) -> [Value.Place] {
    let inputs = try withKnownShape(operation, given, name: name)
    let operands = inputs.map { $0.map { Operand(type(of: $0), constant: constant(of: $0)) } }
    let types = try operation.body.outputTypes(for: operands)
    for type in types { try checkSize(type) }
    if let places = try fold(operation, inputs, operands, name: name, outputNames) {
      return places
    }
    let partial = try partialResult(operation, inputs, types)
    if let partial, let extents = types[0].shape.extents,
      let tensor = try partial.tensor(types[0].elementType, extents)
    {
      return [addConstant(name: outputNames.first ?? name, tensor).place]
    }
    var ids: [Graph.ValueID?] = []
    for input in inputs { ids.append(input.map { id(of: $0) }) }
    let places = try graph.append(operation, name: name, ids, outputNames: outputNames)
      .map(Value.Place.graph)
    if let partial { partials[places[0]] = partial }
    return places
  }

  /// The value, converted to float32 if it has another float type.
  /// - Parameter name: name of the Cast node.
  public mutating func inFloat32(_ value: Value, name: String) throws(QMError) -> Value {
    let stored = type(of: value).elementType
    guard stored.isFloatingPoint, stored != .float32 else { return value }
    let places = try append(
      .cast(Cast(to: .float32)), name: name, [value], outputNames: [name])
    return Value(place: places[0], type: value.type)
  }

  private func stored(_ value: Value) -> StoredCodes? {
    if case .constant(let index) = value.place { constants[index].stored } else { nil }
  }

  /// The results of an operation on constants; nil if an input is not a constant or a result is too
  /// large.
  private mutating func fold(
    _ operation: Operation, _ inputs: [Value?], _ operands: [Operand?], name: String,
    _ outputNames: [String]
  ) throws(QMError) -> [Value.Place]? {
    let key = FoldKey(operation: operation, inputs: inputs.map { $0?.place })
    if let known = folded[key] { return known }
    guard let results = try folder.results(of: operation, operands) else { return nil }
    let stored = try StoredCodes.moved(
      by: operation, operands.map { $0?.constant }, inputs.map { $0.flatMap(self.stored) })
    var places: [Value.Place] = []
    for (index, tensor) in results.enumerated() {
      let given = index < outputNames.count ? outputNames[index] : name
      let kept = operation.body.keepsName ? inputs.first?.map { self.name(of: $0) } : nil
      let value = addConstant(name: kept ?? given, tensor)
      if let stored { attach(stored[index], to: value) }
      if kept != nil, case .constant(let source)? = inputs.first??.place,
        case .constant(let result) = value.place
      {
        constants[result].steps =
          constants[source].steps
          + [ConstantStep(operation: operation, shape: constants[source].tensor.shape)]
      }
      places.append(value.place)
    }
    folded[key] = places
    return places
  }

  /// The elements of an integer result as far as they are known; nil for several results.
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

  /// The inputs of a Reshape or Expand with the computed shape replaced by a constant, if one
  /// constant means the same in every run.
  private mutating func withKnownShape(
    _ operation: Operation, _ inputs: [Value?], name: String
  ) throws(QMError) -> [Value?] {
    guard inputs.count == 2, let data = inputs[0], let shape = inputs[1],
      constant(of: shape) == nil, let partial = partials[shape.place]
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

  private func checkSize(_ type: ValueType) throws(QMError) {
    let rank = DecodingLimits.standard.rank
    guard type.shape.rank <= rank else {
      throw .unsupported("a value has \(type.shape.rank) axes, the limit is \(rank)")
    }
    // An extent of 0 counts as 1: the other extents must be in bounds all the same.
    let extents = type.shape.axes.map { $0.extent.map { $0 == 0 ? 1 : $0 } ?? 1 }
    guard let count = Shape.elementCount(of: extents),
      count <= valueByteLimit / type.elementType.byteCount
    else {
      throw .unsupported(
        "a value of type \(type) is larger than the limit of \(valueByteLimit) bytes")
    }
  }
}
