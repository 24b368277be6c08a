import QMOperations
import QMTensor

/// A Loop or Scan: a body that runs once for each iteration.
struct LoopForm {
  /// An input of a Scan, one slice of which each iteration reads.
  struct Scanned {
    let value: NodeReader.Value
    let axis: Int
    let isReversed: Bool
  }

  /// Where the results of the iterations are stacked.
  struct Stacking {
    let axis: Int
    let isReversed: Bool
  }

  let body: ONNXGraph
  /// Number of iterations; nil if only the condition ends the loop.
  let count: NodeReader.Value?
  /// Whether the first iteration runs; nil for always.
  let condition: NodeReader.Value?
  /// The values that an iteration hands to the next, as they are before the first.
  let carried: [GraphBuilder.Item]
  let scanned: [Scanned]
  let stacking: [Stacking]
  /// Whether the body has the number of the iteration and the condition as inputs, and the condition
  /// as its first output: a Loop.
  let hasCondition: Bool

  /// For each carried value whether all iterations return it as it was: exporters carry weights so.
  var invariance: [Bool] {
    var sources: [String: String] = [:]
    for node in body.nodes
    where node.fullOperation == "Identity" && node.inputs.count == 1 && node.outputs.count == 1 {
      sources[node.outputs[0]] = node.inputs[0]
    }
    return carried.indices.map { index in
      var name = body.outputs[index + (hasCondition ? 1 : 0)].name
      // No longer than there are nodes: a malformed graph may have a cycle.
      var left = body.nodes.count
      while left > 0, let source = sources[name] { (name, left) = (source, left - 1) }
      return name == body.inputs[index + (hasCondition ? 2 : 0)].name
    }
  }
}

extension NodeReader {
  func loop() throws(QMError) {
    let body = try graph("body")
    var carried: [GraphBuilder.Item] = []
    for index in node.inputs.indices.dropFirst(2) {
      guard hasInput(index), let item = try builder.item(named: node.inputs[index]) else {
        throw .malformed("input \(index) is missing")
      }
      carried.append(item)
    }
    let stacked = body.outputs.count - 1 - carried.count
    guard body.inputs.count == carried.count + 2, stacked >= 0,
      node.outputs.count <= carried.count + stacked
    else {
      throw .malformed(
        "a body of \(body.inputs.count) inputs and \(body.outputs.count) outputs for \(carried.count) values that are carried and \(node.outputs.count) outputs"
      )
    }
    let count = try int64(0)
    let condition = try optional(1)
    guard condition.map({ $0.type == .bool }) ?? true else {
      throw .malformed("a condition of type \(condition?.type ?? .bool), expected bool")
    }
    try read(
      LoopForm(
        body: body, count: count, condition: condition, carried: carried, scanned: [],
        stacking: [LoopForm.Stacking](
          repeating: LoopForm.Stacking(axis: 0, isReversed: false), count: stacked),
        hasCondition: true))
  }

  func scan() throws(QMError) {
    guard opset >= 9 else {
      throw .unsupported(
        "Scan of opset 8",
        remedies: .changeModel(how: "convert the model with onnx.version_converter"), .cutBefore)
    }
    let body = try graph("body")
    guard let scannedCount = try integer("num_scan_inputs"), scannedCount >= 1,
      scannedCount <= node.inputs.count, body.inputs.count == node.inputs.count
    else { throw .malformed("num_scan_inputs does not fit the \(node.inputs.count) inputs") }
    let carriedCount = node.inputs.count - scannedCount
    let stackedCount = body.outputs.count - carriedCount
    guard stackedCount >= 0, node.outputs.count <= body.outputs.count else {
      throw .malformed(
        "a body of \(body.outputs.count) outputs for \(carriedCount) values that are carried")
    }
    func numbers(_ name: String, _ count: Int) throws(QMError) -> [Int] {
      let numbers = try integers(name) ?? [Int](repeating: 0, count: count)
      guard numbers.count == count else {
        throw .malformed("\(numbers.count) \(name), expected \(count)")
      }
      return numbers
    }
    let inputAxes = try numbers("scan_input_axes", scannedCount)
    let inputDirections = try numbers("scan_input_directions", scannedCount)
    let outputAxes = try numbers("scan_output_axes", stackedCount)
    let outputDirections = try numbers("scan_output_directions", stackedCount)
    var carried: [GraphBuilder.Item] = []
    for index in 0..<carriedCount { carried.append(.value(try raw(index))) }
    var scanned: [LoopForm.Scanned] = []
    for index in 0..<scannedCount {
      let value = try raw(carriedCount + index)
      scanned.append(
        LoopForm.Scanned(
          value: value, axis: try axis(inputAxes[index], rank: shape(value).rank),
          isReversed: inputDirections[index] != 0))
    }
    let first = scanned[0]
    let count = try call(
      "Gather", shapeValue(of: first.value, "extents"),
      addConstant(Tensor([], [Int64(first.axis)]), "axis"))
    for other in scanned {
      let (one, another) = (shape(first.value)[first.axis], shape(other.value)[other.axis])
      guard one.extent == nil || another.extent == nil || one == another else {
        throw .malformed("it scans \(one) and \(another) elements; expected one number")
      }
    }
    try read(
      LoopForm(
        body: body, count: count, condition: nil, carried: carried, scanned: scanned,
        stacking: zip(outputAxes, outputDirections).map {
          LoopForm.Stacking(axis: $0, isReversed: $1 != 0)
        },
        hasCondition: false))
  }

  private func read(_ form: LoopForm) throws(QMError) { try finish(results(of: form)) }

  /// The carried values after the last iteration, then the stacked results.
  func results(of form: LoopForm) throws(QMError) -> [GraphBuilder.Item] {
    let reader = LoopReader(node: self, form: form)
    if let results = reader.recurrentResults() { return results.map(GraphBuilder.Item.value) }
    if let results = try unrolled(form) { return results }
    return try reader.results().map(GraphBuilder.Item.value)
  }

  // MARK: Iterations one by one

  /// Largest number of iterations, and of nodes that they add to the graph, for which the nodes of
  /// all iterations stand one after the other.
  private static let mostIterations = 1024
  private static let mostNodes = 1024

  /// The results of the loop, each iteration's nodes after those of the one before; nil if the number
  /// of iterations is not known while the network is read, or if there are too many.
  private func unrolled(_ form: LoopForm) throws(QMError) -> [GraphBuilder.Item]? {
    var count = Int.max
    if let given = form.count {
      guard let tensor = constant(given) else { return nil }
      guard tensor.elementCount == 1 else {
        throw .malformed("a number of iterations of shape \(tensor.shape); expected one element")
      }
      count = max(Int(tensor.elements(as: Int64.self)[0]), 0)
    }
    var goesOn = true
    if let given = form.condition {
      guard let known = try knownCondition(given) else { return nil }
      goesOn = known
    }
    // A result without iterations has the type of the body's output, which only its nodes tell.
    guard goesOn && count > 0 || form.stacking.isEmpty else { return nil }

    let before = builder.contents
    let nodeCount = builder.graph.nodes.count
    var carried = form.carried
    var stacks = [[Value]](repeating: [], count: form.stacking.count)
    let isUnrolled = try builder.inlining(form.body, as: "the body") {
      (add) throws(QMError) -> Bool in
      var iteration = 0
      while goesOn && iteration < count {
        guard iteration < Self.mostIterations, builder.iterationsLeft > 0,
          builder.graph.nodes.count - nodeCount <= Self.mostNodes
        else { return false }
        builder.iterationsLeft -= 1
        let number = addConstant(try Tensor([], [Int64(iteration)]), "iteration")
        var arguments = carried
        if form.hasCondition {
          let condition = addConstant(try Tensor([], [true]), "condition")
          arguments = [.value(number), .value(condition)] + arguments
        }
        for scanned in form.scanned {
          arguments.append(.value(try slice(scanned, iteration, of: count)))
        }
        var results = try add(arguments)
        if form.hasCondition {
          guard case .value(let condition) = results.removeFirst(),
            let known = try knownCondition(condition)
          else { return false }
          goesOn = known
        }
        for (index, result) in results.dropFirst(carried.count).enumerated() {
          guard case .value(let value) = result else {
            throw .malformed("the body returns a sequence to be stacked; expected a tensor")
          }
          try requireSameType(value, stacks[index].first)
          stacks[index].append(value)
        }
        carried = Array(results.prefix(carried.count))
        iteration += 1
      }
      return true
    }
    guard isUnrolled else {
      builder.contents = before
      return nil
    }
    var results = carried
    for (stack, stacking) in zip(stacks, form.stacking) {
      results.append(.value(try stacked(stack, stacking)))
    }
    return results
  }

  /// - Throws: `malformed` unless the value is one bool.
  func knownCondition(_ value: Value) throws(QMError) -> Bool? {
    guard value.type == .bool else { throw .malformed("a condition of type \(value.type)") }
    guard let tensor = constant(value) else { return nil }
    guard tensor.elementCount == 1 else {
      throw .malformed("a condition of shape \(tensor.shape); expected one element")
    }
    return tensor.elements(as: Bool.self)[0]
  }

  private func slice(
    _ scanned: LoopForm.Scanned, _ iteration: Int, of count: Int
  ) throws(QMError) -> Value {
    let place = scanned.isReversed ? count - 1 - iteration : iteration
    return try call(
      "Gather", scanned.value, addConstant(Tensor([], [Int64(place)]), "place"),
      with: ["axis": .integer(Int64(scanned.axis))])
  }

  /// The results of the iterations along a new axis.
  private func stacked(
    _ stack: [Value], _ stacking: LoopForm.Stacking
  ) throws(QMError) -> Value {
    let axis = try axis(stacking.axis, rank: shape(stack[0]).rank + 1)
    let axes = try integers([axis])
    var parts: [Value] = []
    for part in stacking.isReversed ? stack.reversed() : stack {
      parts.append(try call("Unsqueeze", part, axes))
    }
    return try call("Concat", parts, ["axis": .integer(Int64(axis))], outputs: 1)[0]
  }
}
