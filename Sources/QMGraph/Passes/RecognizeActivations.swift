import QMOperations
import QMTensor

/// Given: an activation function that an exporter spelled out:
///
///     x · clip(x + 3, 0, 6) / 6        (also with the division, or a product with 1/6, elsewhere)
///     x · hardSigmoid(x; 1/6, 1/2)
///     x · sigmoid(x)
///
/// Result: `hardSwish(x)`, `silu(x)`: one operation, one rounding, one table.
/// Outputs are equal up to float rounding.
public struct RecognizeActivations: Pass {
  public static let name = "recognize-activations"

  public init() {}

  public func run(on graph: Graph) throws(QMError) -> Graph {
    let matcher = Matcher(graph: graph, uses: Uses(graph))
    var rewriter = try Rewriter(graph)
    for node in graph.nodes {
      if let (argument, function) = matcher.activation(node) {
        try rewriter.append(
          .unary(Unary(function)), name: node.name, [rewriter.value(argument)],
          replacing: node.outputs)
      } else {
        try rewriter.copy(node)
      }
    }
    return try RemoveDeadNodes().run(on: rewriter.finish())
  }

  private struct Matcher {
    let graph: Graph
    let uses: Uses

    /// The argument and the function that `node` ends, if it ends one.
    func activation(_ node: Graph.Node) -> (Graph.ValueID, UnaryFunction)? {
      let output = node.outputs[0]
      // x · clip(x + 3, 0, 6) scaled by 1/6, whichever came first.
      if let product = scaledBySixth(output), let (left, right) = operands(product, .multiply) {
        for (x, gate) in [(left, right), (right, left)] where isClipOfShift(gate, of: x) {
          return (x, .hardSwish)
        }
      }
      if let (left, right) = operands(output, .multiply) {
        for (x, gate) in [(left, right), (right, left)] {
          if let clip = scaledBySixth(gate), isClipOfShift(clip, of: x) { return (x, .hardSwish) }
          switch function(gate, of: x) {
          case .hardSigmoid(let alpha, 0.5) where abs(alpha - 1 / 6) < 1e-6: return (x, .hardSwish)
          case .sigmoid: return (x, .silu)
          default: continue
          }
        }
      }
      return nil
    }

    /// v, where `value` is v / 6 or v · 1/6.
    private func scaledBySixth(_ value: Graph.ValueID) -> Graph.ValueID? {
      if let (left, right) = operands(value, .divide), scalar(right) == 6 { return left }
      if let (left, right) = operands(value, .multiply) {
        for (v, factor) in [(left, right), (right, left)] {
          if let factor = scalar(factor), abs(factor - 1 / 6) < 1e-6 { return v }
        }
      }
      return nil
    }

    /// Whether `value` is clip(x + 3, 0, 6).
    private func isClipOfShift(_ value: Graph.ValueID, of x: Graph.ValueID) -> Bool {
      guard let node = producer(value), case .unary(let unary) = node.operation,
        unary.function == .clip(minimum: 0, maximum: 6), let shifted = node.input(0),
        let (left, right) = operands(shifted, .add)
      else { return false }
      return (left == x && scalar(right) == 3) || (right == x && scalar(left) == 3)
    }

    private func function(_ value: Graph.ValueID, of x: Graph.ValueID) -> UnaryFunction? {
      guard let node = producer(value), case .unary(let unary) = node.operation,
        node.input(0) == x
      else { return nil }
      return unary.function
    }

    private func operands(_ value: Graph.ValueID, _ function: BinaryFunction)
      -> (Graph.ValueID, Graph.ValueID)?
    {
      guard let node = producer(value), case .binary(let binary) = node.operation,
        binary.function == function, binary.then == nil, let left = node.input(0),
        let right = node.input(1), graph[value].type.elementType == .float32
      else { return nil }
      return (left, right)
    }

    private func scalar(_ value: Graph.ValueID) -> Float? {
      guard let constant = graph[value].constant, constant.elementType == .float32,
        constant.elementCount == 1
      else { return nil }
      return constant.elements(as: Float.self)[0]
    }

    private func producer(_ value: Graph.ValueID) -> Graph.Node? {
      uses.producer(of: value).map { graph.nodes[$0] }
    }
  }
}
