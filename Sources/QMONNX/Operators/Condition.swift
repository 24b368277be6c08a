import QMGraph
import QMOperations
import QMTensor

extension NodeReader {
  /// If: with a constant condition, the nodes of the chosen branch replace the node. With a
  /// computed condition both branches are read, and an If operation per output chooses between
  /// them.
  func condition() throws(QMError) {
    let condition = try raw(0)
    guard condition.type == .bool else { throw .malformed("a condition of type \(condition.type)") }
    if let tensor = constant(condition) {
      guard tensor.elementCount == 1 else {
        throw .malformed("a condition of shape \(tensor.shape); expected one element")
      }
      let isTrue = tensor.elements(as: Bool.self)[0]
      return try finish(inlined(isTrue ? "then_branch" : "else_branch"))
    }
    let whenTrue = try values(branch("then_branch"))
    let whenFalse = try values(branch("else_branch"))
    guard whenTrue.count == whenFalse.count else {
      throw .malformed("branches of \(whenTrue.count) and \(whenFalse.count) outputs")
    }
    var results: [Value] = []
    for (index, (left, right)) in zip(whenTrue, whenFalse).enumerated() {
      try requireSameType(left, right)
      if left == right || isSqueeze(left, of: right, where: condition) {
        results.append(left)
        continue
      }
      guard shape(left).rank == shape(right).rank else {
        throw .unsupported(
          "the condition is computed, and the branches return \(shape(left)) and \(shape(right)); expected one rank",
          remedies: NodeReader.setCondition)
      }
      results.append(
        try append(
          .if(If()), [condition, inFloat32(left), inFloat32(right)], as: left.type,
          "chosen\(index)"))
    }
    try finish(results)
  }

  /// The outputs of a branch. An error in it may be one that no run meets, because the branch is
  /// never chosen; the remedy is to set the condition.
  private func branch(_ name: String) throws(QMError) -> [GraphBuilder.Item] {
    do { return try inlined(name) } catch {
      throw QMError(
        error.code, error.statement, remedies: error.remedies + [NodeReader.setCondition])
    }
  }

  private func inlined(_ name: String) throws(QMError) -> [GraphBuilder.Item] {
    let graph = try graph(name)
    guard graph.inputs.isEmpty else { throw .malformed("a branch with inputs") }
    return try builder.inlining(graph, as: "a branch") { (add) throws(QMError) in try add([]) }
  }

  private func values(_ items: [GraphBuilder.Item]) throws(QMError) -> [Value] {
    var values: [Value] = []
    for item in items {
      guard case .value(let value) = item else {
        throw .unsupported(
          "the condition is computed, and a branch returns a sequence; expected tensors",
          remedies: NodeReader.setCondition)
      }
      values.append(value)
    }
    return values
  }

  /// With a constant condition only one branch is read.
  private static let setCondition = Remedy.setInputs(which: "the condition's inputs")

  /// Whether the node is PyTorch's form of `squeeze(axis)`: the condition compares the extent of an
  /// axis with 1, one branch drops that axis, the other returns the value unchanged. The following
  /// nodes expect one rank, the one without the axis; Squeeze refuses a run with another extent.
  private func isSqueeze(_ dropped: Value, of whole: Value, where condition: Value) -> Bool {
    let graph = builder.graph
    guard case .graph(let dropped) = dropped.place, case .graph(let whole) = whole.place,
      case .graph(let condition) = condition.place,
      let node = graph.producer(of: dropped), case .squeeze(let squeeze) = node.operation,
      let axes = squeeze.axes, axes.count == 1, node.input(0) == whole,
      let comparison = graph.producer(of: condition),
      case .comparison(let compare) = comparison.operation, compare.function == .equal,
      let left = comparison.input(0), let right = comparison.input(1)
    else { return false }
    let (extent, number) = graph[left].constant == nil ? (left, right) : (right, left)
    return graph.integer(number) == 1
      && graph.extent(extent) == Graph.Extent(value: whole, axis: axes[0])
  }
}

extension Graph {
  fileprivate struct Extent: Equatable {
    let value: ValueID
    let axis: Int
  }

  /// The node that computes a value. Outputs of nodes are numbered in the order of the nodes.
  fileprivate func producer(of value: ValueID) -> Node? {
    var (low, high) = (0, nodes.count)
    while low < high {
      let middle = (low + high) / 2
      if nodes[middle].outputs[0] <= value { low = middle + 1 } else { high = middle }
    }
    return low > 0 && nodes[low - 1].outputs.contains(value) ? nodes[low - 1] : nil
  }

  /// The integer in a constant of one element.
  fileprivate func integer(_ value: ValueID?) -> Int? {
    guard let tensor = value.flatMap({ self[$0].constant }), tensor.elementCount == 1 else {
      return nil
    }
    switch tensor.elementType {
    case .int64: return Int(tensor.elements(as: Int64.self)[0])
    case .int32: return Int(tensor.elements(as: Int32.self)[0])
    default: return nil
    }
  }

  /// The axis whose extent a value is: a Gather of one element of a Shape.
  fileprivate func extent(_ value: ValueID) -> Extent? {
    guard let gather = producer(of: value), case .gather = gather.operation,
      let index = integer(gather.input(1)), let extents = gather.input(0),
      let source = producer(of: extents), case .shape(let shapeOperation) = source.operation,
      shapeOperation == ShapeOperation(), let data = source.input(0)
    else { return nil }
    return Extent(value: data, axis: index < 0 ? index + self[data].type.shape.rank : index)
  }
}
