import QMOperations
import QMTensor

extension Lowering {
  /// Elements move as codes where all that are moved are on one grid.
  mutating func lowerMove(_ node: Graph.Node) throws(QMError) {
    let places: Range<Int> =
      switch node.operation {
      case .concatenate: 0..<node.inputs.count
      case .select, .choice: 1..<3
      default: 0..<1
      }
    if case .gather(let gather) = node.operation, gather.axis == 0,
      let table = codes(of: node.input(0)), case .weights(_, .perChannel(0)) = table.quantization
    {
      try lowerLookUp(node, in: table)
      return
    }
    let data = node.inputs[places].map { codes(of: $0) }
    guard grid(of: node.inputs[places.lowerBound]) != nil, let first = data[0],
      data.allSatisfy({
        $0?.quantization == first.quantization && $0?.elementType == first.elementType
      })
    else {
      try lowerToFloat(node)
      return
    }
    var inputs: [Graph.ValueID?] = []
    for (place, input) in node.inputs.enumerated() {
      if places.contains(place) {
        inputs.append(data[place - places.lowerBound]?.value)
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
