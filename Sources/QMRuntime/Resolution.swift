import QMFormat
import QMOperations
import QMTensor

/// What the values of a program are once the extents of its inputs are known: the type of each,
/// which are known before the run, and which nodes are left to run.
///
/// It goes from the outputs backwards, so that a branch that no condition chooses is never looked
/// at: its extents may not even fit.
struct Resolution {
  /// Where the bytes of a value come from.
  enum Source {
    case input(Int)
    case constant(Tensor)
    case node(Int)
    /// The bytes of another value.
    case alias(Int)
  }

  /// nil of values that no output needs.
  private(set) var types: [ValueType?]
  private(set) var sources: [Source?]
  private let model: Model
  /// Of each value the node that computes it.
  private var producers: [Int?]
  private var folder: ConstantFolder

  private var program: Program { model.program }

  /// - Parameters:
  ///   - extents: of each program input.
  ///   - switches: what the model's switch inputs hold, in their order.
  /// - Throws: `invalidInput` or `malformed` if the extents do not fit the program;
  ///   `unsupported` if an intermediate's extents depend on data; `outOfMemory`.
  init(_ model: Model, extents: [[Int]], switches: [UInt8]) throws(QMError) {
    self.model = model
    let program = model.program
    folder = ConstantFolder(
      for: .memory, byteLimit: min(model.loaded.evaluatedByteLimit, model.options.runByteLimit))
    types = [ValueType?](repeating: nil, count: program.values.count)
    sources = [Source?](repeating: nil, count: program.values.count)
    producers = [Int?](repeating: nil, count: program.values.count)
    for (position, value) in program.inputs.enumerated() {
      let declared = program.values[value].type
      types[value] = ValueType(
        declared.elementType, Shape(extents[position]), declared.quantization)
      sources[value] = .input(position)
    }
    var bytes = switches[...]
    for position in model.switchInputs {
      let value = program.inputs[position]
      let tensor = try Tensor(zeros: program.values[value].type.elementType, extents[position])
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
    for (index, node) in program.nodes.enumerated() {
      for output in node.outputs { producers[output] = index }
    }
    for output in program.outputs { try resolve(output.value) }
  }

  /// The nodes whose results a run has to compute, in their order.
  func nodesToRun() -> [Int] {
    var isNeeded = [Bool](repeating: false, count: program.nodes.count)
    var pending = program.outputs.map(\.value)
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

  /// Of those among `nodes` that have one output, which nothing but a Transpose reads: that
  /// Transpose.
  func transposesAlone(_ nodes: [Int]) -> [Int: Int] {
    var readers: [Int: [Int]] = [:]
    for node in nodes {
      for case let input? in program.nodes[node].inputs { readers[input, default: []].append(node) }
    }
    // Other views of a value's bytes are readers that are no node, and so are outputs.
    var isShared = Set(program.outputs.map(\.value))
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

  /// What the operation of a node is told of its inputs, which are resolved.
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

  /// Files hold chains of very many nodes: the way through them is kept here, not on the stack.
  private mutating func resolve(_ value: Int) throws(QMError) {
    guard sources[value] == nil, let producer = producers[value] else { return }
    var pending = [producer]
    while let index = pending.last {
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

  /// The values that must be resolved before a node is, as far as that is known already.
  private func neededInputs(of node: Program.Node) -> [Int] {
    guard case .if = node.operation, let condition = node.inputs[0] else {
      return node.inputs.compactMap { $0 }
    }
    guard sources[condition] != nil else { return [condition] }
    if let side = chosenSide(of: node) { return [side] }
    return node.inputs.compactMap { $0 }
  }

  /// The value that an If with a known condition is.
  private func chosenSide(of node: Program.Node) -> Int? {
    guard case .if = node.operation, let condition = node.inputs[0].flatMap(constant),
      condition.elementCount == 1
    else { return nil }
    return node.inputs[condition.elements(as: Bool.self)[0] ? 1 : 2]
  }

  private mutating func type(_ node: Program.Node, at index: Int) throws(QMError) {
    if let side = chosenSide(of: node), let type = types[side] {
      let output = node.outputs[0]
      try declare(output, type)
      sources[output] = constant(side).map(Source.constant) ?? .alias(side)
      return
    }
    let operands = try operands(of: index)
    // What extents alone decide is computed here, once, and not in a run. A product whose weights
    // are packed runs as a step: their elements are gone.
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
    if case .if = node.operation, let left = operands[1]?.type.shape,
      let right = operands[2]?.type.shape, left != right
    {
      throw .unsupported(
        "the run computes its condition, and the sides have extents \(left) and \(right); "
          + "expected equal ones")
    }
    for (output, type) in zip(
      node.outputs, try node.operation.body.outputTypes(for: operands))
    {
      try declare(output, type)
      sources[output] = .node(index)
    }
    if node.operation.body.keepsBytes, let input = node.inputs[0] {
      sources[node.outputs[0]] = .alias(input)
    }
  }

  private mutating func declare(_ output: Int, _ type: ValueType) throws(QMError) {
    guard let extents = type.shape.extents else {
      throw .unsupported("the extents \(type.shape) of its output depend on data")
    }
    try program.values[output].type.shape.requireAdmitting(extents)
    // Kernels compute with the extents before memory is asked for.
    let byteCount = try Tensor.byteCount(of: type.elementType, extents)
    guard byteCount <= min(model.options.runByteLimit, Buffer.physicalByteCount) else {
      throw .outOfMemory(byteCount: byteCount)
    }
    types[output] = type
  }
}
