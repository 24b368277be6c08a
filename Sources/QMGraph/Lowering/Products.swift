import QMOperations
import QMTensor

extension Lowering {
  /// On integers if both operands have codes. The second operand is constant weights, or an
  /// activation with fixed quantization parameters.
  mutating func lowerProduct(_ node: Graph.Node) throws(QMError) {
    let form = node.operation.body.integerForm(of: source.operands(of: node))
    guard case .encoded(let storing)? = form?.result, let inputs = try productInputs(node) else {
      try lowerToFloat(node)
      return
    }
    try emit(storing(encoding(of: node.outputs[0])), for: node, inputs)
  }

  /// The operands of an integer product, in the order of ``ProductOperand``; nil if the product
  /// must run in float32.
  private mutating func productInputs(_ node: Graph.Node) throws(QMError) -> [Graph.ValueID?]? {
    guard let input = codes(of: node.input(ProductOperand.input)),
      let weights = codes(of: node.input(ProductOperand.weights)),
      weights.elementType == .int8
    else { return nil }
    if input.elementType != .int8 {
      // The kernels multiply int16 codes only with weights, and only if the zero point is 0.
      guard input.elementType == .int16, case .fixed(_, 0) = input.quantization,
        case .weights = weights.quantization
      else { return nil }
    }
    // A convolution takes no activations as weights.
    if case .convolution = node.operation, case .fixed = weights.quantization { return nil }
    if case .weights(_, let granularity) = weights.quantization {
      let operand = node.operation.body.weightOperands(of: source.operands(of: node)).first
      switch granularity {
      case .perTensor: break
      case .perChannel(let axis): guard operand?.channelAxis == axis else { return nil }
      case .perGroup(let axis, _): guard operand?.groupAxis == axis else { return nil }
      }
    }
    var inputs = [Graph.ValueID?](repeating: nil, count: ProductOperand.residual + 1)
    inputs[ProductOperand.input] = input.value
    inputs[ProductOperand.weights] = weights.value
    if case .weights = input.quantization { return nil }
    if case .dynamic = weights.quantization { return nil }
    if case .dynamic = input.quantization { inputs[ProductOperand.inputParameters] = input.scales }
    inputs[ProductOperand.weightScales] = weights.scales

    if let bias = node.input(ProductOperand.bias) {
      if let integers = try integerBias(bias, input, weights) {
        inputs[ProductOperand.bias] = integers
      } else {
        inputs[ProductOperand.bias] = try float(bias)
      }
    }
    if let residual = node.input(ProductOperand.residual) {
      // An epilogue adds int8 codes or float32.
      let isInt8 = codes(of: residual)?.elementType == .int8
      inputs[ProductOperand.residual] = try isInt8 ? codesOrFloat(residual) : float(residual)
    }
    while let last = inputs.last, last == nil { inputs.removeLast() }
    return inputs
  }

  /// A constant bias in units of the accumulator; nil if the input's scale is not fixed or a code
  /// does not fit.
  private mutating func integerBias(
    _ bias: Graph.ValueID, _ input: Codes, _ weights: Codes
  ) throws(QMError) -> Graph.ValueID? {
    guard case .fixed(let inputScale, _) = input.quantization, let scales = weights.scales,
      let scaleTensor = rewriter.graph[scales].constant, let numbers = source[bias].constant,
      let integers = IntegerBias(numbers, inputScale: inputScale, weightScales: scaleTensor)
    else { return nil }
    return addConstant(name: source[bias].name, try Tensor(numbers.shape, integers.codes))
  }
}
