import QMOperations
import QMTensor

extension Lowering {
  /// On integers if inputs are rounded per row, and weights and recurrence are codes. The input and
  /// the states stay float32: the operation quantizes each row with parameters of its own.
  mutating func lower(_ recurrent: Recurrent, _ node: Graph.Node) throws(QMError) {
    guard recurrent.inputs == .roundedPerRow,
      let weights = weightCodes(of: node.input(RecurrentOperand.weights)),
      let recurrence = weightCodes(of: node.input(RecurrentOperand.recurrence))
    else {
      try lowerToFloat(node)
      return
    }
    var inputs: [Graph.ValueID?] = []
    for position in 0..<RecurrentOperand.weightScales {
      switch position {
      case RecurrentOperand.weights: inputs.append(weights.value)
      case RecurrentOperand.recurrence: inputs.append(recurrence.value)
      default:
        inputs.append(
          try node.input(position).map { (input) throws(QMError) in try float(input) })
      }
    }
    inputs += [weights.scales, recurrence.scales]
    try emitFloat(node.operation, for: node, inputs)
  }

  private func weightCodes(of value: Graph.ValueID?) -> Codes? {
    guard let codes = codes(of: value), case .weights = codes.quantization else { return nil }
    return codes
  }
}
