import QMOperations
import QMTensor

/// Given: an activation function that an exporter spelled out:
///
///     x · clip(x + 3, 0, 6) / 6                      (the 1/6 anywhere in the product)
///     x · hardSigmoid(x; 1/6, 1/2)
///     clip(x + 3, 0, 6) / 6
///     x · sigmoid(x)
///     1 / (1 + exp(−x))
///     x/2 · (1 + erf(x/√2))                          (the numbers anywhere in the products)
///     x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))   (also with x · (1 + 0.044715 x²))
///     log(1 + exp(x)), x · tanh(softplus(x))
///     max(x, a · x) with a within 0…1, max(x, 0)
///
/// Result: `hardSwish`, `hardSigmoid`, `silu`, `sigmoid`, `gelu`, `geluTanh`, `softplus`, `mish`,
/// `leakyRelu`, `relu`: one operation, one rounding, one table.
/// Outputs are equal up to float rounding if the given form does not overflow.
public struct RecognizeActivations: Pass {
  public static let name = "recognize-activations"

  /// The pass; it has no options.
  public init() {}

  public func rewrite(_ graph: Graph) throws(QMError) -> Rewritten {
    let matcher = Matcher(matching: Matching(graph))
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
    return try rewriter.finished().then(RemoveDeadNodes())
  }

  private struct Matcher {
    let matching: Matching

    /// The argument and the function whose last node is `node`; nil if there is none.
    func activation(_ node: Graph.Node) -> (Graph.ValueID, UnaryFunction)? {
      let output = node.outputs[0]
      switch node.operation {
      case .binary, .unary: break
      default: return nil
      }
      guard let (argument, function) = found(output),
        // A constant operand with more axes would add axes to the result.
        matching.shape(argument) == matching.shape(output)
      else { return nil }
      return (argument, function)
    }

    private func found(_ output: Graph.ValueID) -> (Graph.ValueID, UnaryFunction)? {
      if let sum = matching.operand(output, of: .logarithm),
        let exponential = matching.operand(sum, plus: 1),
        let x = matching.operand(exponential, of: .exponential)
      {
        return (x, .softplus)
      }
      if let sum = matching.reciprocal(output), let exponential = matching.operand(sum, plus: 1),
        let negative = matching.operand(exponential, of: .exponential), let x = negated(negative)
      {
        return (x, .sigmoid)
      }
      for (x, product) in matching.pairs(output, of: .maximum) {
        if matching.scalar(product) == 0 { return (x, .relu) }
        let factors = matching.factors(product)
        if factors.values == [x], factors.scale > 0, factors.scale < 1 {
          return (x, .leakyRelu(slope: Float(factors.scale)))
        }
      }
      guard
        matching.operands(output, of: .multiply) != nil
          || matching.operands(output, of: .divide) != nil
      else { return nil }
      let factors = matching.factors(output)
      if factors.values.count == 1, isSixth(factors.scale),
        let x = clippedShift(factors.values[0])
      {
        return (x, .hardSigmoid(alpha: 1 / 6, beta: 0.5))
      }
      guard factors.values.count == 2 else { return nil }
      for (x, gate) in [
        (factors.values[0], factors.values[1]), (factors.values[1], factors.values[0]),
      ] {
        if let function = gated(x, gate, factors.scale) { return (x, function) }
      }
      return nil
    }

    /// The activation function equal to `scale` · x · `gate`.
    private func gated(
      _ x: Graph.ValueID, _ gate: Graph.ValueID, _ scale: Double
    ) -> UnaryFunction? {
      if isSixth(scale), clippedShift(gate) == x { return .hardSwish }
      if scale == 1, let (function, argument) = matching.unary(gate) {
        switch function {
        case .hardSigmoid(let alpha, 0.5) where argument == x && abs(alpha - 1 / 6) < 1e-6:
          return .hardSwish
        case .sigmoid where argument == x: return .silu
        case .tanh where matching.operand(argument, of: .softplus) == x: return .mish
        case .tanh:
          if let sum = matching.operand(argument, of: .logarithm),
            let exponential = matching.operand(sum, plus: 1),
            matching.operand(exponential, of: .exponential) == x
          {
            return .mish
          }
        default: break
        }
      }
      guard isNear(scale, 0.5), let inner = matching.operand(gate, plus: 1) else { return nil }
      if let argument = matching.operand(inner, of: .erf) {
        let factors = matching.factors(argument)
        return factors.values == [x] && isNear(factors.scale, 0.5.squareRoot()) ? .gelu : nil
      }
      if let argument = matching.operand(inner, of: .tanh), isGeluArgument(argument, of: x) {
        return .geluTanh
      }
      return nil
    }

    /// Whether `value` is √(2/π) · (x + 0.044715 x³).
    private func isGeluArgument(_ value: Graph.ValueID, of x: Graph.ValueID) -> Bool {
      let factors = matching.factors(value)
      guard isNear(factors.scale, (2 / Double.pi).squareRoot()) else { return false }
      if factors.values.count == 1 {
        return matching.pairs(factors.values[0], of: .add).contains { left, right in
          let cube = matching.factors(right)
          return left == x && cube.values == [x, x, x] && isNear(cube.scale, 0.044715)
        }
      }
      guard factors.values.count == 2, factors.values.contains(x),
        let sum = factors.values.first(where: { $0 != x }),
        let square = matching.operand(sum, plus: 1)
      else { return false }
      let product = matching.factors(square)
      return product.values == [x, x] && isNear(product.scale, 0.044715)
    }

    private func isNear(_ number: Double, _ expected: Double) -> Bool {
      abs(number / expected - 1) < 1e-4
    }

    private func isSixth(_ number: Double) -> Bool { abs(number * 6 - 1) < 6e-6 }

    /// x, where `value` is −x.
    private func negated(_ value: Graph.ValueID) -> Graph.ValueID? {
      if let x = matching.operand(value, of: .negate) { return x }
      let factors = matching.factors(value)
      return factors.values.count == 1 && factors.scale == -1 ? factors.values[0] : nil
    }

    /// x, where `value` is clip(x + 3, 0, 6).
    private func clippedShift(_ value: Graph.ValueID) -> Graph.ValueID? {
      guard let sum = matching.operand(value, of: .clip(minimum: 0, maximum: 6)),
        let x = matching.operand(sum, plus: 3)
      else { return nil }
      return x
    }
  }
}
