import QMGraph
import QMOperations
import QMTensor

/// Reads a Loop or Scan as one Loop operation, whose body is a graph of its own.
struct LoopReader {
  typealias Value = GraphBuilder.Value

  let node: NodeReader
  let form: LoopForm
  /// ``LoopForm/invariance``
  private let isInvariant: [Bool]

  init(node: NodeReader, form: LoopForm) {
    self.node = node
    self.form = form
    isInvariant = form.invariance
  }

  var outer: GraphBuilder { node.builder }

  /// Indices of the carried values that an iteration may change. The body reads the others as any
  /// value around it.
  private var varying: [Int] { form.carried.indices.filter { !isInvariant[$0] } }

  /// The body, built for carried values of certain types.
  struct Body {
    let builder: GraphBuilder
    /// The condition, nil for always, then the results: the values that vary, and the stacked ones.
    let condition: Value?
    let results: [Value]
  }

  /// The values that the loop returns.
  func results() throws(QMError) -> [Value] {
    let initial = try initialValues()
    let body = try settledBody(initial)
    let (loop, outside) = try operation(of: body, carriedCount: initial.count)
    let places = try outer.construction.append(
      .loop(loop), name: node.node.label, [form.count, firstCondition()] + initial + outside,
      outputNames: form.hasCondition && node.node.operation == "Loop"
        ? body.results.indices.map(outputName) : [])
    var results: [Value] = []
    for (index, place) in places.enumerated() {
      let value = Value(place: place, type: body.results[index].type)
      results.append(
        index < initial.count ? value : try placed(value, form.stacking[index - initial.count]))
    }
    return try self.results(results)
  }

  /// The carried values that vary, before the first iteration.
  func initialValues() throws(QMError) -> [Value] {
    var initial: [Value] = []
    for index in varying {
      let given = try carried(index)
      let plain = try outer.construction.integers(given)
      let float = try node.inFloat32(plain)
      initial.append(Value(place: float.place, type: given.type))
    }
    return initial
  }

  private func carried(_ index: Int) throws(QMError) -> Value {
    guard case .value(let given) = form.carried[index] else {
      throw .unsupported(
        "a sequence is carried by a loop whose number of iterations is computed",
        remedies: .changeModel(how: "export the model with the loop unrolled"), .cutBefore)
    }
    return given
  }

  /// The node's name of a result of ``Body``; "" if it has none.
  func outputName(_ result: Int) -> String {
    let varying = varying
    let index =
      result < varying.count ? varying[result] : form.carried.count + result - varying.count
    return index < node.node.outputs.count ? node.node.outputs[index] : ""
  }

  /// All values that the loop returns, from the results of ``Body``.
  func results(_ own: [Value]) throws(QMError) -> [Value] {
    var left = own[...]
    var results: [Value] = []
    for index in form.carried.indices {
      if !isInvariant[index], let next = left.popFirst() {
        results.append(next)
      } else {
        results.append(try carried(index))
      }
    }
    return results + left
  }

  /// The condition of the first iteration; nil if it holds.
  private func firstCondition() throws(QMError) -> Value? {
    guard let condition = form.condition else { return nil }
    return try node.knownCondition(condition) == true ? nil : condition
  }

  /// The stacked results, which are along axis 0, along the axis that the node asks for.
  func placed(
    _ value: Value, _ stacking: LoopForm.Stacking
  ) throws(QMError) -> Value {
    let rank = node.shape(value).rank
    let axis = try node.axis(stacking.axis, rank: rank)
    let turned = stacking.isReversed ? try node.reversed(value, axis: 0) : value
    return try node.transposed(
      turned, Array(1..<axis + 1) + [0] + Array(axis + 1..<max(rank, axis + 1)))
  }

  // MARK: The body

  /// The body for types of the carried values that hold in each iteration.
  func settledBody(_ initial: [Value]) throws(QMError) -> Body {
    var types = initial.map { outer.construction.type(of: $0) }
    var rounds = 0
    while true {
      let body = try body(initial, types)
      var isSettled = true
      for index in types.indices {
        let returned = body.builder.construction.type(of: body.results[index])
        guard body.results[index].type == initial[index].type,
          returned.shape.rank == types[index].shape.rank
        else {
          throw .malformed(
            "carried value \(index) is \(initial[index].type)\(types[index].shape) before an iteration and \(body.results[index].type)\(returned.shape) after it"
          )
        }
        for axis in 0..<returned.shape.rank {
          let isEqual = types[index].shape[axis] == returned.shape[axis]
          let isFree = types[index].shape[axis] == freeAxis(index, axis)
          guard !isFree, rounds > 3 || !isEqual else { continue }
          types[index].shape[axis] = freeAxis(index, axis)
          isSettled = false
        }
      }
      if isSettled { return body }
      rounds += 1
    }
  }

  private func freeAxis(_ carried: Int, _ axis: Int) -> Shape.Axis {
    .free("\(node.node.label.abbreviated).\(carried).\(axis)")
  }

  private func body(_ initial: [Value], _ types: [ValueType]) throws(QMError) -> Body {
    let builder = GraphBuilder(within: outer)
    defer { outer.iterationsLeft = builder.iterationsLeft }
    let inner = NodeReader(node: node.node, builder: builder)
    let iteration = try builder.construction.addInput(
      name: "iteration", ValueType(.int64, []))
    var arguments: [GraphBuilder.Item] = []
    if form.hasCondition {
      arguments = [
        .value(iteration), .value(inner.addConstant(try Tensor([], [true]), "condition")),
      ]
    }
    // First all that vary: the operation numbers the captured values after them.
    var inputs: [Value] = []
    for (index, type) in types.enumerated() {
      let input = try builder.construction.addInput(name: "carried\(index)", type)
      inputs.append(Value(place: input.place, type: initial[index].type))
    }
    for index in form.carried.indices {
      arguments.append(
        .value(
          isInvariant[index]
            ? try builder.capture(carried(index)) : inputs.removeFirst()))
    }
    for scanned in form.scanned {
      let place: Value
      if scanned.isReversed, let count = form.count {
        place = try inner.call(
          "Sub", inner.call("Sub", builder.capture(count), inner.number(1, like: count)), iteration)
      } else {
        place = iteration
      }
      arguments.append(
        .value(
          try inner.call(
            "Gather", builder.capture(scanned.value), place,
            with: ["axis": .integer(Int64(scanned.axis))])))
    }
    let items = try builder.inlining(form.body, as: "the body") { (add) throws(QMError) in
      try add(arguments)
    }
    var results: [Value] = []
    let first = form.hasCondition ? 1 : 0
    for (index, item) in items.enumerated() {
      let carried = index - first
      guard !isInvariant.indices.contains(carried) || !isInvariant[carried] else {
        continue
      }
      guard case .value(let value) = item else {
        throw .unsupported("the body of a loop of unknown length returns a sequence")
      }
      let plain = try builder.construction.integers(value)
      let float = try inner.inFloat32(plain)
      results.append(Value(place: float.place, type: value.type))
    }
    guard form.hasCondition else {
      return Body(builder: builder, condition: nil, results: results)
    }
    let condition = results.removeFirst()
    let isAlways = try inner.knownCondition(condition) == true
    return Body(builder: builder, condition: isAlways ? nil : condition, results: results)
  }

  // MARK: The operation

  /// The body as the nodes of an operation, and the values of the outer graph that it reads.
  private func operation(
    of body: Body, carriedCount: Int
  ) throws(QMError) -> (loop: Loop, outside: [Value]) {
    let builder = body.builder
    let conditions = [body.condition].compactMap { $0 }
    for (index, value) in (conditions + body.results).enumerated() {
      let type = builder.construction.type(of: value).elementType
      try builder.construction.addOutput(
        name: "\(index)", Value(place: value.place, type: type))
    }
    let graph = builder.graph
    var needed = Set(graph.outputs.map(\.value))
    var isNeeded = [Bool](repeating: false, count: graph.nodes.count)
    for (index, node) in graph.nodes.enumerated().reversed()
    where node.outputs.contains(where: needed.contains) {
      isNeeded[index] = true
      needed.formUnion(node.inputs.compactMap { $0 })
    }

    // Iteration, carried values and captured ones are the inputs, in this order.
    var numbers: [Graph.ValueID: Int] = [:]
    for (number, input) in graph.inputs.enumerated() { numbers[input] = number }
    var outside = builder.captures.map(\.outer)
    for value in graph.valueIDs where needed.contains(value) {
      guard let tensor = graph[value].constant else { continue }
      numbers[value] = numbers.count
      outside.append(outer.construction.addConstant(name: graph[value].name, tensor))
    }
    var next = numbers.count
    var nodes: [LoopNode] = []
    for (index, node) in graph.nodes.enumerated() where isNeeded[index] {
      nodes.append(
        LoopNode(
          node.operation, inputs: node.inputs.map { $0.flatMap { numbers[$0] } },
          outputCount: node.outputs.count))
      for output in node.outputs {
        numbers[output] = next
        next += 1
      }
    }
    let outputs = graph.outputs.compactMap { numbers[$0.value] }
    return (
      Loop(
        carriedCount: carriedCount, nodes: nodes,
        condition: body.condition == nil ? nil : outputs.first,
        results: Array(outputs.dropFirst(conditions.count))), outside
    )
  }
}
