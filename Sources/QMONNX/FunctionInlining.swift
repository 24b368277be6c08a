import QMTensor

extension ONNXModel {
  /// Puts the nodes of the file's functions in place of the nodes that call them, so that the graph
  /// holds operators only.
  ///
  /// The values of a function's body get the name of the call before their own. A function comes
  /// before an operator of the same domain and name.
  /// - Throws: `malformed` for two functions of one name, a function that calls itself, or a call
  ///   with too many inputs or outputs; `unsupported` for calls that nest deeper than
  ///   `limits.depth`, or more nodes or names than the limits allow.
  mutating func inlineFunctions(limits: ONNXLimits) throws(QMError) {
    guard !functions.isEmpty else { return }
    var inlining = FunctionInlining(
      opset: operatorSets[""], nodesLeft: limits.nodes, nameBytesLeft: limits.messageBytes,
      depth: limits.depth, taken: graph.allNamesDefined)
    for function in functions {
      guard inlining.functions.updateValue(function, forKey: function.key) == nil else {
        throw .malformed("two functions are named '\(function.key.text)'")
      }
    }
    try inlining.inline(into: &graph)
  }
}

private struct FunctionInlining {
  var functions: [ONNXFunction.Key: ONNXFunction] = [:]
  /// Version of ONNX's own operator set that the model imports.
  let opset: Int?
  var nodesLeft: Int
  var nameBytesLeft: Int
  let depth: Int
  /// Names that the graph itself defines.
  let taken: Set<String>
  /// The functions whose bodies are being put in place, the outermost first.
  private var active: [ONNXFunction.Key] = []
  /// How often each prefix was used, so that the bodies of two calls of one name differ.
  private var prefixes: [String: Int] = [:]

  init(opset: Int?, nodesLeft: Int, nameBytesLeft: Int, depth: Int, taken: Set<String>) {
    self.opset = opset
    self.nodesLeft = nodesLeft
    self.nameBytesLeft = nameBytesLeft
    self.depth = depth
    self.taken = taken
  }

  /// Puts bodies in place of the calls in a graph, and in the graphs within its nodes.
  mutating func inline(into graph: inout ONNXGraph) throws(QMError) {
    var nodes: [ONNXNode] = []
    nodes.reserveCapacity(graph.nodes.count)
    for node in graph.nodes { try append(node, to: &nodes) }
    graph.nodes = nodes
  }

  private mutating func append(
    _ given: ONNXNode, to nodes: inout [ONNXNode]
  ) throws(QMError) {
    var node = given
    for index in node.attributes.indices {
      guard case .graph(var inner) = node.attributes[index].value else { continue }
      try inline(into: &inner)
      node.attributes[index].value = .graph(inner)
    }
    guard let function = functions[node.functionKey] else {
      nodesLeft -= 1
      guard nodesLeft >= 0 else {
        throw .unsupported(
          "more nodes than the limit once functions stand in place of their calls")
      }
      nodes.append(node)
      return
    }
    do throws(QMError) { try append(function, calledBy: node, to: &nodes) } catch {
      guard active.isEmpty else { throw error }
      throw error.within(.node(name: node.label, operation: node.operation.abbreviated))
    }
  }

  private mutating func append(
    _ function: ONNXFunction, calledBy call: ONNXNode, to nodes: inout [ONNXNode]
  ) throws(QMError) {
    guard !active.contains(function.key) else {
      throw .malformed("function '\(function.key.text)' calls itself")
    }
    guard active.count < depth else {
      throw .unsupported("functions call each other more than \(depth) deep")
    }
    guard call.inputs.count <= function.inputs.count,
      call.outputs.count <= function.outputs.count
    else {
      throw .malformed(
        "\(call.inputs.count) inputs and \(call.outputs.count) outputs for function "
          + "'\(function.key.text)', which has \(function.inputs.count) and "
          + "\(function.outputs.count)")
    }
    active.append(function.key)
    defer { active.removeLast() }

    var body = FunctionBody(
      prefix: prefix(of: call), taken: taken,
      opset: function.operatorSets.isEmpty ? opset : function.operatorSets[""])
    for attribute in function.defaults + call.attributes {
      body.attributes[attribute.name] = attribute.value
    }
    for (index, name) in function.inputs.enumerated() {
      guard
        body.names.updateValue(
          index < call.inputs.count ? call.inputs[index] : "", forKey: name) == nil
      else {
        throw .malformed("function '\(function.key.text)' has two inputs '\(name.abbreviated)'")
      }
    }
    var passed: [(input: String, output: String)] = []
    for (name, given) in zip(function.outputs, call.outputs) where !given.isEmpty {
      guard let input = body.names.updateValue(given, forKey: name) else { continue }
      // An output that is an input, or that stands twice in the list.
      body.names[name] = input
      passed.append((input, given))
    }
    for node in function.nodes {
      try append(body.renamed(node, &nameBytesLeft), to: &nodes)
    }
    for (input, output) in passed {
      try append(
        ONNXNode(
          name: "", operation: "Identity", domain: "", inputs: [input], outputs: [output],
          attributes: [], position: call.position), to: &nodes)
    }
  }

  /// A prefix that no other call has.
  private mutating func prefix(of call: ONNXNode) -> String {
    let label = call.label
    let count = prefixes[label, default: 0] + 1
    prefixes[label] = count
    return count == 1 ? "\(label)/" : "\(label)~\(count)/"
  }
}

/// How the body of a function is written in place of one call.
private struct FunctionBody {
  let prefix: String
  let taken: Set<String>
  /// What the function's names of inputs and outputs are in the place of the call.
  var names: [String: String] = [:]
  /// The attributes of the call, or their defaults.
  var attributes: [String: ONNXAttribute.Value] = [:]
  /// Version of ONNX's own operator set in the function.
  let opset: Int?

  init(prefix: String, taken: Set<String>, opset: Int?) {
    self.prefix = prefix
    self.taken = taken
    self.opset = opset
  }

  func renamed(_ given: ONNXNode, _ bytesLeft: inout Int) throws(QMError) -> ONNXNode {
    var node = given
    node.opset = opset
    node.name = try name(node.label, &bytesLeft)
    node.inputs = try names(node.inputs, &bytesLeft)
    node.outputs = try names(node.outputs, &bytesLeft)
    node.attributes = []
    for var attribute in given.attributes {
      if case .reference(let name) = attribute.value {
        // A reference to an attribute that the call leaves out leaves the attribute out.
        guard let value = attributes[name] else { continue }
        attribute.value = value
      }
      if case .graph(let graph) = attribute.value {
        attribute.value = .graph(try renamed(graph, &bytesLeft))
      }
      node.attributes.append(attribute)
    }
    return node
  }

  private func renamed(
    _ given: ONNXGraph, _ bytesLeft: inout Int
  ) throws(QMError) -> ONNXGraph {
    var graph = given
    for index in graph.nodes.indices {
      graph.nodes[index] = try renamed(given.nodes[index], &bytesLeft)
    }
    for index in graph.initializers.indices {
      graph.initializers[index].name = try name(given.initializers[index].name, &bytesLeft)
    }
    for index in graph.inputs.indices {
      graph.inputs[index].name = try name(given.inputs[index].name, &bytesLeft)
    }
    for index in graph.outputs.indices {
      graph.outputs[index].name = try name(given.outputs[index].name, &bytesLeft)
    }
    return graph
  }

  private func names(
    _ given: [String], _ bytesLeft: inout Int
  ) throws(QMError) -> [String] {
    var result: [String] = []
    result.reserveCapacity(given.count)
    for name in given { result.append(try self.name(name, &bytesLeft)) }
    return result
  }

  private func name(_ given: String, _ bytesLeft: inout Int) throws(QMError) -> String {
    guard !given.isEmpty else { return "" }
    if let name = names[given] { return name }
    bytesLeft -= prefix.utf8.count + given.utf8.count
    guard bytesLeft >= 0 else {
      throw .unsupported(
        "longer names than the limit once functions stand in place of their calls")
    }
    var name = prefix + given
    while taken.contains(name) { name += "~" }
    return name
  }
}

extension ONNXGraph {
  /// Names of all values of the graph, and of the graphs within its nodes.
  fileprivate var allNamesDefined: Set<String> {
    var names = namesDefined
    for attribute in nodes.flatMap(\.attributes) {
      if case .graph(let graph) = attribute.value { names.formUnion(graph.allNamesDefined) }
    }
    return names
  }
}
