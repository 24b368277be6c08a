import QMOperations
import QMTensor

extension Lowering {
  /// Elements move as codes where all that are moved are on one grid.
  mutating func lowerMove(_ node: Graph.Node) throws(QMError) {
    let dataCount: Int
    if case .concatenate = node.operation { dataCount = node.inputs.count } else { dataCount = 1 }
    let data = node.inputs.prefix(dataCount).map { codes(of: $0) }
    guard grid(of: node.input(0)) != nil, let first = data[0],
      data.allSatisfy({
        $0?.quantization == first.quantization && $0?.elementType == first.elementType
      })
    else {
      try lowerToFloat(node)
      return
    }
    var inputs: [Graph.ValueID?] = data.map { $0?.value }
    for input in node.inputs.dropFirst(dataCount) {
      inputs.append(try input.map { (input) throws(QMError) in try float(input) })
    }
    try emitOnCodes(node.operation, for: node, inputs, like: first)
  }
}
