import QMOperations
import QMTensor

extension Lowering {
  /// Lowers a node by the facts of its operation: data movement on codes; else the operation's
  /// integer form if an operand that it can read as codes has codes; else float32.
  mutating func lowerByFacts(_ node: Graph.Node) throws(QMError) {
    let body = node.operation.body
    if case .moved(let sources) = body.elementSource(operandCount: node.inputs.count) {
      try lowerDataMovement(node, of: sources)
      return
    }
    guard let form = body.integerForm(of: source.operands(of: node)),
      let first = form.operands.first(where: { fixedParameters(of: node.input($0)) != nil }),
      let codes = codes(of: node.input(first))
    else {
      try lowerToFloat(node)
      return
    }
    var inputs: [Graph.ValueID?] = []
    for (position, input) in node.inputs.enumerated() {
      let isRead = form.operands.contains(position)
      inputs.append(
        try input.map { (input) throws(QMError) in
          isRead ? try codesOrFloat(input) : try float(input)
        })
    }
    switch form.result {
    case .codesOfInput: try emitOnCodes(node.operation, for: node, inputs, like: codes)
    case .noNumbers: try emitFloat(node.operation, for: node, inputs)
    case .encoded(let storing):
      try emit(storing(encoding(of: node.outputs[0])), for: node, inputs)
    }
  }
}
