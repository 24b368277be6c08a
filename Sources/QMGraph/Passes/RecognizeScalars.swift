import QMOperations
import QMTensor

/// Given: an addition, subtraction, multiplication or division of float32 by a constant of one
/// element.
/// Given: a multiplication read only by an addition or subtraction, of this kind.
/// Result: one affine function, which products take into their epilogues and which is a table
/// between codes.
///
/// Outputs stay equal bit for bit, but for division, which becomes a multiplication.
public struct RecognizeScalars: Pass {
  public static let name = "recognize-scalars"

  public init() {}

  public func run(on graph: Graph) throws(QMError) -> Graph {
    let uses = Uses(graph)
    var rewriter = try Rewriter(graph)
    /// The scale and operand of a multiplication that its only reader takes in.
    var scaled: [Graph.ValueID: (scale: Float, operand: Graph.ValueID)] = [:]
    for node in graph.nodes {
      guard let (operand, scale, offset, isProduct) = RecognizeScalars.affine(node, in: graph)
      else {
        try rewriter.copy(node)
        continue
      }
      if isProduct, let reader = uses.onlyConsumer(of: node.outputs[0]),
        let next = RecognizeScalars.affine(graph.nodes[reader], in: graph), !next.isProduct,
        next.scale == 1
      {
        scaled[node.outputs[0]] = (scale, operand)
        continue
      }
      let before = scaled[operand]
      try rewriter.append(
        .unary(Unary(.affine(scale: before?.scale ?? scale, offset: offset))), name: node.name,
        [rewriter.value(before?.operand ?? operand)], replacing: node.outputs)
    }
    return try rewriter.finish()
  }

  /// What the node does to its one operand that is no constant: `operand · scale + offset`.
  private static func affine(
    _ node: Graph.Node, in graph: Graph
  ) -> (operand: Graph.ValueID, scale: Float, offset: Float, isProduct: Bool)? {
    guard case .binary(let binary) = node.operation, binary.then == nil,
      binary.output == .float32, let left = node.input(0), let right = node.input(1),
      graph[node.outputs[0]].type.elementType == .float32
    else { return nil }
    func scalar(_ value: Graph.ValueID) -> Float? {
      guard let constant = graph[value].constant, constant.elementType == .float32,
        constant.elementCount == 1
      else { return nil }
      return constant.elements(as: Float.self)[0]
    }
    let (operand, number) = scalar(right).map { (left, $0) } ?? (right, scalar(left) ?? .nan)
    guard number.isFinite, graph[operand].constant == nil,
      // A constant of higher rank adds axes.
      graph[operand].type.shape == graph[node.outputs[0]].type.shape
    else { return nil }
    switch binary.function {
    case .multiply: return (operand, number, 0, true)
    case .add: return (operand, 1, number, false)
    case .subtract where operand == left: return (operand, 1, -number, false)
    case .subtract: return (operand, -1, number, false)
    case .divide where operand == left && (1 / number).isNormal:
      return (operand, 1 / number, 0, true)
    default: return nil
    }
  }
}
