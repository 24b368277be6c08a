import QMOperations
import QMTensor

extension Lowering {
  /// Data movement runs on codes if all moved operands have the same quantization parameters. A
  /// moved constant is rounded to them if the result is rounded to them: rounding an element and
  /// moving it commute, so the codes are the same for any elements of the constant.
  /// - Parameter sources: positions of the operands whose elements are moved.
  mutating func lowerDataMovement(_ node: Graph.Node, of sources: [Int]) throws(QMError) {
    if let table = node.operation.body.weightOperands(of: source.operands(of: node)).first,
      table.use == .table, table.channelAxis == 0,
      let codes = codes(of: node.input(table.position)),
      case .weights(_, .perChannel(0)) = codes.quantization
    {
      try lowerLookUp(node, in: codes)
      return
    }
    if case .transpose = node.operation, let codes = codes(of: node.input(0)),
      codes.quantization == .dynamic(axes: 0)
    {
      return try emitOnCodes(node.operation, for: node, [codes.value], like: codes)
    }
    guard let first = sources.compactMap({ codes(of: node.input($0)) }).first,
      let rounding = rounding(to: first),
      sources.allSatisfy({ canBeCodes(node.input($0), of: rounding, movedBy: node) })
    else {
      if !(try lowerJoin(node)) { try lowerToFloat(node) }
      return
    }
    var inputs: [Graph.ValueID?] = []
    for (position, input) in node.inputs.enumerated() {
      inputs.append(
        try input.map { (input) throws(QMError) in
          guard sources.contains(position) else { return try float(input) }
          if let codes = codes(of: input) { return codes.value }
          return try rounded(constant: input, by: rounding, first.quantization)
        })
    }
    try emitOnCodes(node.operation, for: node, inputs, like: first)
  }

  /// A Concat of operands with different quantization parameters, whose result is rounded to one
  /// grid: each operand is rounded to it in front of the Concat. The codes are the same, because
  /// rounding an element and moving it commute.
  /// - Returns: false if the node is another one; nothing is added.
  private mutating func lowerJoin(_ node: Graph.Node) throws(QMError) -> Bool {
    guard case .concatenate = node.operation, let (rounding, _) = onlyQuantize(of: node.outputs[0]),
      node.inputs.contains(where: { fixedParameters(of: $0) != nil })
    else { return false }
    let result = Codes(
      value: node.outputs[0], scales: nil,
      quantization: .fixed(scale: rounding.scale, zeroPoint: rounding.zeroPoint),
      elementType: rounding.elementType)
    var inputs: [Graph.ValueID?] = []
    for input in node.inputs {
      inputs.append(
        try input.map { (input) throws(QMError) in
          try requantized(input, by: rounding, result.quantization)
        })
    }
    try emitOnCodes(node.operation, for: node, inputs, like: result)
    return true
  }

  /// The codes of a value on another grid: by a table from int8 to int8.
  private mutating func requantized(
    _ value: Graph.ValueID, by rounding: Quantize, _ quantization: Quantization
  ) throws(QMError) -> Graph.ValueID {
    if source[value].constant != nil, codes(of: value) == nil {
      return try rounded(constant: value, by: rounding, quantization)
    }
    let name = source[value].name
    if let codes = codes(of: value), self.rounding(to: codes) == rounding { return codes.value }
    guard let codes = codes(of: value), let own = self.rounding(to: codes),
      own.elementType == .int8, rounding.elementType == .int8
    else {
      return try rewriter.append(
        .quantize(rounding), name: name + ".joined", [float(value)],
        outputNames: [name + ".joined"])[0]
    }
    let entries = lookupTable(
      of: [], inputScale: own.scale, inputZeroPoint: own.zeroPoint, outputScale: rounding.scale,
      outputZeroPoint: rounding.zeroPoint)
    let table = addConstant(name: name + ".joined.table", try Tensor([entries.count], entries))
    return try rewriter.append(
      .table(Table(scale: rounding.scale, zeroPoint: rounding.zeroPoint, functions: [])),
      name: name + ".joined",
      [codes.value, table], outputNames: [name + ".joined"])[0]
  }

  /// The Quantize that makes such codes; nil unless their quantization parameters are fixed.
  private func rounding(to codes: Codes) -> Quantize? {
    guard case .fixed(let scale, let zeroPoint) = codes.quantization else { return nil }
    return Quantize(codes.elementType, scale: scale, zeroPoint: zeroPoint)
  }

  /// Whether an operand has codes that `rounding` makes, or is a constant that may be rounded to
  /// such codes because `rounding` is the only reader of the node's outputs.
  private func canBeCodes(
    _ value: Graph.ValueID?, of rounding: Quantize, movedBy node: Graph.Node
  ) -> Bool {
    if let codes = codes(of: value) { return self.rounding(to: codes) == rounding }
    return value.flatMap { source[$0].constant } != nil
      && node.outputs.allSatisfy { onlyQuantize(of: $0)?.0 == rounding }
  }

  private mutating func rounded(
    constant value: Graph.ValueID, by rounding: Quantize, _ quantization: Quantization
  ) throws(QMError) -> Graph.ValueID {
    guard let constant = source[value].constant else {
      throw .internalFault("value '\(source[value].name)' is not a constant")
    }
    let codes = try Operation.quantize(rounding).evaluate([constant])[0]
    return addConstant(name: source[value].name, codes, quantization)
  }

  /// A lookup in a table of weights stays on codes; a second lookup returns the rows' scales.
  private mutating func lowerLookUp(_ node: Graph.Node, in table: Codes) throws(QMError) {
    guard let scales = table.scales.flatMap({ rewriter.graph[$0].constant }) else {
      try lowerToFloat(node)
      return
    }
    let name = source[node.outputs[0]].name
    let indices = try float(node.requiredInput(1))
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
