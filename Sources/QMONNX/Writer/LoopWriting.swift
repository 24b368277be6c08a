import QMGraph
import QMOperations
import QMTensor

extension GraphWriter {
  /// Loop: the body is a graph of its own, whose nodes read the values from outside by their names.
  mutating func write(_ loop: Loop, _ node: Graph.Node) throws(QMError) {
    let types = try loop.valueTypes(graph.operands(of: node))
    let stem = try name(of: node.outputs[0])
    var body = Graph()
    var values = [
      try body.addInput(name: unique("\(stem).iteration"), ValueType(.int64, []))
    ]
    for index in 0..<loop.carriedCount {
      values.append(
        try body.addInput(name: unique("\(stem).carried\(index)"), types[1 + index]))
    }
    let ownInputs = values.count
    var outside: [String: Graph.ValueID] = [:]
    for position in node.inputs.indices.dropFirst(2 + loop.carriedCount) {
      guard let value = node.input(position) else {
        throw .malformed("input \(position) is missing")
      }
      if let tensor = graph[value].constant {
        values.append(body.addConstant(name: graph[value].name, tensor))
        continue
      }
      let name = try name(of: value)
      if outside[name] == nil { outside[name] = try body.addInput(name: name, graph[value].type) }
      values.append(outside[name] ?? values[0])
    }
    for (index, inner) in loop.nodes.enumerated() {
      values += try body.append(
        inner.operation, name: "\(stem).\(index)", inner.inputs.map { $0.map { values[$0] } })
    }
    let goesOn = unique("\(stem).goesOn")
    if let condition = loop.condition {
      try body.addOutput(name: goesOn, values[condition])
    }
    for (index, result) in loop.results.enumerated() {
      try body.addOutput(name: unique("\(stem).result\(index)"), values[result])
    }

    var writer = try GraphWriter(body)
    writer.taken.formUnion(taken)
    for inner in body.nodes { try writer.write(inner) }
    var written = try writer.finish()
    taken = writer.taken
    written.name = "body"
    written.inputs = Array(written.inputs.prefix(ownInputs))
    let single = ONNXValueInfo.TensorType(dataType: ElementType.bool.onnxType, axes: [])
    let condition = unique("\(stem).condition")
    written.inputs.insert(ONNXValueInfo(name: condition, type: single), at: 1)
    if loop.condition == nil {
      written.nodes.append(
        ONNXNode(
          name: goesOn, operation: "Identity", domain: "", inputs: [condition], outputs: [goesOn],
          attributes: [], position: 0))
      written.outputs.insert(ONNXValueInfo(name: goesOn, type: single), at: 0)
    }
    var inputs = [try input(node, 0)]
    inputs.append(
      try node.input(1) == nil ? constant(Tensor([], [true]), "true") : input(node, 1))
    for index in 0..<loop.carriedCount { inputs.append(try input(node, 2 + index)) }
    try emit("Loop", inputs, node, [("body", .graph(written))])
  }
}
