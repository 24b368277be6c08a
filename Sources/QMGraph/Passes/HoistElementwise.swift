import QMOperations
import QMTensor

/// Given: a product whose only reader rearranges its elements (Squeeze, Unsqueeze, Transpose),
/// followed by unary functions, or binary operations with constants that vary only along axes of
/// the product.
/// Result: the element-wise operations stand directly after the product, where they can be fused
/// into it; the rearrangement follows.
///
/// Outputs are equal bit for bit.
public struct HoistElementwise: Pass {
  public static let name = "hoist-elementwise"

  /// The pass; it has no options.
  public init() {}

  public func rewrite(_ graph: Graph) throws(QMError) -> Rewritten {
    let matching = Matching(graph)
    var rewriter = try Rewriter(graph)
    /// By old value: the new value before the rearrangements, and the rearrangements in their
    /// order.
    var hoisted: [Graph.ValueID: (value: Graph.ValueID, rearrangements: [Operation])] = [:]
    for node in graph.nodes {
      let output = node.outputs[0]
      switch node.operation {
      case .squeeze(let squeeze) where squeeze.axes == nil: break
      case .squeeze, .unsqueeze, .transpose:
        guard let input = node.input(0), matching.uses.onlyConsumer(of: input) != nil else { break }
        if let known = hoisted[input] {
          hoisted[output] = (known.value, known.rearrangements + [node.operation])
        } else if isProduct(matching.producer(of: input)) {
          hoisted[output] = (rewriter.value(input), [node.operation])
        }
      case .unary(let unary) where unary.output == .float32:
        guard let input = node.input(0), matching.uses.onlyConsumer(of: input) != nil,
          let known = hoisted[input]
        else { break }
        let new = try rewriter.append(
          node.operation, name: node.name, [known.value], outputNames: [node.name + ".unmoved"])
        try rearrange(new[0], by: known.rearrangements, node, &rewriter)
        hoisted[output] = (new[0], known.rearrangements)
        continue
      case .binary(let binary) where binary.secondFunction == nil && binary.output == .float32:
        guard let left = node.input(0), let right = node.input(1), left != right else { break }
        let isLeft = hoisted[left] != nil
        let (input, other) = isLeft ? (left, right) : (right, left)
        guard let known = hoisted[input], matching.uses.onlyConsumer(of: input) != nil,
          let constant = graph[other].constant, constant.elementType == .float32,
          matching.shape(input) == matching.shape(output),
          let numbers = try unrearranged(
            constant, by: known.rearrangements, rank: matching.shape(output).rank)
        else { break }
        let operand = rewriter.addConstant(name: graph[other].name, numbers)
        let inputs = isLeft ? [known.value, operand] : [operand, known.value]
        let new = try rewriter.append(
          node.operation, name: node.name, inputs, outputNames: [node.name + ".unmoved"])
        try rearrange(new[0], by: known.rearrangements, node, &rewriter)
        hoisted[output] = (new[0], known.rearrangements)
        continue
      default: break
      }
      try rewriter.copy(node)
    }
    return try rewriter.finished().then(RemoveDeadNodes())
  }

  private func isProduct(_ node: Graph.Node?) -> Bool {
    switch node?.operation {
    case .convolution, .matrixMultiply: true
    default: false
    }
  }

  private func rearrange(
    _ value: Graph.ValueID, by rearrangements: [Operation], _ node: Graph.Node,
    _ rewriter: inout Rewriter
  ) throws(QMError) {
    var value = value
    for rearrangement in rearrangements.dropLast() {
      value = try rewriter.append(rearrangement, name: node.name + ".moved", [value])[0]
    }
    if let last = rearrangements.last {
      try rewriter.append(last, name: node.name + ".moved", [value], replacing: node.outputs)
    }
  }

  /// The constant with the rearrangements undone, which end in a value of `rank` axes; nil if it
  /// varies along an axis that does not exist before them.
  private func unrearranged(
    _ constant: Tensor, by rearrangements: [Operation], rank: Int
  ) throws(QMError) -> Tensor? {
    guard constant.shape.count <= rank else { return nil }
    var tensor = try constant.reshaped(
      Array(repeating: 1, count: rank - constant.shape.count) + constant.shape)
    for rearrangement in rearrangements.reversed() {
      switch rearrangement {
      case .unsqueeze(let unsqueeze):
        guard unsqueeze.axes.allSatisfy({ tensor.shape[$0] == 1 }) else { return nil }
        let kept = tensor.shape.indices.filter { !unsqueeze.axes.contains($0) }
        tensor = try tensor.reshaped(kept.map { tensor.shape[$0] })
      case .squeeze(let squeeze):
        var shape = tensor.shape
        for axis in (squeeze.axes ?? []).sorted() { shape.insert(1, at: axis) }
        tensor = try tensor.reshaped(shape)
      case .transpose(let transpose):
        var back = transpose.permutation
        for (place, axis) in transpose.permutation.enumerated() { back[axis] = place }
        tensor = try Operation.transpose(Transpose(permutation: back)).evaluate([tensor])[0]
      default: return nil
      }
    }
    return tensor
  }
}
