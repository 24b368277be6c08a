import QMFormat
import QMOperations
import QMTensor

extension Program.Node {
  fileprivate var isTranspose: Bool { if case .transpose = operation { true } else { false } }
}

/// What computes the outputs of a program.
struct NetworkStructure {
  let program: Program
  private let producers: [Int: Program.Node]
  /// Values that depend on a choice.
  private var chosen: Set<Int> = []
  /// Values whose rows along the last axis are scores of classes: the results of a softmax along
  /// that axis, or of a matrix product of two axes.
  private var scoreValues: Set<Int> = []
  /// Values whose elements are probabilities as a whole, each with its part.
  private var probabilityParts: [Int: Program.Metadata.Part] = [:]
  /// Values of which no element can leave a range.
  private var boundedValues: Set<Int> = []

  init(_ program: Program) {
    self.program = program
    var producers: [Int: Program.Node] = [:]
    for node in program.nodes {
      for output in node.outputs { producers[output] = node }
    }
    self.producers = producers
    // One pass in the order of the nodes: a value may be read by many nodes, each of them by many.
    for node in program.nodes {
      let inputs = node.inputs.compactMap(\.self)
      if NetworkStructure.isChoice(node) || inputs.contains(where: chosen.contains) {
        chosen.formUnion(node.outputs)
      }
      guard let output = node.outputs.first else { continue }
      if areScores(output, of: node) { scoreValues.insert(output) }
      probabilityParts[output] = probabilities(output, of: node)
      if hasFixedRange(node) { boundedValues.insert(output) }
    }
  }

  private static func isChoice(_ node: Program.Node) -> Bool {
    switch node.operation {
    case .topK, .argMinMax, .nonZero: true
    default: false
    }
  }

  func isChosen(_ value: Int) -> Bool { chosen.contains(value) }

  /// Names of the outputs whose rows are scores of classes.
  var scores: Set<String> {
    Set(
      program.outputs.filter {
        // One number is no choice among classes.
        scoreValues.contains($0.value)
          && program.values[$0.value].type.shape.axes.last != .fixed(1)
      }.map(\.name))
  }

  private func areScores(_ value: Int, of node: Program.Node) -> Bool {
    let shape = program.values[value].type.shape
    switch node.operation {
    case .softmax(let softmax): return softmax.axis == shape.rank - 1
    case .matrixMultiply: return shape.rank == 2
    case .binary(let binary) where binary.function == .add:
      return node.inputs.contains { $0.map(scoreValues.contains) ?? false }
    default:
      guard node.isTranspose || node.operation.body.keepsBytes, let input = node.inputs[0] else {
        return false
      }
      return program.values[input].type.shape.axes.last == shape.axes.last
        && scoreValues.contains(input)
    }
  }

  // MARK: Probabilities

  /// The part for a value whose elements are probabilities as a whole; nil for other values.
  func probabilities(_ value: Int) -> Program.Metadata.Part? { probabilityParts[value] }

  private func probabilities(_ value: Int, of node: Program.Node) -> Program.Metadata.Part? {
    let rank = program.values[value].type.shape.rank
    if case .softmax(let softmax) = node.operation {
      guard softmax.kind == .softmax else { return nil }
      return .init(axis: softmax.axis - rank, form: .classLogOdds)
    }
    if NetworkStructure.lastFunction(node) == .sigmoid { return .init(form: .logOdds) }
    let source = node.operation.body.elementSource(operandCount: node.inputs.count)
    guard case .moved(let operands) = source else { return nil }
    let inputs = operands.compactMap { $0 < node.inputs.count ? node.inputs[$0] : nil }
    let parts = inputs.compactMap { probabilityParts[$0] }
    guard let first = parts.first, parts.count == inputs.count else { return nil }
    if inputs.count == 1, first.form == .classLogOdds,
      let axis = classAxis(first.axis, of: inputs[0], movedBy: node)
    {
      return .init(axis: axis, form: .classLogOdds)
    }
    // Rows may not be whole any more.
    return .init(form: .logOdds)
  }

  /// The axis of classes after a node that moves elements; nil if rows may not be whole any more.
  private func classAxis(_ axis: Int, of input: Int, movedBy node: Program.Node) -> Int? {
    let before = program.values[input].type.shape
    let after = program.values[node.outputs[0]].type.shape
    if case .transpose(let transpose) = node.operation {
      return transpose.permutation.firstIndex(of: axis + before.rank).map { $0 - after.rank }
    }
    guard node.operation.body.keepsBytes else { return nil }
    if before.axes == after.axes { return axis }
    return axis == -1 && before.axes.last == after.axes.last ? -1 : nil
  }

  /// The function that a node applies last to each element; nil if there is none.
  private static func lastFunction(_ node: Program.Node) -> UnaryFunction? {
    switch node.operation {
    case .unary(let unary): unary.function
    case .binary(let binary): binary.secondFunction
    case .convolution(let convolution): convolution.epilogue.functions.last
    case .matrixMultiply(let multiply): multiply.epilogue.functions.last
    default: nil
    }
  }

  /// Whether an input of the network has an effect on one of these values.
  func reaches(_ input: Int, _ values: Set<Int>) -> Bool {
    var reached: Set<Int> = [input]
    for node in program.nodes
    where node.inputs.contains(where: { $0.map(reached.contains) ?? false }) {
      reached.formUnion(node.outputs)
    }
    return !reached.isDisjoint(with: values)
  }

  /// Whether no element can leave a range.
  func hasFixedRange(_ value: Int) -> Bool { boundedValues.contains(value) }

  private func hasFixedRange(_ node: Program.Node) -> Bool {
    let source = node.operation.body.elementSource(operandCount: node.inputs.count)
    if case .moved(let operands) = source {
      let inputs = operands.compactMap { $0 < node.inputs.count ? node.inputs[$0] : nil }
      return !inputs.isEmpty && inputs.allSatisfy(boundedValues.contains)
    }
    guard let range = node.operation.body.analyticRange else { return false }
    return range.lowerBound.isFinite && range.upperBound.isFinite
  }

  /// The named float32 values that choices are made from, and those of which elements are chosen, on
  /// the way to a value.
  func numbersBehindChoice(_ value: Int) -> [Int] {
    var numbers: Set<Int> = []
    var seen: Set<Int> = []
    var pending = [value]
    while let value = pending.popLast() {
      guard seen.insert(value).inserted, let node = producers[value] else { continue }
      for case .some(let input) in node.inputs {
        if chosen.contains(input) {
          pending.append(input)
        } else if program.values[input].constant == nil,
          program.values[input].type.elementType == .float32,
          !program.values[input].name.isEmpty
        {
          numbers.insert(input)
        }
      }
    }
    return numbers.sorted()
  }

  /// The parts that the operands of a Concat are of an output; nil if the output is no Concat or its
  /// operands are not ranges along an axis of the output.
  /// - Parameter shapes: shapes of the values in a run.
  func partsOfConcatenation(
    _ output: Int, _ shapes: [Int: [Int]]
  ) throws(QMError) -> [Program.Metadata.Part]? {
    var (value, moves) = (output, [Program.Node]())
    while let node = producers[value] {
      if case .concatenate(let concatenate) = node.operation {
        return try parts(of: node, along: concatenate.axis, moves.reversed(), shapes)
      }
      guard node.isTranspose || node.operation.body.keepsBytes, let input = node.inputs[0] else {
        return nil
      }
      moves.append(node)
      value = input
    }
    return nil
  }

  private func parts(
    of node: Program.Node, along axis: Int, _ moves: [Program.Node], _ shapes: [Int: [Int]]
  ) throws(QMError) -> [Program.Metadata.Part]? {
    let operands = node.inputs.compactMap(\.self)
    guard operands.count > 1, let shape = shapes[node.outputs[0]], shape.indices.contains(axis),
      operands.allSatisfy({ program.values[$0].type.shape[axis].extent != nil })
    else { return nil }
    let inner = shape[(axis + 1)...].reduce(1, *)
    let labels = operands.enumerated().flatMap { number, operand in
      [Float](
        repeating: Float(number), count: program.values[operand].type.shape[axis].extent ?? 0)
    }
    guard labels.count == shape[axis] else { return nil }
    // Each element of the Concat carries the number of its operand through the moves.
    var carried = try Tensor(shape, as: Float.self) { elements in
      for index in elements.indices { elements[index] = labels[index / inner % labels.count] }
    }
    for move in moves {
      if move.isTranspose {
        carried = try move.operation.evaluate([carried])[0]
      } else {
        guard let shape = shapes[move.outputs[0]] else { return nil }
        carried = try Tensor(shape, carried.elements(as: Float.self))
      }
    }
    return ranges(of: carried)
  }

  /// The parts by the labels of elements, if labels differ along one axis only.
  private func ranges(of labels: Tensor) -> [Program.Metadata.Part]? {
    let elements = labels.elements(as: Float.self)
    for position in labels.shape.indices.reversed() {
      let extent = labels.shape[position]
      let inner = labels.shape[(position + 1)...].reduce(1, *)
      var along = [Float?](repeating: nil, count: extent)
      let isCut = elements.enumerated().allSatisfy { index, label in
        let place = index / inner % extent
        if along[place] == nil { along[place] = label }
        return along[place] == label
      }
      guard isCut else { continue }
      var indices: [Float: [Int]] = [:]
      for (index, label) in along.enumerated() {
        if let label { indices[label, default: []].append(index) }
      }
      return indices.sorted { $0.key < $1.key }
        .map {
          .init(axis: position - labels.shape.count, ranges: JudgedParts.ranges($0.value))
        }
    }
    return nil
  }
}
