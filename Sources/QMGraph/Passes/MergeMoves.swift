import QMOperations
import QMTensor

/// Given: a Transpose of a Transpose, possibly with axes of extent 1 added or dropped in between.
/// Result: one Transpose, or none.
///
/// Given: a Transpose that moves only axes of extent 1.
/// Result: a Reshape, which copies nothing.
///
/// Outputs are equal bit for bit.
public struct MergeMoves: Pass {
  public static let name = "merge-moves"

  /// The pass; it has no options.
  public init() {}

  public func rewrite(_ graph: Graph) throws(QMError) -> Rewritten {
    let matching = Matching(graph)
    var rewriter = try Rewriter(graph)
    /// New values that are a Transpose of another new value.
    var transposed: [Graph.ValueID: (source: Graph.ValueID, permutation: [Int])] = [:]
    for node in graph.nodes {
      guard let input = node.input(0).map({ rewriter.value($0) }) else {
        try rewriter.copy(node)
        continue
      }
      let output = node.outputs[0]
      switch node.operation {
      case .transpose(let transpose):
        var (source, permutation) = (input, transpose.permutation)
        if let known = transposed[input] {
          source = known.source
          permutation = permutation.map { known.permutation[$0] }
        }
        if permutation == Array(permutation.indices) {
          rewriter.replace(output, by: source)
          continue
        }
        if let shape = reshaped(rewriter.graph[source].type.shape, permutation) {
          let constant = rewriter.addConstant(
            name: node.name + ".extents", try Tensor([shape.count], shape.map(Int64.init)))
          try rewriter.append(
            .reshape(Reshape()), name: node.name, [source, constant], replacing: node.outputs)
          continue
        }
        try rewriter.append(
          .transpose(Transpose(permutation: permutation)), name: node.name, [source],
          replacing: node.outputs)
        transposed[rewriter.value(output)] = (source, permutation)
      case .unsqueeze(let unsqueeze):
        guard let known = transposed[input], let old = node.input(0),
          matching.uses.consumers(of: output).contains(where: isTranspose(in: graph)),
          matching.uses.onlyConsumer(of: old) != nil
        else {
          try rewriter.copy(node)
          continue
        }
        // The new axes are added at the end; the permutation puts them in their places.
        let rank = known.permutation.count
        let added = Array(rank..<(rank + unsqueeze.axes.count))
        let wide = try rewriter.append(
          .unsqueeze(Unsqueeze(axes: added)), name: node.name + ".wide", [known.source])
        var permutation = known.permutation
        for (axis, place) in zip(unsqueeze.axes, added) { permutation.insert(place, at: axis) }
        try rewriter.append(
          .transpose(Transpose(permutation: permutation)), name: node.name, wide,
          replacing: node.outputs)
        transposed[rewriter.value(output)] = (wide[0], permutation)
      case .squeeze(let squeeze):
        guard let known = transposed[input], let axes = squeeze.axes, let old = node.input(0),
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
        transposed[rewriter.value(output)] = (narrow[0], permutation)
      default:
        try rewriter.copy(node)
      }
    }
    return try rewriter.finished().then(RemoveDeadNodes())
  }

  private func isTranspose(in graph: Graph) -> (Int) -> Bool {
    { index in if case .transpose = graph.nodes[index].operation { true } else { false } }
  }

  /// The constant shape of a Reshape that is equal to the permutation; nil if axes of extents other
  /// than 1 change their order, or if more than one dynamic axis moves.
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
    // −1 has no solution if a copied axis has extent 0 in a run.
    return openCount == 0 || (openCount == 1 && !extents.contains(0)) ? extents : nil
  }
}
