import QMFormat
import QMOperations
import QMTensor

extension Raising {
  /// Adds node `index` of the program to the graph.
  mutating func raise(_ index: Int) throws(QMError) {
    let node = program.nodes[index]
    switch node.operation {
    case .convolution(let convolution): try raise(convolution, node)
    case .matrixMultiply(let product): try raise(product, node)
    case .recurrent(let recurrent): try raise(recurrent, node)
    case .quantize:
      let input = try required(node, 0)
      let order: Order = isChannelsFirstOnly(input) ? .channelsFirst : .stored
      try round(node.outputs[0], numbers(input, order), order)
    case .dynamicQuantize(let operation): try raise(operation, node)
    case .dequantize:
      let input = try required(node, 0)
      if case .weights = type(of: input).quantization {
        setNumbers(
          of: node.outputs[0], .stored,
          to: try weights(input, scales: self.input(node, 1), nil))
      } else {
        try alias(node.outputs[0], of: input)
      }
    case .table(let table): try raise(table, node)
    case .gather:
      if try !raiseLookUp(node) { try raiseByFacts(node) }
    case .cast:
      let input = try required(node, 0)
      if form == .float, storedHalf(node.outputs[0]) != nil {
        return setNumbers(
          of: node.outputs[0], .stored, to: try weights(node.outputs[0], scales: nil, nil))
      }
      guard type(of: input).quantization != .none else { return try raiseByFacts(node) }
      // Codes are read as the integers that are stored.
      let order: Order = isChannelsFirstOnly(input) ? .channelsFirst : .stored
      let result = try append(
        node.operation, name(of: node.outputs[0]), [codes(of: input, order)])
      setNumbers(of: node.outputs[0], order, to: result)
    case .pooling(var pooling) where pooling.order == .channelsLast:
      pooling.order = .channelsFirst
      pooling.output = .float32
      try raiseImage(.pooling(pooling), node)
    case .batchNormalization(var normalization) where normalization.order == .channelsLast:
      normalization.order = .channelsFirst
      try raiseImage(.batchNormalization(normalization), node)
    case .groupNormalization(var normalization) where normalization.order == .channelsLast:
      normalization.order = .channelsFirst
      normalization.output = .float32
      try raiseImage(.groupNormalization(normalization), node)
    case .depthToSpace(var move) where move.order == .channelsLast:
      move.order = .channelsFirst
      try raiseImage(.depthToSpace(move), node)
    case .spaceToDepth(var move) where move.order == .channelsLast:
      move.order = .channelsFirst
      try raiseImage(.spaceToDepth(move), node)
    default: try raiseByFacts(node)
    }
  }

  /// ONNX has an operator for codes with one scale and zero point of the run. Others are not rounded.
  private mutating func raise(
    _ operation: DynamicQuantize, _ node: Program.Node
  ) throws(QMError) {
    let input = try required(node, 0)
    guard form == .codes, operation.axes == 0 else { return try alias(node.outputs[0], of: input) }
    let order: Order = isChannelsFirstOnly(input) ? .channelsFirst : .stored
    let name = name(of: node.outputs[0])
    let (codes, parameters) = (node.outputs[0], node.outputs[1])
    let new = try graph.append(
      .dynamicQuantize(operation), name: name + ".codes", [numbers(input, order)],
      outputNames: [name + ".codes", name + ".parameters"])
    setCodes(of: codes, order, to: new[0])
    setNumbers(of: parameters, .stored, to: new[1])
    setNumbers(
      of: codes, order, to: try append(.dequantize(Dequantize()), name + ".rounded", new))
  }

  /// An operation whose first operand and result have the channels first in the graph, last in the
  /// program.
  private mutating func raiseImage(
    _ operation: Operation, _ node: Program.Node
  ) throws(QMError) {
    var inputs: [Graph.ValueID?] = []
    for (position, input) in node.inputs.enumerated() {
      inputs.append(
        try input.map { (input) throws(QMError) in
          try numbers(input, position == 0 ? .channelsFirst : .stored)
        })
    }
    try round(
      node.outputs[0], append(operation, name(of: node.outputs[0]), inputs), .channelsFirst)
  }

  /// A lookup table is the chain of its functions on the codes' numbers. Without functions that give
  /// its entries it is looked up.
  private mutating func raise(_ table: Table, _ node: Program.Node) throws(QMError) {
    let input = try required(node, 0)
    let order: Order = isChannelsFirstOnly(input) ? .channelsFirst : .stored
    guard let entries = constant(try required(node, 1)),
      case .fixed(let scale, let zeroPoint) = type(of: input).quantization
    else { throw .malformed("a table that is no constant, or reads other codes") }
    if let functions = nextTableFunctions(),
      lookupTable(
        of: functions, inputScale: scale, inputZeroPoint: zeroPoint, outputScale: table.scale,
        outputZeroPoint: table.zeroPoint) == Array(entries.elements(as: Int8.self))
    {
      return try finish(node, numbers(input, order), order, functions: functions)
    }
    let name = name(of: node.outputs[0])
    let constant = graph.addConstant(name: name + ".table", entries)
    let result = try append(.table(table), name + ".codes", [codes(of: input, order), constant])
    setCodes(of: node.outputs[0], order, to: result)
    setNumbers(
      of: node.outputs[0], order, to: try append(.dequantize(Dequantize()), name, [result]))
  }

  /// A lookup of rows of weights that stay codes, and of the rows' scales.
  /// - Returns: false for another Gather; nothing is added.
  private mutating func raiseLookUp(_ node: Program.Node) throws(QMError) -> Bool {
    let data = try required(node, 0)
    guard case .weights = type(of: data).quantization else { return false }
    // Codes without a reader that dequantizes them are dead.
    guard let scales = try rowScales(of: node) else { return true }
    let rows = try dequantized(data, scales: scales, nil)
    let result = try append(
      node.operation, name(of: node.outputs[0]), [rows, numbers(required(node, 1))])
    setNumbers(of: node.outputs[0], .stored, to: result)
    return true
  }

  /// The scales of the rows that a Gather looks up; nil if nothing reads them.
  func rowScales(of node: Program.Node) throws(QMError) -> Tensor? {
    // The scales are looked up by another node, in pairs with the zero point 0.
    guard let pairs = parameters(of: node.outputs[0]).flatMap({ producer(of: $0) }),
      let tensor = constant(pairs.inputs[0]), tensor.elementType == .float32
    else { return nil }
    let numbers = tensor.elements(as: Float.self)
    let scales = stride(from: 0, to: numbers.count, by: 2).map { numbers[$0] }
    return try Tensor([scales.count], scales)
  }

  /// Any other operation, on numbers. It follows operands that the graph has with channels first
  /// only.
  private mutating func raiseByFacts(_ node: Program.Node) throws(QMError) {
    let (operation, functions) = node.operation.onNumbers
    if let form = reordered(operation, node) { return try raise(node, form, functions) }
    var inputs: [Graph.ValueID?] = []
    for input in node.inputs {
      inputs.append(try input.map { (input) throws(QMError) in try numbers(input) })
    }
    try emit(operation, node, inputs, .stored, functions)
  }

  private mutating func emit(
    _ operation: Operation, _ node: Program.Node, _ inputs: [Graph.ValueID?], _ order: Order,
    _ functions: [UnaryFunction]
  ) throws(QMError) {
    guard node.outputs.count == 1 else {
      let outputs = try graph.append(
        operation, name: node.name, inputs, outputNames: node.outputs.map { name(of: $0) })
      for (output, new) in zip(node.outputs, outputs) { setNumbers(of: output, order, to: new) }
      return
    }
    let result = try append(
      operation, stepName(of: node, isLast: functions.isEmpty, "result"), inputs)
    if operation.body.elementSource(operandCount: inputs.count).operands.isEmpty {
      try finish(node, result, order, functions: functions)
    } else {
      // Moved numbers are those of codes already.
      setNumbers(of: node.outputs[0], order, to: result)
    }
  }

  /// The operation for operands with channels first; nil if that saves nothing.
  private func reordered(_ operation: Operation, _ node: Program.Node) -> ReorderedForm? {
    let isBinary = if case .binary = operation { true } else { false }
    let images = isBinary ? node.outputs : node.inputs.prefix(1).compactMap { $0 }
    guard let rank = images.first.map({ self.rank(of: $0) }), rank > 2,
      node.inputs.contains(where: { $0.map(isChannelsFirstOnly) ?? false }),
      let form = operation.body.reordered(
        AxisOrder.channelsLast(rank: rank).inverse, operands(of: node))
    else { return nil }
    let reordered = zip(form.operands, node.inputs).compactMap { change, input in
      change == .reordered ? input : nil
    }
    let isUseful =
      form.reordersOutput
      ? reordered.contains(where: hasChannelsFirst) : reordered.contains(where: isChannelsFirstOnly)
    return isUseful ? form : nil
  }

  private mutating func raise(
    _ node: Program.Node, _ form: ReorderedForm, _ functions: [UnaryFunction]
  ) throws(QMError) {
    var inputs: [Graph.ValueID?] = []
    for (position, input) in node.inputs.enumerated() {
      switch (form.operands[position], input) {
      case (.replaced(let numbers), _):
        inputs.append(
          graph.addConstant(
            name: "\(node.name).constant\(position)",
            try Tensor([numbers.count], numbers.map(Int64.init))))
      case (_, nil): inputs.append(nil)
      case (.unchanged, .some(let input)): inputs.append(try numbers(input))
      case (.reordered, .some(let input)): inputs.append(try numbers(input, .channelsFirst))
      case (.expandedAndReordered, .some(let input)):
        inputs.append(try expanded(input, rank: rank(of: node.outputs[0])))
      }
    }
    if !form.reordersOutput, case .identity = form.operation, let input = inputs[0] {
      setNumbers(of: node.outputs[0], .stored, to: input)
      return
    }
    try emit(
      form.operation, node, inputs, form.reordersOutput ? .channelsFirst : .stored, functions)
  }

  /// A constant of lower rank with channels first, after its shape is padded with 1 to `rank`.
  private mutating func expanded(_ value: Int, rank: Int) throws(QMError) -> Graph.ValueID {
    guard var tensor = constant(value) else { return try numbers(value) }
    let quantization = type(of: value).quantization
    if case .fixed = quantization {
      tensor = try Operation.dequantize(Dequantize())
        .evaluate([tensor], quantizations: [quantization])[0]
    }
    let shape = [Int](repeating: 1, count: rank - tensor.shape.count) + tensor.shape
    let moved = try transposed(
      tensor.reshaped(shape), Self.permutation(to: .channelsFirst, rank: rank))
    return graph.addConstant(name: name(of: value), moved)
  }
}

extension Operation {
  /// The operation with float32 output and without a second function, and that function.
  fileprivate var onNumbers: (operation: Operation, functions: [UnaryFunction]) {
    switch self {
    case .unary(var operation):
      operation.output = .float32
      return (.unary(operation), [])
    case .binary(var operation):
      let functions = [operation.secondFunction].compactMap { $0 }
      operation.secondFunction = nil
      operation.output = .float32
      return (.binary(operation), functions)
    case .pooling(var operation):
      operation.output = .float32
      return (.pooling(operation), [])
    case .reduction(var operation):
      operation.output = .float32
      return (.reduction(operation), [])
    case .softmax(var operation):
      operation.output = .float32
      return (.softmax(operation), [])
    case .layerNormalization(var operation):
      operation.output = .float32
      return (.layerNormalization(operation), [])
    case .groupNormalization(var operation):
      operation.output = .float32
      return (.groupNormalization(operation), [])
    default: return (self, [])
    }
  }
}
