import QMOperations
import QMTensor

extension Lowering {
  /// A lookup table if input and output are int8 codes; otherwise the function reads codes and
  /// stores its result as the output is encoded. Without codes it runs in float32.
  mutating func lower(_ unary: Unary, _ node: Graph.Node) throws(QMError) {
    let input = try node.requiredInput(0)
    guard let parameters = fixedParameters(of: input), let codes = codes(of: input) else {
      try lowerToFloat(node)
      return
    }
    var unary = unary
    unary.output = encoding(of: node.outputs[0])
    guard codes.elementType == .int8,
      case .quantized(.int8, let scale, let zeroPoint) = unary.output
    else {
      try emit(.unary(unary), for: node, [codes.value])
      return
    }
    let entries = lookupTable(
      of: [unary.function], inputScale: parameters.scale, inputZeroPoint: parameters.zeroPoint,
      outputScale: scale, outputZeroPoint: zeroPoint)
    let table = addConstant(
      name: source[node.outputs[0]].name + ".table", try Tensor([entries.count], entries))
    try emit(
      .table(Table(scale: scale, zeroPoint: zeroPoint, functions: [unary.function])), for: node,
      [codes.value, table])
  }

  /// On codes wherever an operand has them. Integer arithmetic, as on shapes, is left unchanged.
  mutating func lower(_ binary: Binary, _ node: Graph.Node) throws(QMError) {
    guard source[node.outputs[0]].type.elementType == .float32 else {
      try lowerToFloat(node)
      return
    }
    var binary = binary
    binary.output = encoding(of: node.outputs[0])
    let left = try codesOrFloat(node.requiredInput(0))
    let right = try codesOrFloat(node.requiredInput(1))
    try emit(.binary(binary), for: node, [left, right])
  }
}
