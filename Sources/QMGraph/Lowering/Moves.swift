import QMOperations
import QMTensor

extension Lowering {
  /// Elements move as codes where all that are moved are on one grid.
  mutating func lowerMove(_ node: Graph.Node) throws(QMError) {
    let places: Range<Int> =
      switch node.operation {
      case .concatenate: 0..<node.inputs.count
      case .select: 1..<3
      default: 0..<1
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
}
