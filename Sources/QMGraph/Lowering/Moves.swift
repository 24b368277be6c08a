import QMOperations
import QMTensor

extension Lowering {
  /// Data movement runs on codes where all that is moved has the same quantization parameters.
  /// - Parameter sources: positions of the operands that are moved.
  mutating func lowerMove(_ node: Graph.Node, of sources: [Int]) throws(QMError) {
    if let table = node.operation.body.weightOperands(of: source.operands(of: node)).first,
      table.use == .table, table.channelAxis == 0,
      let codes = codes(of: node.input(table.position)),
      case .weights(_, .perChannel(0)) = codes.quantization
    {
      try lowerLookUp(node, in: codes)
      return
    }
    let data = sources.map { codes(of: node.input($0)) }
    guard let place = sources.first, grid(of: node.input(place)) != nil, let first = data[0],
      data.allSatisfy({
        $0?.quantization == first.quantization && $0?.elementType == first.elementType
      })
    else {
      try lowerToFloat(node)
      return
    }
    var inputs: [Graph.ValueID?] = []
    for (position, input) in node.inputs.enumerated() {
      if sources.contains(position) {
        inputs.append(codes(of: input)?.value)
      } else {
        inputs.append(try input.map { (input) throws(QMError) in try float(input) })
      }
    }
    try emitOnCodes(node.operation, for: node, inputs, like: first)
  }

  /// Rows of a table of weights stay codes; their scales are looked up beside them.
  private mutating func lowerLookUp(_ node: Graph.Node, in table: Codes) throws(QMError) {
    guard let scales = table.scales.flatMap({ rewriter.graph[$0].constant }) else {
      try lowerToFloat(node)
      return
    }
    let name = source[node.outputs[0]].name
    let indices = try float(node.input(1)!)
    let pairs: [Float] = scales.elements(as: Float.self).flatMap { [$0, 0] }
    let parameters = try rewriter.append(
      node.operation, name: node.name + ".scales",
      [addConstant(name: name + ".scales", Tensor([pairs.count / 2, 2], pairs)), indices],
      outputNames: [name + ".parameters"])[0]
    let rows = try rewriter.append(
      node.operation, name: node.name, [table.value, indices], outputNames: [name])[0]
    setCodes(
      of: node.outputs[0],
      Codes(
        value: rows, scales: parameters, quantization: rewriter.graph[rows].type.quantization,
        elementType: .int8))
  }
}
