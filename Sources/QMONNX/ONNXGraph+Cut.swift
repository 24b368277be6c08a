import QMTensor

extension ONNXGraph {
  /// Makes the values `names` the outputs and drops everything that they do not depend on.
  /// - Parameter starts: values that the caller defines, so that the nodes that compute them are
  ///   dropped too. Those that are inputs stay inputs.
  /// - Throws: `usage` if a value does not exist.
  mutating func cut(to names: [String], from starts: Set<String> = []) throws(QMError) {
    var known = Set(inputs.map(\.name)).union(initializers.map(\.name))
    for node in nodes { known.formUnion(node.outputs) }
    known.remove("")
    for name in names + starts.sorted() where !known.contains(name) {
      throw .usage("no value is named '\(name.abbreviated)'")
    }
    let needed = namesNeeded(for: names, from: starts)
    let declared = outputs
    nodes = nodes.indices.filter { index in
      nodes[index].outputs.contains { needed.contains($0) && !starts.contains($0) }
    }.map { index in
      var node = nodes[index]
      node.outputs = node.outputs.map { starts.contains($0) ? "" : $0 }
      return node
    }
    inputs = inputs.filter { needed.contains($0.name) }
    initializers = initializers.filter { needed.contains($0.name) && !starts.contains($0.name) }
    outputs = names.map { name in
      declared.first { $0.name == name } ?? ONNXValueInfo(name: name, type: nil)
    }
  }
}

extension ONNXGraph {
  /// `names`, and the names of all values on which they depend.
  func namesNeeded(for names: [String], from starts: Set<String> = []) -> Set<String> {
    var producers: [String: Int] = [:]
    for (index, node) in nodes.enumerated() {
      for output in node.outputs where !output.isEmpty { producers[output] = index }
    }
    var needed = Set(names)
    var isRead = [Bool](repeating: false, count: nodes.count)
    var pending = names
    while let name = pending.popLast() {
      guard !starts.contains(name), let producer = producers[name], !isRead[producer] else {
        continue
      }
      isRead[producer] = true
      for input in nodes[producer].namesRead where needed.insert(input).inserted {
        pending.append(input)
      }
    }
    return needed
  }
}

extension ONNXNode {
  /// Every name that the node reads, or that one of its branches reads and does not define.
  var namesRead: Set<String> {
    var names = Set(inputs)
    for attribute in attributes {
      guard case .graph(let graph) = attribute.value else { continue }
      names.formUnion(
        graph.namesRead.union(graph.outputs.map(\.name)).subtracting(graph.namesDefined))
    }
    return names
  }
}

extension ONNXGraph {
  /// Names of the graph's inputs, initializers and outputs of nodes.
  var namesDefined: Set<String> {
    var names = Set(inputs.map(\.name)).union(initializers.map(\.name))
    for node in nodes { names.formUnion(node.outputs) }
    return names
  }

  /// Every name that a node reads.
  var namesRead: Set<String> {
    nodes.reduce(into: []) { $0.formUnion($1.namesRead) }
  }
}
