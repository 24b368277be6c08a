import QMGraph
import QMOperations
import QMTensor

/// A loop that is a recurrent layer, as Keras writes GRU and SimpleRNN through tf2onnx.
///
/// Given: iteration i of T reads x[i] or x[T − 1 − i] of a sequence with T steps, computes one step of
/// a ``RecurrentBody``, hands the states to the next iteration, and may stack h. It may also count,
/// and end on a condition that holds until T.
///
/// Result: one ``Recurrent``, which runs on integers. With a mask, the steps of each sequence that
/// change its states are put in front first, and the states put back where the steps were.
extension LoopReader {
  /// The values that the loop returns, of a recurrent layer; nil if it is none.
  func recurrentResults() -> [Value]? {
    let isCandidate =
      form.body.nodes.contains { $0.operation == "MatMul" || $0.operation == "Gemm" }
      && form.body.nodes.allSatisfy { node in
        node.attributes.allSatisfy { if case .graph = $0.value { false } else { true } }
      }
    guard isCandidate, let count = form.count else { return nil }
    let before = outer.contents
    do throws(QMError) {
      let initial = try initialValues()
      if let loop = try RecurrentLoop(self, settledBody(initial), initial, count),
        loop.hasStatesOfEachItem
      {
        return try results(loop.results())
      }
    } catch {
      // What is wrong with the loop, its other reading says.
    }
    outer.contents = before
    return nil
  }
}

private struct RecurrentLoop {
  typealias Value = GraphBuilder.Value

  private let reader: LoopReader
  private let outer: GraphBuilder
  private let initial: [Value]
  private let count: Value
  private let body: GraphBuilder
  private let step: RecurrentBody
  /// Indices of the states among the carried values.
  private let states: [Int]
  /// x, and the axis of its steps.
  private let sequence: Value
  private let axis: Int
  /// Whether the first iteration reads the last step.
  private let isReversed: Bool
  /// Whether a step changes the states, bools `[T, B, 1]`; nil if each does.
  private let mask: Value?

  init?(_ reader: LoopReader, _ body: LoopReader.Body, _ initial: [Value], _ count: Value) {
    self.reader = reader
    let outer = reader.outer
    self.outer = outer
    self.initial = initial
    self.count = count
    self.body = body.builder
    let graph = body.builder.graph
    let around = LoopNumbers(outer)
    guard let length = around.number(count),
      RecurrentLoop.begins(reader, around, length: length)
    else { return nil }

    // Carried values are counters or states.
    var counters = [graph.inputs[0]: LoopNumber(iterations: 1)]
    var found: [(index: Int, state: RecurrentBody.State)] = []
    for (index, value) in initial.enumerated() {
      guard case .graph(let after) = body.results[index].place else { return nil }
      let before = graph.inputs[1 + index]
      if graph[before].type.elementType == .float32 {
        found.append((index, RecurrentBody.State(before: before, after: after)))
      } else {
        let following = LoopNumbers(body.builder, counters: [before: LoopNumber(iterations: 1)])
        guard let first = around.number(value),
          following.number(after) == LoopNumber(iterations: 1, constant: 1)
        else { return nil }
        counters[before] = LoopNumber(iterations: 1).adding(first)
      }
    }
    let numbers = LoopNumbers(body.builder, counters: counters) { around.number($0) }
    if let condition = body.condition {
      guard case .graph(let id) = condition.place, numbers.holds(id, count: length) else {
        return nil
      }
    }
    guard let step = RecurrentBody(graph, states: found.map(\.state)) else { return nil }
    self.step = step
    states = found.map(\.index)
    let hidden = ([step.hidden] + step.copies).map { found[$0].state.after }
    for stacked in body.results.dropFirst(initial.count) {
      guard case .graph(let id) = stacked.place, hidden.contains(id) else { return nil }
    }

    /// The sequence around the body that a value is the current step of.
    func read(_ value: Graph.ValueID) -> (sequence: Value, axis: Int, index: LoopNumber)? {
      guard let node = numbers.producer(of: value), case .gather(let gather) = node.operation,
        let data = node.input(0), let place = node.input(1), let sequence = numbers.captured(data),
        graph[place].type.shape.rank == 0, let index = numbers.number(place)
      else { return nil }
      let shape = outer.construction.type(of: sequence).shape
      guard shape.rank == 3, LoopNumber(shape[gather.axis]) == length else { return nil }
      return (sequence, gather.axis, index)
    }
    guard let input = read(step.input) else { return nil }
    sequence = input.sequence
    axis = input.axis
    let last = length.adding(LoopNumber(iterations: -1, constant: -1))
    isReversed = input.index == last
    guard isReversed || input.index == LoopNumber(iterations: 1) else { return nil }
    guard let flags = step.mask else {
      mask = nil
      return
    }
    guard let masks = read(flags), masks.axis == 0, masks.index == input.index, !isReversed,
      outer.construction.type(of: masks.sequence).shape[2] == 1
    else { return nil }
    mask = masks.sequence
    // A copy of h is h only if both begin alike.
    let begin = ([step.hidden] + step.copies).map { zeroShape(initial[states[$0]]) }
    guard step.copies.isEmpty || begin.allSatisfy({ $0 != nil }) else { return nil }
  }

  /// Whether the first iteration runs, if there is one.
  private static func begins(
    _ reader: LoopReader, _ around: LoopNumbers, length: LoopNumber
  ) -> Bool {
    guard let condition = reader.form.condition else { return true }
    switch condition.place {
    case .constant:
      return (try? reader.node.knownCondition(condition)) == true
    case .graph(let id): return around.holds(id, count: length)
    }
  }

  /// Whether the states before the first step have a row for each item of the batch, as far as that is
  /// known: a loop repeats a single one, a layer does not.
  var hasStatesOfEachItem: Bool {
    let batch = LoopNumber(outer.construction.type(of: sequence).shape[axis == 0 ? 1 : 0])
    return states.allSatisfy { index in
      let shape = outer.construction.type(of: initial[index]).shape
      guard shape.rank == 2 else { return false }
      guard
        let rows = LoopNumber(shape[0])
          ?? filled(initial[index])?.shape.first.flatMap(LoopNumber.init)
      else { return true }
      return rows == batch
    }
  }

  // MARK: Result

  /// The carried values after the last step, then the stacked ones.
  func results() throws(QMError) -> [Value] {
    let node = reader.node
    let label = node.node.label
    let type = initial[states[step.hidden]].type
    var steps = try node.transposed(sequence, [axis] + (0..<3).filter { $0 != axis })
    let order = try mask.map { (mask) throws(QMError) in try MaskedOrder(mask, node) }
    if let order { steps = try order.compacted(steps) }
    let weights = try matrix(step.weights, "weights")
    let recurrence = try matrix(step.recurrence, "recurrence")
    var inputs: [Value?] = [steps, weights, recurrence, nil, nil, nil, nil]
    if let bias = step.bias {
      inputs[RecurrentOperand.bias] = node.addConstant(
        try Tensor([1, bias.count], bias), "bias")
    }
    inputs[RecurrentOperand.hidden] = try first(step.hidden, of: steps)
    if let state = step.cellState { inputs[RecurrentOperand.cell] = try first(state, of: steps) }
    inputs[RecurrentOperand.lengths] = order?.lengths
    while let last = inputs.last, last == nil { inputs.removeLast() }
    let places = try outer.construction.append(
      .recurrent(
        Recurrent(
          step.cell, direction: isReversed ? .reverse : .forward, functions: step.functions)),
      name: label, inputs, outputNames: (0..<3).map { "\(label)/steps:\($0)" })

    func squeezed(_ output: Int, axis: Int, named name: String) throws(QMError) -> Value {
      let place = try outer.construction.append(
        .squeeze(Squeeze(axes: [axis])), name: "\(label)/output:\(output)",
        [Value(place: places[output], type: type)], outputNames: [name])[0]
      return Value(place: place, type: type)
    }
    var results: [Value] = []
    for (index, value) in initial.enumerated() {
      switch states.firstIndex(of: index) {
      case nil:
        let steps = try node.call("CastLike", count, value)
        results.append(try node.call("Add", value, steps))
      case step.cellState: results.append(try squeezed(2, axis: 0, named: reader.outputName(index)))
      default: results.append(try squeezed(1, axis: 0, named: reader.outputName(index)))
      }
    }
    for (index, stacking) in reader.form.stacking.enumerated() {
      let name = reader.outputName(initial.count + index)
      var sequence = try squeezed(0, axis: 1, named: order == nil ? name : "")
      if let order {
        sequence = try order.spread(sequence, before: initial[states[step.hidden]])
      }
      // In the order of the iterations, as the loop stacks it.
      let stacked = isReversed ? try node.reversed(sequence, axis: 0) : sequence
      results.append(try reader.placed(stacked, stacking))
    }
    return results
  }

  /// A state before the first step, `[1, B, H]`; nil if it is zero for each item of the batch.
  private func first(_ state: Int, of steps: Value) throws(QMError) -> Value? {
    let value = initial[states[state]]
    let batch = LoopNumber(outer.construction.type(of: steps).shape[1])
    if batch != nil, let shape = zeroShape(value), shape.count == 2, LoopNumber(shape[0]) == batch {
      return nil
    }
    return try reader.node.append(
      .unsqueeze(Unsqueeze(axes: [0])), [value], as: value.type, "state:\(state)")
  }

  /// The shape of a value that is known to be zero; nil for any other.
  private func zeroShape(_ value: Value) -> [PartialIntegers.Element]? {
    guard let (numbers, shape) = filled(value), numbers.elementType == .float32,
      numbers.withElements(as: Float.self, { $0.allSatisfy { $0 == 0 } })
    else { return nil }
    return shape
  }

  /// The numbers and the shape of a constant, or of a value that repeats one number; nil for any
  /// other.
  private func filled(_ value: Value) -> (numbers: Tensor, shape: [PartialIntegers.Element])? {
    guard case .graph(let id) = value.place else {
      return outer.construction.constant(of: value).map { ($0, $0.shape.map { .known($0) }) }
    }
    guard let node = outer.graph.nodes.last(where: { $0.outputs.contains(id) }) else { return nil }
    let (number, extents): (Graph.ValueID?, Graph.ValueID?)
    switch node.operation {
    case .expand: (number, extents) = (node.input(0), node.input(1))
    case .fill: (number, extents) = (node.input(1), node.input(0))
    default: return nil
    }
    guard let number, let extents, let constant = outer.graph[number].constant,
      constant.elementCount == 1,
      let shape = outer.construction.partial(of: Value(place: .graph(extents), type: .int64))
    else { return nil }
    return (constant, shape.elements)
  }

  /// The weights of all gates: the body's constant where that is it, else its parts together.
  private func matrix(_ parts: [RecurrentBody.Rows], _ name: String) throws(QMError) -> Value {
    var values: [Value] = []
    for part in parts {
      guard let whole = outer.construction.addCopy(of: body.graph[part.matrix]) else {
        throw .internalFault("the weights of a recurrent layer are computed")
      }
      values.append(
        Shape.Axis.fixed(part.range.count) == body.graph[part.matrix].type.shape[0]
          ? whole
          : try reader.node.sliced(
            whole, axis: 0, from: part.range.lowerBound, to: part.range.upperBound))
    }
    if values.count == 1 { return values[0] }
    return try reader.node.append(
      .concatenate(Concatenate(axis: 0)), values, as: .float32, name)
  }
}

/// The steps of each sequence in an order in which those that a mask keeps come first.
private struct MaskedOrder {
  typealias Value = GraphBuilder.Value

  private let node: NodeReader
  /// The numbers of the steps in the new order, `[T, B]`.
  private let order: Value
  /// How many steps are kept until each step, `[T, B]`.
  private let keptCount: Value
  /// How many steps are kept, int32 `[B]`.
  let lengths: Value

  /// - Parameter mask: bools `[T, B, 1]`.
  init(_ mask: Value, _ node: NodeReader) throws(QMError) {
    self.node = node
    let flags = try node.call("Squeeze", mask, node.integers([2]))
    let one = try node.integers([1])
    let axis = node.addConstant(try Tensor([], [Int64(0)]), "axis")
    func count(_ flags: Value) throws(QMError) -> Value {
      let numbers = try node.call("Cast", flags, with: ["to": .integer(7)])
      return try node.call("CumSum", numbers, axis)
    }
    keptCount = try count(flags)
    let leftOutCount = try count(node.call("Not", flags))
    let total = try node.call(
      "ReduceSum", node.call("Cast", flags, with: ["to": .integer(7)]), node.integers([0]))
    let places = try node.call(
      "Where", flags, node.call("Sub", keptCount, one),
      node.call("Sub", node.call("Add", total, leftOutCount), one))
    let steps = try node.call("Sub", node.call("Add", keptCount, leftOutCount), one)
    order = try node.call(
      "ScatterElements", places, places, steps, with: ["axis": .integer(0)])
    let rows = try node.call("Squeeze", total, node.integers([0]))
    lengths = try node.call("Cast", rows, with: ["to": .integer(6)])
  }

  /// The elements `[T, B, n]` of a sequence at some of its steps, `[T, B]`.
  private func gathered(_ sequence: Value, at steps: Value) throws(QMError) -> Value {
    let places = try node.call("Unsqueeze", node.transposed(steps, [1, 0]), node.integers([2]))
    let rows = try node.call(
      "GatherND", node.transposed(sequence, [1, 0, 2]), places, with: ["batch_dims": .integer(1)])
    return try node.transposed(rows, [1, 0, 2])
  }

  func compacted(_ sequence: Value) throws(QMError) -> Value {
    try gathered(sequence, at: order)
  }

  /// The states after each step, of those after each kept one.
  /// - Parameter first: the state before the first step, `[B, n]`.
  func spread(_ states: Value, before first: Value) throws(QMError) -> Value {
    let zero = try node.integers([0])
    let last = try node.call("Sub", keptCount, node.integers([1]))
    let kept = try gathered(states, at: node.call("Max", [last, zero], outputs: 1)[0])
    let isAny = try node.call(
      "Unsqueeze", node.call("Greater", keptCount, zero), node.integers([2]))
    return try node.call("Where", isAny, kept, first)
  }
}
