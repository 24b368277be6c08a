import QMOperations
import QMTensor

/// Given: a Pad with zeros and constant amounts along spatial axes, whose only reader is a
/// convolution.
/// Result: the padding is an attribute of the convolution.
///
/// Given: an initial state of a recurrent layer that is all zeros.
/// Result: the state is absent, which means zeros.
///
/// Outputs are equal except for the sign of zeros.
public struct FoldPadding: Pass {
  public static let name = "fold-padding"

  /// The pass; it has no options.
  public init() {}

  public func rewrite(_ graph: Graph) throws(QMError) -> Rewritten {
    let matching = Matching(graph)
    var rewriter = try Rewriter(graph)
    for node in graph.nodes {
      switch node.operation {
      case .convolution(var convolution):
        guard let (source, padding) = padded(node, convolution, matching) else {
          try rewriter.copy(node)
          continue
        }
        convolution.padding = padding
        var inputs = node.inputs.map { input in input.map { rewriter.value($0) } }
        inputs[ProductOperand.input] = rewriter.value(source)
        try rewriter.append(
          .convolution(convolution), name: node.name, inputs, replacing: node.outputs)
      case .recurrent:
        var inputs: [Graph.ValueID?] = []
        for (position, input) in node.inputs.enumerated() {
          let isState = position == RecurrentOperand.hidden || position == RecurrentOperand.cell
          let isNone = isState && (input.map { isZero($0, matching) } ?? true)
          inputs.append(isNone ? nil : input.map { rewriter.value($0) })
        }
        while inputs.last == .some(nil) { inputs.removeLast() }
        try rewriter.append(
          node.operation, name: node.name, inputs, replacing: node.outputs)
      default:
        try rewriter.copy(node)
      }
    }
    return try rewriter.finished().then(RemoveDeadNodes())
  }

  /// The input of the Pad, and the sum of both paddings.
  private func padded(
    _ node: Graph.Node, _ convolution: Convolution, _ matching: Matching
  ) -> (Graph.ValueID, Padding)? {
    guard convolution.order == .channelsFirst, !convolution.isTransposed,
      case .explicit(var before, var after) = convolution.padding,
      let input = node.input(ProductOperand.input), matching.uses.onlyConsumer(of: input) != nil,
      let pad = matching.producer(of: input), case .pad(let operation) = pad.operation,
      operation.mode == .constant, let source = pad.input(0),
      matching.graph[source].type.elementType == .float32,
      pad.input(2).map({ matching.scalar($0) == 0 }) ?? true,
      let amounts = integers(pad.input(1), matching)
    else { return nil }
    let rank = matching.shape(source).rank
    let axes =
      pad.input(3) == nil
      ? Array(0..<rank)
      : integers(pad.input(3), matching)?.map {
        $0 < 0 ? $0 + rank : $0
      }
    guard let axes, amounts.count == 2 * axes.count, rank == before.count + 2 else { return nil }
    for (place, axis) in axes.enumerated() {
      let (front, back) = (amounts[place], amounts[axes.count + place])
      if front == 0, back == 0 { continue }
      guard axis >= 2, axis < rank, front >= 0, back >= 0, front < 1 << 20, back < 1 << 20 else {
        return nil
      }
      before[axis - 2] += front
      after[axis - 2] += back
    }
    return (source, .explicit(before: before, after: after))
  }

  private func integers(_ value: Graph.ValueID?, _ matching: Matching) -> [Int]? {
    guard let value, let constant = matching.graph[value].constant,
      constant.elementType == .int64
    else { return nil }
    return constant.elements(as: Int64.self).map(Int.init)
  }

  private func isZero(_ value: Graph.ValueID, _ matching: Matching) -> Bool {
    var value = value
    while let node = matching.producer(of: value) {
      switch node.operation {
      case .fill: return node.input(1).map { matching.scalar($0) == 0 } ?? false
      case .expand, .reshape, .tile, .unsqueeze, .squeeze, .identity, .slice:
        guard let input = node.input(0) else { return false }
        value = input
      default: return false
      }
    }
    guard let constant = matching.graph[value].constant, !matching.graph[value].isParameter else {
      return false
    }
    return constant.elementType == .float32 && constant.elementCount <= 1 << 20
      && constant.elements(as: Float.self).allSatisfy { $0 == 0 }
  }
}
