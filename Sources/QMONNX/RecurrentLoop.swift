import QMGraph
import QMOperations
import QMTensor

/// A loop that is a recurrent layer, as Keras writes GRU and SimpleRNN through tf2onnx.
///
/// Given: iteration i of T reads x[i] or x[T − 1 − i] of a sequence with T steps, computes one step of
/// a ``RecurrentBody``, hands the states to the next iteration, and may stack h. It may also count,
/// and end on a condition that holds until T.
///
/// Result: one ``Recurrent``, which runs on integers.
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
      if let loop = try RecurrentLoop(self, settledBody(initial), initial, count) {
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

  init?(_ reader: LoopReader, _ body: LoopReader.Body, _ initial: [Value], _ count: Value) {
    self.reader = reader
    outer = reader.outer
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
    let hidden = found[step.hidden].state.after
    for stacked in body.results.dropFirst(initial.count)
    where stacked.place != .graph(hidden) { return nil }

    guard let read = numbers.producer(of: step.input), case .gather(let gather) = read.operation,
      let data = read.input(0), let place = read.input(1), let sequence = numbers.captured(data),
      graph[place].type.shape.rank == 0, let index = numbers.number(place)
    else { return nil }
    let shape = outer.construction.type(of: sequence).shape
    guard shape.rank == 3, LoopNumber(shape[gather.axis]) == length else { return nil }
    self.sequence = sequence
    axis = gather.axis
    let last = length.adding(LoopNumber(iterations: -1, constant: -1))
    guard index == LoopNumber(iterations: 1) || index == last else { return nil }
    isReversed = index == last
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

  // MARK: Result

  /// The carried values after the last step, then the stacked ones.
  func results() throws(QMError) -> [Value] {
    let node = reader.node
    let label = node.node.label
    let type = initial[states[step.hidden]].type
    let steps = try node.transposed(sequence, [axis] + (0..<3).filter { $0 != axis })
    let weights = try matrix(step.weights, "weights")
    let recurrence = try matrix(step.recurrence, "recurrence")
    var inputs: [Value?] = [steps, weights, recurrence, nil, nil, nil, nil]
    if let bias = step.bias {
      inputs[RecurrentOperand.bias] = node.addConstant(
        try Tensor([1, bias.count], bias), "bias")
    }
    inputs[RecurrentOperand.hidden] = try first(step.hidden, of: steps)
    if let state = step.cellState { inputs[RecurrentOperand.cell] = try first(state, of: steps) }
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
      case step.hidden: results.append(try squeezed(1, axis: 0, named: reader.outputName(index)))
      case nil:
        let steps = try node.call("CastLike", count, value)
        results.append(try node.call("Add", value, steps))
      default: results.append(try squeezed(2, axis: 0, named: reader.outputName(index)))
      }
    }
    for (index, stacking) in reader.form.stacking.enumerated() {
      let sequence = try squeezed(
        0, axis: 1, named: reader.outputName(initial.count + index))
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
    func isZero(_ constant: Tensor?) -> Bool {
      guard let constant, constant.elementType == .float32 else { return false }
      return constant.withElements(as: Float.self) { $0.allSatisfy { $0 == 0 } }
    }
    guard case .graph(let id) = value.place else {
      guard let constant = outer.construction.constant(of: value), isZero(constant) else {
        return nil
      }
      return constant.shape.map { .known($0) }
    }
    guard let node = outer.graph.nodes.last(where: { $0.outputs.contains(id) }) else { return nil }
    let (number, extents): (Graph.ValueID?, Graph.ValueID?)
    switch node.operation {
    case .expand: (number, extents) = (node.input(0), node.input(1))
    case .fill: (number, extents) = (node.input(1), node.input(0))
    default: return nil
    }
    guard let number, let extents, let constant = outer.graph[number].constant, isZero(constant),
      constant.elementCount == 1
    else { return nil }
    return outer.construction.partial(of: Value(place: .graph(extents), type: .int64))?.elements
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
