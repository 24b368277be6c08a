import QMFormat
import QMOperations
import QMTensor

extension Raising {
  mutating func raise(_ convolution: Convolution, _ node: Program.Node) throws(QMError) {
    let isLast = convolution.order == .channelsLast
    let order: Order = isLast ? .channelsFirst : .stored
    var plain = convolution
    plain.order = .channelsFirst
    plain.epilogue = Epilogue()
    let operand = try required(node, ProductOperand.weights)
    let permutation =
      isLast ? Self.permutation(to: .channelsFirst, rank: rank(of: operand)) : nil
    let weights = try weights(
      operand, scales: input(node, ProductOperand.weightScales), permutation)
    try finishProduct(.convolution(plain), node, convolution.epilogue, weights, order)
  }

  mutating func raise(_ product: MatrixMultiply, _ node: Program.Node) throws(QMError) {
    var plain = product
    plain.epilogue = Epilogue()
    let operand = try required(node, ProductOperand.weights)
    var permutation: [Int]?
    // ONNX's product of a matrix and weights [N, K] takes two axes; any other takes [K, N].
    let leftRank = try rank(of: required(node, ProductOperand.input))
    if product.rightLayout == .channelsFirst, rank(of: operand) == 2, leftRank > 2,
      isConstantNumbers(operand)
    {
      permutation = [1, 0]
      plain.rightLayout = .depthFirst
    }
    let weights = try weights(
      operand, scales: input(node, ProductOperand.weightScales), permutation)
    try finishProduct(.matrixMultiply(plain), node, product.epilogue, weights, .stored)
  }

  private mutating func finishProduct(
    _ operation: Operation, _ node: Program.Node, _ epilogue: Epilogue, _ weights: Graph.ValueID,
    _ order: Order
  ) throws(QMError) {
    let input = try required(node, ProductOperand.input)
    if case .dynamic(let axes) = type(of: input).quantization, axes > 0 || form == .float {
      noteFloat(node, "its input gets a scale and zero point in each run")
    }
    var inputs: [Graph.ValueID?] = [try numbers(input, order), weights]
    if let bias = self.input(node, ProductOperand.bias) {
      inputs.append(try self.bias(bias, node))
    }
    let residual = self.input(node, ProductOperand.residual)
    let functions = epilogue.functions
    var result = try append(
      operation, stepName(of: node, isLast: residual == nil && functions.isEmpty, "product"),
      inputs)
    if let residual {
      result = try append(
        .binary(Binary(.add)), stepName(of: node, isLast: functions.isEmpty, "sum"),
        [result, numbers(residual, order)])
    }
    try finish(node, result, order, functions: functions)
  }

  /// A bias in float32. Codes are in units of input scale · weight scale.
  mutating func bias(_ bias: Int, _ node: Program.Node) throws(QMError) -> Graph.ValueID {
    guard let tensor = constant(bias), tensor.elementType == .int32,
      case .fixed(let inputScale, _)? = input(node, ProductOperand.input).map({
        type(of: $0).quantization
      })
    else { return try numbers(bias) }
    var scales: [Float] = []
    if let operand = input(node, ProductOperand.weightScales), let tensor = constant(operand) {
      scales = tensor.elements(as: Float.self)
    } else if case .fixed(let scale, _)? = input(node, ProductOperand.weights).map({
      type(of: $0).quantization
    }) {
      scales = [scale]
    }
    guard scales.count == 1 || scales.count == tensor.elementCount else {
      throw .internalFault("\(scales.count) scales for a bias of \(tensor.elementCount) codes")
    }
    let numbers = tensor.elements(as: Int32.self).enumerated().map { (index, code) in
      Float(code) * (inputScale * scales[scales.count == 1 ? 0 : index])
    }
    return graph.addConstant(name: name(of: bias), try Tensor(tensor.shape, numbers))
  }

  mutating func raise(_ recurrent: Recurrent, _ node: Program.Node) throws(QMError) {
    var plain = recurrent
    plain.inputs = .real
    if recurrent.inputs == .roundedPerRow {
      noteFloat(node, "its inputs and states get a scale and zero point in each step")
    }
    var inputs: [Graph.ValueID?] = []
    for position in 0..<min(node.inputs.count, RecurrentOperand.weightScales) {
      guard let operand = node.inputs[position] else {
        inputs.append(nil)
        continue
      }
      switch position {
      case RecurrentOperand.weights:
        inputs.append(
          try weights(operand, scales: input(node, RecurrentOperand.weightScales), nil))
      case RecurrentOperand.recurrence:
        inputs.append(
          try weights(operand, scales: input(node, RecurrentOperand.recurrenceScales), nil))
      default: inputs.append(try numbers(operand))
      }
    }
    let outputs = try graph.append(
      .recurrent(plain), name: node.name, inputs, outputNames: node.outputs.map { name(of: $0) })
    for (output, new) in zip(node.outputs, outputs) { setNumbers(of: output, .stored, to: new) }
  }

  // MARK: Weights

  /// Input `position` of a node; nil if it is absent.
  func input(_ node: Program.Node, _ position: Int) -> Int? {
    position < node.inputs.count ? node.inputs[position] : nil
  }

  func required(_ node: Program.Node, _ position: Int) throws(QMError) -> Int {
    guard let input = input(node, position) else {
      throw .malformed("input \(position) is missing")
    }
    return input
  }

  /// Whether a value is a constant, or a constant that is stored as float16.
  private func isConstantNumbers(_ value: Int) -> Bool {
    constant(value) != nil || storedHalf(value) != nil
  }

  /// The float16 elements of a value that is converted from a constant.
  func storedHalf(_ value: Int) -> Tensor? {
    guard let node = producer(of: value), case .cast(let cast) = node.operation,
      cast.elementType == .float32, let tensor = constant(node.inputs[0]),
      tensor.elementType == .float16
    else { return nil }
    return tensor
  }

  /// The numbers of weights, in another order of axes.
  /// - Parameter scales: the value with the scales of codes; nil for float32 weights.
  mutating func weights(
    _ value: Int, scales: Int?, _ permutation: [Int]?
  ) throws(QMError) -> Graph.ValueID {
    if case .weights = type(of: value).quantization {
      guard let scales = constant(scales) else {
        throw .malformed("the scales of the weights are no constant")
      }
      return try dequantized(value, scales: scales, permutation)
    }
    let name = name(of: value)
    if form == .float, let half = storedHalf(value) {
      let numbers = try Operation.cast(Cast(to: .float32)).evaluate([half])[0]
      return graph.addConstant(
        name: name,
        try permutation.map { (axes) throws(QMError) in try transposed(numbers, axes) }
          ?? numbers)
    }
    guard let permutation else { return try numbers(value) }
    if let half = storedHalf(value) {
      let moved = graph.addConstant(name: name + ".half", try transposed(half, permutation))
      return try append(.cast(Cast(to: .float32)), name, [moved])
    }
    if let tensor = constant(value), type(of: value).quantization == .none {
      return graph.addConstant(name: name, try transposed(tensor, permutation))
    }
    return try append(
      .transpose(Transpose(permutation: permutation)), name + ".transposed", [numbers(value)])
  }

  /// Constant codes of weights with their scales; nil for other values.
  func quantized(_ value: Int, scales: Tensor) -> QuantizedTensor? {
    guard let codes = constant(value),
      case .weights(let bits, let granularity) = type(of: value).quantization
    else { return nil }
    return QuantizedTensor(
      codes: codes, scales: scales, granularity: granularity, codeRange: bits.allCodes)
  }

  /// The numbers that codes of weights represent.
  mutating func dequantized(
    _ value: Int, scales: Tensor, _ permutation: [Int]?
  ) throws(QMError) -> Graph.ValueID {
    guard var tensor = quantized(value, scales: scales) else {
      throw .malformed("weights that are no constant codes")
    }
    if let permutation { tensor = try tensor.transposed(permutation) }
    let name = name(of: value)
    if form == .float {
      let numbers = try Operation.dequantize(Dequantize())
        .evaluate([tensor.codes, tensor.scales], quantizations: [tensor.quantization])[0]
      return graph.addConstant(name: name, numbers)
    }
    return try append(
      .dequantize(Dequantize()), name,
      [
        graph.addConstant(name: name + ".codes", tensor.codes, tensor.quantization),
        graph.addConstant(name: name + ".scales", tensor.scales),
      ])
  }
}
