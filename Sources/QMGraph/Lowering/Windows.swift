import QMOperations
import QMTensor

// Pooling, reductions, softmax and normalization: what sums over windows or axes.
extension Lowering {
  /// The largest code is the code of the largest number: no rounding. Means round once.
  mutating func lower(_ pooling: Pooling, _ node: Graph.Node) throws(QMError) {
    guard grid(of: node.input(0)) != nil, let codes = codes(of: node.input(0)) else {
      try lowerToFloat(node)
      return
    }
    if pooling.kind == .maximum {
      try emitOnCodes(node.operation, for: node, [codes.value], like: codes)
      return
    }
    var pooling = pooling
    pooling.output = encoding(of: node.outputs[0])
    try emit(.pooling(pooling), for: node, [codes.value])
  }

  mutating func lower(_ reduction: Reduction, _ node: Graph.Node) throws(QMError) {
    guard grid(of: node.input(0)) != nil, let codes = codes(of: node.input(0)) else {
      try lowerToFloat(node)
      return
    }
    if reduction.kind == .maximum || reduction.kind == .minimum {
      try emitOnCodes(node.operation, for: node, [codes.value], like: codes)
      return
    }
    var reduction = reduction
    reduction.output = encoding(of: node.outputs[0])
    try emit(.reduction(reduction), for: node, [codes.value])
  }

  mutating func lower(_ softmax: Softmax, _ node: Graph.Node) throws(QMError) {
    guard grid(of: node.input(0)) != nil, let codes = codes(of: node.input(0)) else {
      try lowerToFloat(node)
      return
    }
    var softmax = softmax
    softmax.output = encoding(of: node.outputs[0])
    try emit(.softmax(softmax), for: node, [codes.value])
  }

  mutating func lower(_ normalization: LayerNormalization, _ node: Graph.Node) throws(QMError) {
    guard grid(of: node.input(0)) != nil, let codes = codes(of: node.input(0)) else {
      try lowerToFloat(node)
      return
    }
    var normalization = normalization
    normalization.output = encoding(of: node.outputs[0])
    var inputs: [Graph.ValueID?] = [codes.value]
    for input in node.inputs.dropFirst() {
      inputs.append(try input.map { (input) throws(QMError) in try float(input) })
    }
    try emit(.layerNormalization(normalization), for: node, inputs)
  }

  mutating func lower(_ normalization: GroupNormalization, _ node: Graph.Node) throws(QMError) {
    guard grid(of: node.input(0)) != nil, let codes = codes(of: node.input(0)) else {
      try lowerToFloat(node)
      return
    }
    var normalization = normalization
    normalization.output = encoding(of: node.outputs[0])
    try emit(
      .groupNormalization(normalization), for: node,
      [codes.value, float(node.input(1)!), float(node.input(2)!)])
  }

  /// The nearest element keeps its code; anything else stays float.
  mutating func lower(_ resize: Resize, _ node: Graph.Node) throws(QMError) {
    if case .nearest = resize.mode, resize.coordinates != .region {
      try lowerMove(node)
    } else {
      try lowerToFloat(node)
    }
  }
}
