import QMOperations
import QMTensor

/// A graph while a reader of network files builds it.
///
/// Every reader gets the same rules:
/// - **Constants are folded.** A node whose inputs are all known is computed when it is appended, so
///   that shapes and weights are known however the file spells them. A constant enters the graph when
///   a node of the graph reads it.
/// - **Shape arithmetic is followed as far as it is known.** Integers computed from shapes with free
///   axes are ``PartialIntegers``; a Reshape or Expand that they decide gets a constant shape.
/// - **Float arithmetic is float32.** float16, bfloat16 and float64 values are converted where they
///   enter an operation (``inFloat32(_:name:)``) and back where they leave the graph.
public struct GraphConstruction {
  /// A value of the network that is read.
  public struct Value: Hashable, Sendable {
    public enum Place: Hashable, Sendable {
      case graph(Graph.ValueID)
      /// Index among the construction's constants, which are not in the graph until a node reads
      /// them.
      case constant(Int)
    }
    public let place: Place
    /// The element type that the file gives the value. In the graph it may be float32 instead.
    public let type: ElementType

    public init(place: Place, type: ElementType) {
      self.place = place
      self.type = type
    }
  }

  private struct Constant {
    let name: String
    let tensor: Tensor
    /// Codes that stand for the elements, where the file has them.
    var codes: QuantizedTensor?
    /// Set once a node of the graph reads it.
    var id: Graph.ValueID?
  }

  private struct FoldKey: Hashable {
    let operation: Operation
    let inputs: [Value.Place?]
  }

  /// What has been appended and could not be folded.
  public private(set) var graph = Graph()
  private var constants: [Constant] = []
  private var folder: ConstantFolder
  /// One operation on the same constants gives the same constants.
  private var folded: [FoldKey: [Value.Place]] = [:]
  /// Shape arithmetic that free axes keep from being constant.
  private var partials: [Value.Place: PartialIntegers] = [:]
  private let valueByteLimit: Int

  /// - Parameters:
  ///   - valueByteLimit: bytes of one value whose shape is known.
  ///   - foldedByteLimit: bytes of all folded constants, beside four times those that are given.
  public init(valueByteLimit: Int, foldedByteLimit: Int = ConstantFolder.allowance) {
    self.valueByteLimit = valueByteLimit
    folder = ConstantFolder(for: .graph, byteLimit: foldedByteLimit)
  }

  // MARK: Questions

  /// The type that the value has in the graph.
  public func type(of value: Value) -> ValueType {
    switch value.place {
    case .graph(let id): graph[id].type
    case .constant(let index): constants[index].tensor.type
    }
  }

  /// The elements, where the value is a constant.
  public func constant(of value: Value) -> Tensor? {
    if case .constant(let index) = value.place { constants[index].tensor } else { nil }
  }

  public func name(of value: Value) -> String {
    switch value.place {
    case .graph(let id): graph[id].name
    case .constant(let index): constants[index].name
    }
  }

  /// The elements of an integer value as far as they are known.
  public func partial(of value: Value) -> PartialIntegers? {
    constant(of: value).flatMap { PartialIntegers($0) } ?? partials[value.place]
  }

  // MARK: Inputs, constants, outputs

  /// - Throws: `malformed` if the name is taken; `unsupported` for a value that is too large.
  public mutating func addInput(name: String, _ type: ValueType) throws(QMError) -> Value {
    try checkSize(type)
    return Value(place: .graph(try graph.addInput(name: name, type)), type: type.elementType)
  }

  /// A constant that stands in the file.
  public mutating func addGivenConstant(name: String, _ tensor: Tensor) -> Value {
    folder.addGivenConstant(tensor)
    return addConstant(name: name, tensor)
  }

  /// A constant that the reader made.
  public mutating func addConstant(name: String, _ tensor: Tensor) -> Value {
    constants.append(Constant(name: name, tensor: tensor))
    return Value(place: .constant(constants.count - 1), type: tensor.elementType)
  }

  /// Says by which codes a constant stands in the file.
  public mutating func attach(_ codes: QuantizedTensor, to value: Value) {
    if case .constant(let index) = value.place { constants[index].codes = codes }
  }

  /// Lets a value leave the graph with the element type that the file gives it.
  /// - Throws: `malformed` if another output has the name.
  public mutating func addOutput(name: String, _ value: Value) throws(QMError) {
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
        name: constants[index].name, constants[index].tensor, codes: constants[index].codes)
      constants[index].id = id
      return id
    }
  }

  // MARK: Nodes

  /// Adds a node, or its results where all inputs are constants.
  /// - Throws: what the type rule of the operation throws; `unsupported` for a result that is too
  ///   large.
  public mutating func append(
    _ operation: Operation, name: String, _ given: [Value?], outputNames: [String]
  ) throws(QMError) -> [Value.Place] {
    let inputs = try withKnownExtents(operation, given, name: name)
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

  /// The value in float32 if it is of any other float type.
  /// - Parameter name: of the conversion.
  public mutating func inFloat32(_ value: Value, name: String) throws(QMError) -> Value {
    let stored = type(of: value).elementType
    guard stored.isFloatingPoint, stored != .float32 else { return value }
    let places = try append(
      .cast(Cast(to: .float32)), name: name, [value], outputNames: [name])
    return Value(place: places[0], type: value.type)
  }

  /// The results of an operation on constants; nil where an input is none, or they are too large.
  private mutating func fold(
    _ operation: Operation, _ inputs: [Value?], _ operands: [Operand?], name: String,
    _ outputNames: [String]
  ) throws(QMError) -> [Value.Place]? {
    let key = FoldKey(operation: operation, inputs: inputs.map { $0?.place })
    if let known = folded[key] { return known }
    guard let results = try folder.results(of: operation, operands) else { return nil }
    var places: [Value.Place] = []
    for (index, tensor) in results.enumerated() {
      let given = index < outputNames.count ? outputNames[index] : name
      let kept = operation.body.keepsName ? inputs.first?.map { self.name(of: $0) } : nil
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
  private mutating func withKnownExtents(
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

  private func checkSize(_ type: ValueType) throws(QMError) {
    // An extent of 0 hides none beside it.
    let extents = type.shape.axes.map { $0.extent.map { $0 == 0 ? 1 : $0 } ?? 1 }
    guard let count = Shape.elementCount(of: extents),
      count <= valueByteLimit / type.elementType.byteCount
    else {
      throw .unsupported("a value of type \(type) takes more than \(valueByteLimit) bytes")
    }
  }
}
