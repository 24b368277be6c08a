import QMOperations
import QMTensor

/// Given: a Transpose of a Transpose, also with axes of 1 added or dropped in between.
/// Result: one Transpose, or none.
///
/// Given: a Transpose that moves nothing but axes of 1.
/// Result: a Reshape, which copies nothing.
///
/// Equal bit for bit.
public struct MergeMoves: Pass {
  public static let name = "merge-moves"

  public init() {}

  public func rewrite(_ graph: Graph) throws(QMError) -> Rewritten {
    let matching = Matching(graph)
    var rewriter = try Rewriter(graph)
    /// New values that are `permutation` of another new value.
    var turned: [Graph.ValueID: (source: Graph.ValueID, permutation: [Int])] = [:]
    for node in graph.nodes {
      guard let input = node.input(0).map({ rewriter.value($0) }) else {
        try rewriter.copy(node)
        continue
      }
      let output = node.outputs[0]
      switch node.operation {
      case .transpose(let transpose):
        var (source, permutation) = (input, transpose.permutation)
        if let known = turned[input] {
          source = known.source
          permutation = permutation.map { known.permutation[$0] }
        }
        if permutation == Array(permutation.indices) {
          rewriter.replace(output, by: source)
          continue
        }
        if let extents = reshaped(rewriter.graph[source].type.shape, permutation) {
          let constant = rewriter.addConstant(
            name: node.name + ".extents", try Tensor([extents.count], extents.map(Int64.init)))
          try rewriter.append(
            .reshape(Reshape()), name: node.name, [source, constant], replacing: node.outputs)
          continue
        }
        try rewriter.append(
          .transpose(Transpose(permutation: permutation)), name: node.name, [source],
          replacing: node.outputs)
        turned[rewriter.value(output)] = (source, permutation)
      case .unsqueeze(let unsqueeze):
        guard let known = turned[input], let old = node.input(0),
          matching.uses.consumers(of: output).contains(where: isTranspose(in: graph)),
          matching.uses.onlyConsumer(of: old) != nil
        else {
          try rewriter.copy(node)
          continue
        }
        // The new axes go behind all others, and the permutation puts them in their places.
        let rank = known.permutation.count
        let added = Array(rank..<(rank + unsqueeze.axes.count))
        let wide = try rewriter.append(
          .unsqueeze(Unsqueeze(axes: added)), name: node.name + ".wide", [known.source])
        var permutation = known.permutation
        for (axis, place) in zip(unsqueeze.axes, added) { permutation.insert(place, at: axis) }
        try rewriter.append(
          .transpose(Transpose(permutation: permutation)), name: node.name, wide,
          replacing: node.outputs)
        turned[rewriter.value(output)] = (wide[0], permutation)
      case .squeeze(let squeeze):
        guard let known = turned[input], let axes = squeeze.axes, let old = node.input(0),
          matching.uses.consumers(of: output).contains(where: isTranspose(in: graph)),
          matching.uses.onlyConsumer(of: old) != nil
        else {
          try rewriter.copy(node)
          continue
        }
        let dropped = axes.map { known.permutation[$0] }.sorted()
        let narrow = try rewriter.append(
          .squeeze(Squeeze(axes: dropped)), name: node.name + ".narrow", [known.source])
        let kept = known.permutation.filter { !dropped.contains($0) }
        let permutation = kept.map { axis in axis - dropped.filter { $0 < axis }.count }
        try rewriter.append(
          .transpose(Transpose(permutation: permutation)), name: node.name, narrow,
          replacing: node.outputs)
        turned[rewriter.value(output)] = (narrow[0], permutation)
      default:
        try rewriter.copy(node)
      }
    }
    return try rewriter.finished().then(RemoveDeadNodes())
  }

  private func isTranspose(in graph: Graph) -> (Int) -> Bool {
    { index in if case .transpose = graph.nodes[index].operation { true } else { false } }
  }

  /// The extents of a Reshape that does what the permutation does; nil where axes of several
  /// elements change their order, or more than one is free and moves.
  private func reshaped(_ shape: Shape, _ permutation: [Int]) -> [Int]? {
    let moving = permutation.filter { shape[$0] != 1 }
    guard moving == moving.sorted(), !shape.axes.contains(0) else { return nil }
    var extents: [Int] = []
    var openCount = 0
    for (place, axis) in permutation.enumerated() {
      if let extent = shape[axis].extent {
        extents.append(extent)
      } else if place == axis {
        extents.append(0)
      } else {
        extents.append(-1)
        openCount += 1
      }
    }
    // Beside a copied axis of no elements −1 could not be solved.
    return openCount == 0 || (openCount == 1 && !extents.contains(0)) ? extents : nil
  }
}
