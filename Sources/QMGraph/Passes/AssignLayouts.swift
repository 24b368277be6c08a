import QMOperations
import QMTensor

/// Given: convolutions, pooling and batch normalization with channels first, as ONNX has them.
/// Result: the same with channels last, which the kernels read; weights rearranged; a Transpose
/// where a value enters a chain or leaves it. What works element by element, along an axis or over
/// axes follows its operands, so that nothing is rearranged inside a chain.
///
/// Equal bit for bit: the order in which a product adds does not depend on the layout.
public struct AssignLayouts: Pass {
  public static let name = "assign-layouts"

  public init() {}

  public func rewrite(_ graph: Graph) throws(QMError) -> Rewritten {
    var assignment = LayoutAssignment(try Rewriter(graph))
    for node in graph.nodes { try assignment.rewrite(node) }
    return try assignment.finish()
  }
}

private struct LayoutAssignment {
  private var rewriter: Rewriter
  private let source: Graph
  /// The form with channels last of old values that have one. Its axes are 0, 2, 3, …, 1.
  private var channelsLast: [Graph.ValueID: Graph.ValueID] = [:]
  /// Old values that exist with channels last only, until somebody needs them otherwise.
  private var isLastOnly: Set<Graph.ValueID> = []

  init(_ rewriter: Rewriter) {
    self.rewriter = rewriter
    source = rewriter.source
  }

  mutating func finish() throws(QMError) -> Rewritten {
    for output in source.outputs { _ = try first(output.value) }
    return try rewriter.finished()
  }

  /// Axes of the form with channels first, in the order of the form with channels last.
  private static func toLast(_ rank: Int) -> [Int] { [0] + Array(2..<rank) + [1] }
  private static func toFirst(_ rank: Int) -> [Int] { [0, rank - 1] + Array(1..<(rank - 1)) }

  private func rank(_ value: Graph.ValueID) -> Int { source[value].type.shape.rank }

  /// The value as it was, rearranged if it exists with channels last only.
  private mutating func first(_ value: Graph.ValueID) throws(QMError) -> Graph.ValueID {
    if isLastOnly.remove(value) != nil, let last = channelsLast[value] {
      let permutation = LayoutAssignment.toFirst(rank(value))
      let name = source[value].name + ".channelsFirst"
      let new = try rewriter.append(
        .transpose(Transpose(permutation: permutation)), name: name, [last], outputNames: [name])
      rewriter.replace(value, by: new[0])
    }
    return rewriter.value(value)
  }

  /// The value with channels last.
  private mutating func last(_ value: Graph.ValueID) throws(QMError) -> Graph.ValueID {
    if let last = channelsLast[value] { return last }
    let permutation = LayoutAssignment.toLast(rank(value))
    let name = source[value].name + ".channelsLast"
    let new: Graph.ValueID
    if let constant = source[value].constant {
      let moved = try Operation.transpose(Transpose(permutation: permutation)).evaluate([constant])
      new = rewriter.addConstant(
        name: name, moved[0], source[value].type.quantization,
        codes: try source[value].codes?.transposed(permutation))
      rewriter.record(value, isPermuted: permutation, as: new)
    } else {
      new = try rewriter.append(
        .transpose(Transpose(permutation: permutation)), name: name, [rewriter.value(value)],
        outputNames: [name])[0]
    }
    channelsLast[value] = new
    return new
  }

  private mutating func emitLast(
    _ operation: Operation, _ node: Graph.Node, _ inputs: [Graph.ValueID?]
  ) throws(QMError) {
    let outputs = try rewriter.append(
      operation, name: node.name, inputs, outputNames: node.outputs.map { source[$0].name })
    for (old, new) in zip(node.outputs, outputs) {
      channelsLast[old] = new
      isLastOnly.insert(old)
      rewriter.record(old, isPermuted: LayoutAssignment.toLast(rank(old)), as: new)
    }
  }

  private mutating func emitFirst(_ operation: Operation, _ node: Graph.Node) throws(QMError) {
    var inputs: [Graph.ValueID?] = []
    for input in node.inputs {
      inputs.append(try input.map { (input) throws(QMError) in try first(input) })
    }
    try rewriter.append(operation, name: node.name, inputs, replacing: node.outputs)
  }

  mutating func rewrite(_ node: Graph.Node) throws(QMError) {
    switch node.operation {
    case .convolution(var convolution) where convolution.order == .channelsFirst:
      convolution.order = .channelsLast
      var inputs: [Graph.ValueID?] = []
      for (position, input) in node.inputs.enumerated() {
        switch position {
        case ProductOperand.input, ProductOperand.weights, ProductOperand.residual:
          inputs.append(try input.map { (input) throws(QMError) in try last(input) })
        default:
          inputs.append(try input.map { (input) throws(QMError) in try first(input) })
        }
      }
      try emitLast(.convolution(convolution), node, inputs)

    case .pooling(var pooling) where pooling.order == .channelsFirst:
      pooling.order = .channelsLast
      try emitLast(.pooling(pooling), node, [last(node.input(0)!)])

    case .groupNormalization(var normalization)
    where normalization.order == .channelsFirst && hasLast(node.input(0)):
      normalization.order = .channelsLast
      try emitLast(
        .groupNormalization(normalization), node,
        [last(node.input(0)!), first(node.input(1)!), first(node.input(2)!)])

    case .resize(var resize)
    where hasLast(node.input(0)) && !resize.axes.contains { $0 < 2 }:
      // Axes that are resized keep their order, and with it the order of the sums.
      resize.axes = resize.axes.map { $0 - 1 }
      var inputs: [Graph.ValueID?] = [try last(node.input(0)!)]
      for input in node.inputs.dropFirst() {
        inputs.append(try input.map { (input) throws(QMError) in try first(input) })
      }
      try emitLast(.resize(resize), node, inputs)

    case .depthToSpace(var blocks)
    where blocks.order == .channelsFirst && hasLast(node.input(0)):
      blocks.order = .channelsLast
      try emitLast(.depthToSpace(blocks), node, [last(node.input(0)!)])

    case .spaceToDepth(var blocks)
    where blocks.order == .channelsFirst && hasLast(node.input(0)):
      blocks.order = .channelsLast
      try emitLast(.spaceToDepth(blocks), node, [last(node.input(0)!)])

    case .batchNormalization(var normalization) where normalization.order == .channelsFirst:
      guard rank(node.input(0)!) > 2, hasLast(node.input(0)) else {
        try emitFirst(node.operation, node)
        return
      }
      normalization.order = .channelsLast
      var inputs: [Graph.ValueID?] = [try last(node.input(0)!)]
      for case .some(let input) in node.inputs.dropFirst() { inputs.append(try first(input)) }
      try emitLast(.batchNormalization(normalization), node, inputs)

    case .unary where hasLast(node.input(0)),
      .cast where hasLast(node.input(0)),
      .quantize where hasLast(node.input(0)),
      .dequantize where node.inputs.count == 1 && hasLast(node.input(0)),
      .identity where hasLast(node.input(0)):
      try emitLast(node.operation, node, [last(node.input(0)!)])

    case .binary:
      try rewriteBinary(node)

    case .reduction(var reduction) where hasLast(node.input(0)):
      let rank = rank(node.input(0)!)
      let places = LayoutAssignment.toFirst(rank)
      let staysImage = reduction.keepsAxes
      // Without the channels and with the axes gone, what is left is [N, C] in either form.
      let isFree = !reduction.keepsAxes && reduction.axes == Array(2..<rank)
      guard staysImage || isFree else {
        try emitFirst(node.operation, node)
        return
      }
      reduction.axes = reduction.axes.map { places[$0] }.sorted()
      if staysImage {
        try emitLast(.reduction(reduction), node, [last(node.input(0)!)])
      } else {
        try rewriter.append(
          .reduction(reduction), name: node.name, [last(node.input(0)!)],
          replacing: node.outputs)
      }

    case .pad where hasLast(node.input(0)):
      guard let inputs = try padding(node) else {
        try emitFirst(node.operation, node)
        return
      }
      try emitLast(node.operation, node, inputs)

    case .slice where hasLast(node.input(0)):
      let places = LayoutAssignment.toFirst(rank(node.input(0)!))
      guard let axes = integers(node.input(3)),
        axes.allSatisfy({ places.indices.contains($0) })
      else {
        try emitFirst(node.operation, node)
        return
      }
      var inputs: [Graph.ValueID?] = [try last(node.input(0)!)]
      for (place, input) in node.inputs.enumerated().dropFirst() {
        if place == 3 {
          inputs.append(try addIntegers(axes.map { places[$0] }, node.name + ".axes"))
        } else {
          inputs.append(try input.map { (input) throws(QMError) in try first(input) })
        }
      }
      try emitLast(node.operation, node, inputs)

    case .split(var split) where hasLast(node.input(0)):
      split.axis = LayoutAssignment.toFirst(rank(node.input(0)!))[split.axis]
      try emitLast(.split(split), node, [last(node.input(0)!)])

    case .softmax(var softmax) where hasLast(node.input(0)):
      softmax.axis = LayoutAssignment.toFirst(rank(node.input(0)!))[softmax.axis]
      try emitLast(.softmax(softmax), node, [last(node.input(0)!)])

    case .concatenate(var concatenate) where node.inputs.contains(where: { hasLast($0) }):
      concatenate.axis = LayoutAssignment.toFirst(rank(node.outputs[0]))[concatenate.axis]
      var inputs: [Graph.ValueID?] = []
      for case .some(let input) in node.inputs { inputs.append(try last(input)) }
      try emitLast(.concatenate(concatenate), node, inputs)

    case .transpose(let transpose) where isLastOnly.contains(node.input(0) ?? node.outputs[0]):
      // Two rearrangements are one.
      let places = LayoutAssignment.toFirst(transpose.permutation.count)
      let permutation = transpose.permutation.map { places[$0] }
      let input = try last(node.input(0)!)
      if permutation == Array(permutation.indices) {
        rewriter.replace(node.outputs[0], by: input)
      } else {
        try rewriter.append(
          .transpose(Transpose(permutation: permutation)), name: node.name, [input],
          replacing: node.outputs)
      }

    case .flatten(let flatten)
    where flatten.axis == 1 && isLastOnly.contains(node.input(0) ?? node.outputs[0])
      && hasOnePosition(node.input(0)!):
      try rewriter.append(
        node.operation, name: node.name, [last(node.input(0)!)], replacing: node.outputs)

    case .squeeze(var squeeze)
    where isLastOnly.contains(node.input(0) ?? node.outputs[0])
      && squeeze.axes == Array(2..<rank(node.input(0) ?? node.outputs[0])):
      // In this order: only a value with channels last is sure to have two axes or more.
      squeeze.axes = Array(1..<(rank(node.input(0)!) - 1))
      try rewriter.append(
        .squeeze(squeeze), name: node.name, [last(node.input(0)!)], replacing: node.outputs)

    default:
      try emitFirst(node.operation, node)
    }
  }

  private func integers(_ value: Graph.ValueID?) -> [Int]? {
    guard let value, let constant = source[value].constant, constant.elementType == .int64 else {
      return nil
    }
    return constant.elements(as: Int64.self).map(Int.init)
  }

  private mutating func addIntegers(
    _ numbers: [Int], _ name: String
  ) throws(QMError) -> Graph.ValueID {
    rewriter.addConstant(name: name, try Tensor([numbers.count], numbers.map(Int64.init)))
  }

  /// The inputs of a Pad by constant amounts, for the form with channels last.
  private mutating func padding(_ node: Graph.Node) throws(QMError) -> [Graph.ValueID?]? {
    let rank = rank(node.input(0)!)
    guard let amounts = integers(node.input(1)), amounts.count == 2 * rank, node.input(3) == nil
    else { return nil }
    let order = LayoutAssignment.toLast(rank)
    let moved = order.map { amounts[$0] } + order.map { amounts[rank + $0] }
    let value = try node.input(2).map { (value) throws(QMError) in try first(value) }
    return [try last(node.input(0)!), try addIntegers(moved, node.name + ".amounts"), value]
  }

  /// Element-wise operands follow the one that has its channels last.
  private mutating func rewriteBinary(_ node: Graph.Node) throws(QMError) {
    guard let left = node.input(0), let right = node.input(1) else {
      try emitFirst(node.operation, node)
      return
    }
    let outputRank = rank(node.outputs[0])
    let follows = [left, right].contains { hasLast($0) && rank($0) == outputRank }
    let canFollow = [left, right].allSatisfy { operand in
      rank(operand) == outputRank || source[operand].constant != nil
    }
    guard outputRank > 2, follows, canFollow else {
      try emitFirst(node.operation, node)
      return
    }
    var inputs: [Graph.ValueID?] = []
    for operand in [left, right] {
      if rank(operand) == outputRank {
        inputs.append(try last(operand))
      } else if let constant = source[operand].constant {
        inputs.append(try broadcastLast(operand, constant, rank: outputRank))
      }
    }
    try emitLast(node.operation, node, inputs)
  }

  /// A constant of lower rank, with its channels last.
  private mutating func broadcastLast(
    _ value: Graph.ValueID, _ constant: Tensor, rank: Int
  ) throws(QMError) -> Graph.ValueID {
    guard constant.elementCount > 1 else { return try first(value) }
    let extents = [Int](repeating: 1, count: rank - constant.shape.count) + constant.shape
    let permutation = LayoutAssignment.toLast(rank)
    let moved = try Operation.transpose(Transpose(permutation: permutation))
      .evaluate([constant.reshaped(extents)])
    return rewriter.addConstant(name: source[value].name + ".channelsLast", moved[0])
  }

  /// Whether the value exists with channels last already.
  private func hasLast(_ value: Graph.ValueID?) -> Bool {
    value.map { channelsLast[$0] != nil } ?? false
  }

  /// Whether every spatial axis has extent 1.
  private func hasOnePosition(_ value: Graph.ValueID) -> Bool {
    source[value].type.shape.axes.dropFirst(2).allSatisfy { $0 == 1 }
  }
}
