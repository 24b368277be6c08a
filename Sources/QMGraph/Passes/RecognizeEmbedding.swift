import QMOperations
import QMTensor

/// Given: a matrix product with one-hot rows: `float(i == [0, 1, …, n − 1]) · W`.
/// Result: a Gather of rows of W. An index out of range selects a row of zeros, which is also what
/// the product gives.
///
/// Outputs are equal except for the sign of zeros.
public struct RecognizeEmbedding: Pass {
  public static let name = "recognize-embedding"

  /// The pass; it has no options.
  public init() {}

  public func rewrite(_ graph: Graph) throws(QMError) -> Rewritten {
    let matching = Matching(graph)
    var rewriter = try Rewriter(graph)
    for node in graph.nodes {
      guard let found = embedding(node, matching) else {
        try rewriter.copy(node)
        continue
      }
      try emit(found, node, &rewriter)
    }
    return try rewriter.finished().then(RemoveDeadNodes())
  }

  private struct Embedding {
    let indices: Graph.ValueID
    let name: String
    let weights: Tensor
    let bias: Graph.ValueID?
    let rows: Int
    let columns: Int
  }

  private func embedding(_ node: Graph.Node, _ matching: Matching) -> Embedding? {
    let graph = matching.graph
    guard case .matrixMultiply(let product) = node.operation,
      product.rightLayout == .channelsFirst, product.epilogue == Epilogue(),
      node.inputs.count <= ProductOperand.weightScales,
      let input = node.input(ProductOperand.input),
      let weightsID = node.input(ProductOperand.weights), let weights = graph[weightsID].constant,
      weights.elementType == .float32, weights.shape.count == 2,
      !graph[weightsID].isParameter,
      weights.withElements(as: Float.self, { $0.allSatisfy(\.isFinite) }),
      let cast = matching.producer(of: input), case .cast = cast.operation,
      let flags = cast.input(0), let equal = matching.producer(of: flags),
      case .comparison(let comparison) = equal.operation, comparison.function == .equal,
      let left = equal.input(0), let right = equal.input(1)
    else { return nil }
    let (columns, rows) = (weights.shape[0], weights.shape[1])
    for (indices, numbers) in [(left, right), (right, left)] {
      let shape = matching.shape(indices)
      guard let numbers = graph[numbers].constant, graph[indices].constant == nil,
        shape.rank == matching.shape(input).rank, shape.rank >= 1,
        shape.axes.last == 1, numbers.shape.last == rows, numbers.elementCount == rows,
        shape.axes.dropLast() == matching.shape(input).axes.dropLast(),
        counts(numbers)
      else { continue }
      return Embedding(
        indices: indices, name: graph[weightsID].name, weights: weights,
        bias: node.input(ProductOperand.bias), rows: rows, columns: columns)
    }
    return nil
  }

  /// Whether the elements are 0, 1, 2, ….
  private func counts(_ numbers: Tensor) -> Bool {
    switch numbers.elementType {
    case .int32: numbers.elements(as: Int32.self).enumerated().allSatisfy { $0 == Int($1) }
    case .int64: numbers.elements(as: Int64.self).enumerated().allSatisfy { $0 == Int($1) }
    default: false
    }
  }

  private func emit(
    _ found: Embedding, _ node: Graph.Node, _ rewriter: inout Rewriter
  ) throws(QMError) {
    let source = rewriter.source
    let type = source[found.indices].type.elementType
    func scalar(_ number: Int) throws(QMError) -> Graph.ValueID {
      rewriter.addConstant(
        name: node.name + ".bound",
        type == .int32 ? try Tensor([], [Int32(number)]) : try Tensor([], [Int64(number)]))
    }
    // −1 and the number of rows both select the last row, which is zero.
    let rank = source[found.indices].type.shape.rank
    var indices = try rewriter.append(
      .squeeze(Squeeze(axes: [rank - 1])), name: node.name + ".indices",
      [rewriter.value(found.indices)])
    indices = try rewriter.append(
      .binary(Binary(.maximum)), name: node.name + ".low", [indices[0], scalar(-1)])
    indices = try rewriter.append(
      .binary(Binary(.minimum)), name: node.name + ".high", [indices[0], scalar(found.rows)])
    let table = try found.weights.withElements(as: Float.self) {
      (weights) throws(QMError) in
      try Tensor([found.rows + 1, found.columns], as: Float.self) { table in
        for column in 0..<found.columns {
          for row in 0..<found.rows {
            table[row * found.columns + column] = weights[column * found.rows + row]
          }
        }
      }
    }
    let constant = rewriter.addConstant(name: found.name, table)
    let gather = Operation.gather(Gather(axis: 0))
    guard let bias = found.bias else {
      try rewriter.append(gather, name: node.name, [constant, indices[0]], replacing: node.outputs)
      return
    }
    let rows = try rewriter.append(gather, name: node.name + ".rows", [constant, indices[0]])
    try rewriter.append(
      .binary(Binary(.add)), name: node.name, [rows[0], rewriter.value(bias)],
      replacing: node.outputs)
  }
}
