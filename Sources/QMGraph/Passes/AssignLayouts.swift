import QMOperations
import QMTensor

/// Given: convolutions, pooling and batch normalization with channels first, as ONNX defines them.
/// Result: the same with channels last, as the kernels require; weights are rearranged, parameters by
/// a Transpose; a Transpose stands where a value enters or leaves a chain of such nodes. Element-wise operations and
/// operations along axes follow their operands, so that no Transpose stands inside a chain.
///
/// Outputs are equal bit for bit: the order of a product's additions does not depend on the layout.
public struct AssignLayouts: Pass {
  public static let name = "assign-layouts"

  /// The pass; it has no options.
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
  /// For each old value that exists with channels last, that new value. Its axes are 0, 2, 3, …, 1.
  private var channelsLast: [Graph.ValueID: Graph.ValueID] = [:]
  /// Old values that so far exist with channels last only.
  private var isLastOnly: Set<Graph.ValueID> = []

  init(_ rewriter: Rewriter) {
    self.rewriter = rewriter
    source = rewriter.source
  }

  mutating func finish() throws(QMError) -> Rewritten {
    for output in source.outputs { _ = try first(output.value) }
    return try rewriter.finished()
  }

  private func rank(_ value: Graph.ValueID) -> Int { source[value].type.shape.rank }

  /// The value in its old order of axes; adds a Transpose if it exists with channels last only.
  private mutating func first(_ value: Graph.ValueID) throws(QMError) -> Graph.ValueID {
    if isLastOnly.remove(value) != nil, let last = channelsLast[value] {
      let permutation = AxisOrder.channelsLast(rank: rank(value)).places
      let name = source[value].name + ".channelsFirst"
      let new = try rewriter.append(
        .transpose(Transpose(permutation: permutation)), name: name, [last], outputNames: [name])
      rewriter.replace(value, by: new[0])
    }
    return rewriter.value(value)
  }

  /// The value with channels last; adds a Transpose if there is none yet.
  private mutating func last(_ value: Graph.ValueID) throws(QMError) -> Graph.ValueID {
    if let last = channelsLast[value] { return last }
    let permutation = AxisOrder.channelsLast(rank: rank(value)).sources
    let name = source[value].name + ".channelsLast"
    let new: Graph.ValueID
    if let constant = source[value].constant, !source[value].isParameter {
      let moved = try Operation.transpose(Transpose(permutation: permutation)).evaluate([constant])
      new = rewriter.addConstant(
        name: name, moved[0], source[value].type.quantization,
        stored: try source[value].stored?.transposed(permutation))
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
      // The parameters of a DynamicQuantize have no channels.
      guard rank(old) == rank(node.outputs[0]) else {
        rewriter.replace(old, by: new)
        continue
      }
      channelsLast[old] = new
      isLastOnly.insert(old)
      rewriter.record(old, isPermuted: AxisOrder.channelsLast(rank: rank(old)).sources, as: new)
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
    guard let form = reordered(node) else {
      try emitFirst(node.operation, node)
      return
    }
    var inputs: [Graph.ValueID?] = []
    for (position, input) in node.inputs.enumerated() {
      switch (form.operands[position], input) {
      case (.replaced(let numbers), _):
        inputs.append(
          rewriter.addConstant(
            name: "\(node.name).\(position)", try Tensor([numbers.count], numbers.map(Int64.init))))
      case (_, nil): inputs.append(nil)
      case (.unchanged, .some(let input)): inputs.append(try first(input))
      case (.reordered, .some(let input)): inputs.append(try last(input))
      case (.expandedAndReordered, .some(let input)):
        inputs.append(try expandedLast(input, rank: rank(node.outputs[0])))
      }
    }
    if form.reordersOutput {
      try emitLast(form.operation, node, inputs)
    } else if case .identity = form.operation, let input = inputs[0] {
      rewriter.replace(node.outputs[0], by: input)
    } else {
      try rewriter.append(form.operation, name: node.name, inputs, replacing: node.outputs)
    }
  }

  /// The node for operands with channels last; nil if that is impossible or saves nothing.
  private func reordered(_ node: Graph.Node) -> ReorderedForm? {
    let body = node.operation.body
    let operands = source.operands(of: node)
    let isBinary = if case .binary = node.operation { true } else { false }
    let images = isBinary ? node.outputs : node.inputs.prefix(1).compactMap { $0 }
    guard let rank = images.first.map({ self.rank($0) }), rank > 2,
      let form = body.reordered(.channelsLast(rank: rank), operands)
    else { return nil }
    let expandsParameter = zip(form.operands, node.inputs).contains { change, input in
      change == .expandedAndReordered && (input.map { source[$0].isParameter } ?? false)
    }
    if expandsParameter { return nil }
    if body.prefersChannelsLast { return form }
    let reordered = zip(form.operands, node.inputs).compactMap { change, input in
      change == .reordered ? input : nil
    }
    // A node whose output keeps the old order should only avoid a Transpose of its operand.
    let isUseful = reordered.contains(where: form.reordersOutput ? hasLast : isLastOnly.contains)
    return isUseful ? form : nil
  }

  /// A constant of lower rank with channels last, after its shape is padded with 1 to `rank`.
  private mutating func expandedLast(
    _ value: Graph.ValueID, rank: Int
  ) throws(QMError) -> Graph.ValueID {
    guard let constant = source[value].constant else { return try first(value) }
    let shape = [Int](repeating: 1, count: rank - constant.shape.count) + constant.shape
    let permutation = AxisOrder.channelsLast(rank: rank).sources
    let moved = try Operation.transpose(Transpose(permutation: permutation))
      .evaluate([constant.reshaped(shape)])
    return rewriter.addConstant(name: source[value].name + ".channelsLast", moved[0])
  }

  /// Whether the value already exists with channels last.
  private func hasLast(_ value: Graph.ValueID) -> Bool { channelsLast[value] != nil }
}
