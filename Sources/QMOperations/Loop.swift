import QMTensor

/// One operation of the body of a ``Loop``.
public struct LoopNode: Hashable, Sendable {
  /// The operation with its attributes.
  public var operation: Operation
  /// Numbers of the values that it reads; nil for an optional input that is absent.
  public var inputs: [Int?]
  /// Number of its results.
  public var outputCount: Int

  /// A node from its parts.
  public init(_ operation: Operation, inputs: [Int?], outputCount: Int = 1) {
    self.operation = operation
    self.inputs = inputs
    self.outputCount = outputCount
  }
}

/// Computes its body again and again, each time on the results of the time before.
///
/// Operands: the number of iterations, int64, one element, or absent for no limit; whether the first
/// iteration runs, bool, one element, or absent for true; then the carried values, as they are before
/// the first iteration; then the values that the body reads from outside. None are codes.
///
/// The values of the body are numbered: 0 is the number of the iteration, from 0, an int64 without
/// axes; then come the carried values, then those from outside, then the results of its nodes in
/// their order. The loop returns the carried values as they are after the last iteration. The other
/// results of each iteration are stacked along a new first axis; all must have one shape.
public struct Loop: OperationProtocol {
  public static let name = "Loop"
  /// How deep loops may stand within each other.
  package static let deepest = 4

  /// Number of values that an iteration hands to the next.
  public var carriedCount: Int
  /// What an iteration computes, in an order in which it can run.
  public var nodes: [LoopNode]
  /// Number of the bool that says whether another iteration follows; nil for always.
  public var condition: Int?
  /// Numbers of the values that an iteration returns: first those that are carried.
  public var results: [Int]

  /// A loop from its parts.
  public init(carriedCount: Int, nodes: [LoopNode], condition: Int?, results: [Int]) {
    self.carriedCount = carriedCount
    self.nodes = nodes
    self.condition = condition
    self.results = results
  }

  public static let placeholder = Loop(carriedCount: 0, nodes: [], condition: nil, results: [])

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("carried count", &carriedCount)
    try visitor.visit("nodes", &nodes)
    try visitor.visit("condition", &condition)
    try visitor.visit("results", &results)
  }

  /// How deep loops stand within each other, this one included.
  var depth: Int {
    1
      + (nodes.lazy.map { node in
        if case .loop(let inner) = node.operation { inner.depth } else { 0 }
      }.max() ?? 0)
  }
}

extension Loop: FloatOperation {
  public var keepsName: Bool { false }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? { nil }
}

// MARK: Types

extension Loop {
  /// What is known of the values of the body in every iteration.
  struct Inference {
    /// One per value of the body.
    var values: [Operand]
    /// Types of the outputs of the loop.
    var outputs: [ValueType]
    /// Whether every value has the same known shape in all iterations.
    var isFixed: Bool
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    try inference(operands).outputs
  }

  /// Types of the values of the body that hold in every iteration.
  package func valueTypes(_ operands: [Operand?]) throws(QMError) -> [ValueType] {
    try inference(operands).values.map(\.type)
  }

  /// Whether all shapes are known before the run, and the same in each iteration, so that a kernel
  /// can run the loop.
  package func isFixed(_ operands: [Operand?]) throws(QMError) -> Bool {
    try inference(operands).isFixed
  }

  func inference(_ operands: [Operand?]) throws(QMError) -> Inference {
    guard (0...results.count).contains(carriedCount), operands.count >= 2 + carriedCount else {
      throw .malformed(
        "\(Self.name) takes two operands and \(carriedCount) carried values, found \(operands.count) "
          + "operands and \(results.count) results")
    }
    guard depth <= Self.deepest else {
      throw .unsupported("loops stand within each other more than \(Self.deepest) deep")
    }
    try checkSingle(operands[0], .int64, "number of iterations")
    try checkSingle(operands[1], .bool, "condition")
    var types: [ValueType] = []
    var outside: [Operand] = []
    for index in operands.indices.dropFirst(2) {
      let operand = try required(index, of: operands)
      guard operand.type.quantization == .none else {
        throw .malformed("\(Self.name) takes no codes, found \(operand.type)")
      }
      if types.count < carriedCount {
        types.append(operand.type)
      } else {
        outside.append(operand)
      }
    }
    // The types of the carried values hold in every iteration: an axis that changes is dynamic. Each
    // round makes an axis dynamic, until none changes.
    var isFixed = true
    var rounds = 0
    while true {
      let values = try inferred(types, outside)
      let returned = try results.map(in: values)
      var changed = false
      for index in types.indices {
        let joined = try types[index].joined(with: returned[index].type)
        // After a few rounds all at once, so that a small file cannot ask for many.
        let next = joined != types[index] && rounds > 3 ? joined.withDynamicAxes : joined
        changed = changed || next != types[index]
        types[index] = next
      }
      rounds += 1
      guard !changed else {
        isFixed = false
        continue
      }
      return try inference(values, returned, operands, isFixed: isFixed)
    }
  }

  private func inference(
    _ values: [Operand], _ returned: [Operand], _ operands: [Operand?], isFixed: Bool
  ) throws(QMError) -> Inference {
    if let condition {
      guard values.indices.contains(condition) else {
        throw .malformed("the condition is value \(condition) of \(values.count)")
      }
      try checkSingle(values[condition], .bool, "condition")
    }
    var outputs = returned.prefix(carriedCount).map(\.type)
    let count = iterationCount(operands)
    for index in outputs.indices {
      // Without an iteration the value is what it was.
      outputs[index] = try outputs[index].joined(with: required(2 + index, of: operands).type)
    }
    for result in returned.dropFirst(carriedCount) {
      var type = result.type
      type.shape = Shape([count.map { .fixed($0) } ?? .free("")] + type.shape.axes)
      outputs.append(try type.checked())
    }
    let isKnown =
      outputs.allSatisfy { $0.shape.extents != nil }
      && values.allSatisfy { $0.type.shape.extents != nil }
    guard isFixed, isKnown else {
      return Inference(values: values, outputs: outputs, isFixed: false)
    }
    return Inference(values: values, outputs: outputs, isFixed: try hasFixedLoops(values))
  }

  /// Whether the loops in the body have known shapes.
  private func hasFixedLoops(_ values: [Operand]) throws(QMError) -> Bool {
    for node in nodes {
      guard case .loop(let inner) = node.operation else { continue }
      guard try inner.isFixed(node.operands(in: values)) else { return false }
    }
    return true
  }

  /// The number of iterations; nil if only the run knows it.
  private func iterationCount(_ operands: [Operand?]) -> Int? {
    guard condition == nil, let tensor = operands[0]?.constant, tensor.elementCount == 1 else {
      return nil
    }
    if operands[1] != nil {
      guard let first = operands[1]?.constant, first.elementCount == 1 else { return nil }
      if !first.elements(as: Bool.self)[0] { return 0 }
    }
    return max(Int(tensor.elements(as: Int64.self)[0]), 0)
  }

  private func checkSingle(
    _ operand: Operand?, _ elementType: ElementType, _ what: String
  ) throws(QMError) {
    guard let type = operand?.type else { return }
    guard type.elementType == elementType, type.quantization == .none,
      type.shape.axes.allSatisfy({ ($0.extent ?? 1) == 1 })
    else { throw .malformed("the \(what) is \(type), expected one \(elementType)") }
  }

  /// The values of the body for carried values of these types.
  private func inferred(
    _ carried: [ValueType], _ outside: [Operand]
  ) throws(QMError) -> [Operand] {
    var values = [Operand(ValueType(.int64, []))] + carried.map { Operand($0) } + outside
    var folder = ConstantFolder(for: .memory, byteLimit: 1 << 16)
    for (index, node) in nodes.enumerated() {
      try within(.node(name: "\(index) of the body", operation: node.operation.name)) {
        () throws(QMError) in
        let operands = try node.operands(in: values)
        // Checked first, because the type rule allocates as many types as there are parts.
        if case .split(let split) = node.operation, case .equal(let parts) = split.sizes,
          parts != node.outputCount
        {
          throw .malformed("\(node.outputCount) outputs, expected \(parts)")
        }
        let types = try node.operation.body.outputTypes(for: operands)
        guard types.count == node.outputCount else {
          throw .malformed("\(node.outputCount) outputs, expected \(types.count)")
        }
        for type in types where type.quantization != .none {
          throw .malformed("codes in the body of a loop, found \(type)")
        }
        let known = shapeArithmetic(node.operation, operands, types, &folder)
        for (index, type) in types.enumerated() {
          values.append(Operand(known?[index].type ?? type, constant: known?[index]))
        }
      }
    }
    return values
  }

  /// The results of integer arithmetic on shapes and constants; nil for others.
  private func shapeArithmetic(
    _ operation: Operation, _ operands: [Operand?], _ types: [ValueType],
    _ folder: inout ConstantFolder
  ) -> [Tensor]? {
    guard types.allSatisfy({ [.int64, .int32, .bool].contains($0.elementType) }) else { return nil }
    // What cannot be computed is an error only in an iteration that computes it.
    return (try? folder.results(of: operation, operands)) ?? nil
  }
}

extension LoopNode {
  /// The operands of the node.
  /// - Throws: `malformed` for a value that is not defined before the node.
  func operands(in values: [Operand]) throws(QMError) -> [Operand?] {
    var operands: [Operand?] = []
    for input in inputs {
      guard let input else {
        operands.append(nil)
        continue
      }
      guard values.indices.contains(input) else {
        throw .malformed("reads value \(input), but only values below \(values.count) are defined")
      }
      operands.append(values[input])
    }
    return operands
  }
}

extension [Int] {
  fileprivate func map(in values: [Operand]) throws(QMError) -> [Operand] {
    var operands: [Operand] = []
    for number in self {
      guard values.indices.contains(number) else {
        throw .malformed("a result is value \(number) of \(values.count)")
      }
      operands.append(values[number])
    }
    return operands
  }
}

extension ValueType {
  /// A type that both types fit: axes of different extents are dynamic.
  fileprivate func joined(with other: ValueType) throws(QMError) -> ValueType {
    guard elementType == other.elementType, quantization == other.quantization,
      shape.rank == other.shape.rank
    else {
      throw .malformed(
        "a carried value is \(self) before an iteration and \(other) after it; expected one element "
          + "type and number of axes")
    }
    var joined = self
    for (axis, extent) in other.shape.axes.enumerated() where shape[axis] != extent {
      joined.shape[axis] = .free("")
    }
    return joined
  }

  fileprivate var withDynamicAxes: ValueType {
    ValueType(elementType, Shape(shape.axes.map { _ in .free("") }), quantization)
  }
}
