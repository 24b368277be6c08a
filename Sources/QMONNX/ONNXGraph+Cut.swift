import QMTensor

extension ONNXGraph {
  /// Leaves only what the values `names` need, and makes them the outputs.
  /// - Throws: `usage` if a value does not exist.
  mutating func cut(to names: [String]) throws(QMError) {
    var producers: [String: Int] = [:]
    for (index, node) in nodes.enumerated() {
      for output in node.outputs where !output.isEmpty { producers[output] = index }
    }
    let given = Set(inputs.map(\.name)).union(initializers.map(\.name))
    for name in names where producers[name] == nil && !given.contains(name) {
      throw .usage("no value is named '\(name.abbreviated)'")
    }
    var needed = Set(names)
    var isRead = [Bool](repeating: false, count: nodes.count)
    var pending = names
    while let name = pending.popLast() {
      guard let producer = producers[name], !isRead[producer] else { continue }
      isRead[producer] = true
      for input in nodes[producer].inputs where needed.insert(input).inserted {
        pending.append(input)
      }
    }
    let declared = outputs
    nodes = nodes.indices.filter { isRead[$0] }.map { nodes[$0] }
    inputs = inputs.filter { needed.contains($0.name) }
    initializers = initializers.filter { needed.contains($0.name) }
    outputs = names.map { name in
      declared.first { $0.name == name } ?? ONNXValueInfo(name: name, type: nil)
    }
  }
}
