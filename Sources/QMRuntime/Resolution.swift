import QMFormat
import QMOperations
import QMTensor

/// The values of a program for inputs of given shapes: the type of each, those that are known
/// before the run, and the nodes that remain to run.
///
/// Resolution proceeds from the outputs backwards, so that it never visits a branch that a known
/// condition rules out: the shapes in there may be invalid.
struct Resolution {
  /// Where the bytes of a value come from.
  enum Source {
    case input(Int)
    case constant(Tensor)
    case node(Int)
    /// The bytes of another value.
    case alias(Int)
  }

  /// The concrete type of each value; nil for values that no output needs.
  private(set) var types: [ValueType?]
  /// The source of each value; nil for values that no output needs.
  private(set) var sources: [Source?]
  /// Values on whose elements the shape of another value, or the branch that is computed, depends.
  /// They must be computed before the rest can be resolved; empty if everything is resolved.
  private(set) var deciding: [Int] = []
  /// A loop whose results have shapes that only running it tells, with its inputs, which are known. It
  /// must be run before the rest can be resolved.
  private(set) var loop: (node: Int, inputs: [Tensor?])?
  /// The values that are to be computed.
  let targets: [Int]
  private let model: Model
  /// For each value, the node that computes it.
  private var producers: [Int?]
  private var folder: ConstantFolder

  private var program: Program { model.program }

  /// - Parameters:
  ///   - shapes: the shape of each program input.
  ///   - switches: the bytes of the model's switch inputs, in their order.
  ///   - known: values that were computed before.
  ///   - targets: the values that are to be computed.
  /// - Throws: `invalidInput` or `malformed` if the shapes do not fit the program; `outOfMemory`.
  init(
    _ model: Model, shapes: [[Int]], switches: [UInt8], known: [Int: Tensor], targets: [Int]
  ) throws(QMError) {
    self.model = model
    self.targets = targets
    let program = model.program
    folder = ConstantFolder(
      for: .memory, byteLimit: min(model.loaded.evaluatedByteLimit, model.options.runByteLimit))
    types = [ValueType?](repeating: nil, count: program.values.count)
    sources = [Source?](repeating: nil, count: program.values.count)
    producers = [Int?](repeating: nil, count: program.values.count)
    for (position, value) in program.inputs.enumerated() {
      let declared = program.values[value].type
      types[value] = ValueType(
        declared.elementType, Shape(shapes[position]), declared.quantization)
      sources[value] = .input(position)
    }
    var bytes = switches[...]
    for position in model.switchInputs {
      let value = program.inputs[position]
      let tensor = try Tensor(zeros: program.values[value].type.elementType, shapes[position])
      UnsafeMutableRawBufferPointer(start: tensor.buffer.base, count: tensor.byteCount)
        .copyBytes(from: bytes.prefix(tensor.byteCount))
      bytes = bytes.dropFirst(tensor.byteCount)
      sources[value] = .constant(tensor)
    }
    for (value, constant) in model.loaded.constants {
      types[value] = ValueType(
        constant.elementType, Shape(constant.shape), program.values[value].type.quantization)
      sources[value] = .constant(constant)
    }
    for (value, tensor) in known {
      types[value] = ValueType(
        tensor.elementType, Shape(tensor.shape), program.values[value].type.quantization)
      sources[value] = .constant(tensor)
    }
    for (index, node) in program.nodes.enumerated() {
      for output in node.outputs { producers[output] = index }
    }
    for target in targets { try resolve(target) }
  }

  /// The nodes that a run must compute, in their order.
  func nodesToRun() -> [Int] {
    var isNeeded = [Bool](repeating: false, count: program.nodes.count)
    var pending = targets
    while let value = pending.popLast() {
      switch sources[value] {
      case .alias(let other): pending.append(other)
      case .node(let node) where !isNeeded[node]:
        isNeeded[node] = true
        pending += program.nodes[node].inputs.compactMap { $0 }
      default: continue
      }
    }
    return isNeeded.indices.filter { isNeeded[$0] }
  }

  /// For each of `nodes` that has one output whose only reader is a Transpose: that Transpose.
  func transposesAlone(_ nodes: [Int]) -> [Int: Int] {
    var readers: [Int: [Int]] = [:]
    for node in nodes {
      for case let input? in program.nodes[node].inputs { readers[input, default: []].append(node) }
    }
    // Aliases of a value and outputs of the program need the value, too.
    var isShared = Set(targets)
    for case .alias(let origin)? in sources { isShared.insert(origin) }
    var transposes: [Int: Int] = [:]
    for node in nodes where program.nodes[node].outputs.count == 1 {
      let output = program.nodes[node].outputs[0]
      guard !isShared.contains(output), let only = readers[output], only.count == 1,
        case .transpose = program.nodes[only[0]].operation, case .node? = sources[output]
      else { continue }
      transposes[node] = only[0]
    }
    return transposes
  }

  /// The operands of a node whose inputs are resolved.
  func operands(of node: Int) throws(QMError) -> [Operand?] {
    var operands: [Operand?] = []
    for input in program.nodes[node].inputs {
      guard let input else {
        operands.append(nil)
        continue
      }
      guard let type = types[input] else {
        throw .internalFault("value \(input) is used before it is computed")
      }
      operands.append(Operand(type, constant: constant(input)))
    }
    return operands
  }

  private func constant(_ value: Int) -> Tensor? {
    if case .constant(let tensor) = sources[value] { tensor } else { nil }
  }

  /// Resolves a value and everything that it depends on. Not recursive: a file may contain a chain
  /// of nodes that is too long for the call stack.
  private mutating func resolve(_ value: Int) throws(QMError) {
    guard sources[value] == nil, let producer = producers[value] else { return }
    var pending = [producer]
    while deciding.isEmpty, loop == nil, let index = pending.last {
      let node = program.nodes[index]
      guard node.outputs.contains(where: { sources[$0] == nil }) else {
        pending.removeLast()
        continue
      }
      let missing = neededInputs(of: node).filter { sources[$0] == nil }
      if missing.isEmpty {
        try within(node.context) { () throws(QMError) in try type(node, at: index) }
        pending.removeLast()
      } else {
        pending += missing.reversed().compactMap { producers[$0] }
      }
    }
  }

  /// The values that must be resolved next in order to resolve a node: of an If, first the
  /// condition and then, if it is known, only the chosen side.
  private func neededInputs(of node: Program.Node) -> [Int] {
    guard case .if = node.operation, let condition = node.inputs[0] else {
      return node.inputs.compactMap { $0 }
    }
    guard sources[condition] != nil else { return [condition] }
    if let side = chosenSide(of: node) { return [side] }
    return node.inputs.compactMap { $0 }
  }

  /// The input that an If with a known condition returns; nil for other nodes.
  private func chosenSide(of node: Program.Node) -> Int? {
    guard case .if = node.operation, let condition = node.inputs[0].flatMap(constant),
      condition.elementCount == 1
    else { return nil }
    return node.inputs[condition.elements(as: Bool.self)[0] ? 1 : 2]
  }

  /// Determines types and sources of a node's outputs; its needed inputs are resolved.
  private mutating func type(_ node: Program.Node, at index: Int) throws(QMError) {
    if let side = chosenSide(of: node), let type = types[side] {
      let output = node.outputs[0]
      try declare(output, type)
      sources[output] = constant(side).map(Source.constant) ?? .alias(side)
      return
    }
    let operands = try operands(of: index)
    // Results that depend only on shapes and constants are computed here once, and not in each run.
    // A node whose weights are packed must run as a step, because their elements are freed.
    if model.loaded.packed[index] == nil, !model.loaded.recomputed.contains(index),
      let results = try folder.results(of: node.operation, operands, kernels: model.kernels)
    {
      for (output, tensor) in zip(node.outputs, results) {
        try program.values[output].type.shape.requireAdmitting(tensor.shape)
        types[output] = ValueType(
          tensor.elementType, Shape(tensor.shape), program.values[output].type.quantization)
        sources[output] = .constant(tensor)
      }
      return
    }
    if case .loop(let loop) = node.operation, try !loop.isFixed(operands) {
      // With a number of iterations that is known, the shapes may be.
      let unknown = node.inputs.compactMap { $0 }.filter { constant($0) == nil }
      deciding = node.inputs[0].map { unknown.contains($0) ? [$0] : unknown } ?? unknown
      if deciding.isEmpty { self.loop = (index, operands.map { $0?.constant }) }
      return
    }
    if case .if = node.operation, let left = operands[1]?.type.shape,
      let right = operands[2]?.type.shape, left != right, let condition = node.inputs[0],
      constant(condition) == nil
    {
      deciding = [condition]
      return
    }
    let outputTypes = try node.operation.body.outputTypes(for: operands)
    guard outputTypes.allSatisfy({ $0.shape.extents != nil }) else {
      deciding = node.inputs.compactMap { $0 }.filter { constant($0) == nil }
      guard !deciding.isEmpty else {
        throw .unsupported(
          "the shape of its output does not follow from its inputs, found "
            + outputTypes.map { "\($0.shape)" }.joined(separator: ", "))
      }
      return
    }
    for (output, type) in zip(node.outputs, outputTypes) {
      try declare(output, type)
      sources[output] = .node(index)
    }
    if node.operation.body.keepsBytes, let input = node.inputs[0] {
      sources[node.outputs[0]] = .alias(input)
    }
  }

  /// Sets the type of a node's output after checking its shape and size.
  private mutating func declare(_ output: Int, _ type: ValueType) throws(QMError) {
    guard let shape = type.shape.extents else {
      throw .internalFault("a value of the unknown shape \(type.shape)")
    }
    try program.values[output].type.shape.requireAdmitting(shape)
    // Checked here, because kernels compute with the extents before memory is allocated.
    let byteCount = try Tensor.byteCount(of: type.elementType, shape)
    let limit = model.options.runByteLimit
    guard byteCount <= limit else {
      throw .overLimit("a value takes \(byteCount) bytes, the limit of a run is \(limit)")
    }
    guard byteCount <= Buffer.physicalByteCount else { throw .outOfMemory(byteCount: byteCount) }
    types[output] = type
  }
}
