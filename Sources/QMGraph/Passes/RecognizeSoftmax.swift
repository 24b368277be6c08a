import QMOperations
import QMTensor

/// Given: a softmax that an exporter spelled out along one axis:
///
///     e / Σe, also e · (1 / Σe), with e = exp(x) or exp(x − max(x))
///     d − log Σ exp d, with d = x or x − max(x)
///
/// Result: `Softmax` or `LogSoftmax`: no intermediate number overflows, and a quantized result is
/// rounded only once. Outputs are equal up to float rounding if the given form does not overflow.
public struct RecognizeSoftmax: Pass {
  public static let name = "recognize-softmax"

  /// The pass; it has no options.
  public init() {}

  public func rewrite(_ graph: Graph) throws(QMError) -> Rewritten {
    let matcher = Matcher(matching: Matching(graph))
    var rewriter = try Rewriter(graph)
    for node in graph.nodes {
      if let (softmax, source) = matcher.softmax(node.outputs[0]) {
        try rewriter.append(
          .softmax(softmax), name: node.name, [rewriter.value(source)], replacing: node.outputs)
      } else {
        try rewriter.copy(node)
      }
    }
    return try rewriter.finished().then(RemoveDeadNodes())
  }

  private struct Matcher {
    let matching: Matching

    func softmax(_ value: Graph.ValueID) -> (Softmax, Graph.ValueID)? {
      if let (e, sum) = matching.operands(value, of: .divide), let found = share(e, of: sum) {
        return found
      }
      for (e, inverse) in matching.pairs(value, of: .multiply) {
        if let sum = matching.reciprocal(matching.stripped(inverse)),
          let found = share(e, of: sum, at: inverse)
        {
          return found
        }
      }
      guard let (d, logarithm) = matching.operands(value, of: .subtract) else { return nil }
      return logarithmic(d, logarithm)
    }

    /// The softmax e / Σe. The shape of `place` says along which axes the sum broadcasts.
    private func share(
      _ e: Graph.ValueID, of sum: Graph.ValueID, at place: Graph.ValueID? = nil
    ) -> (Softmax, Graph.ValueID)? {
      guard let d = matching.operand(e, of: .exponential),
        let statistic = matching.statistic(sum), statistic.kind == .sum,
        statistic.source == e, statistic.axes.count == 1,
        matching.isBroadcast(place ?? sum, statistic)
      else { return nil }
      let axis = statistic.axes[0]
      return (Softmax(.softmax, axis: axis), withoutMaximum(d, axis: axis))
    }

    private func logarithmic(
      _ d: Graph.ValueID, _ logarithm: Graph.ValueID
    ) -> (Softmax, Graph.ValueID)? {
      let stripped = matching.stripped(logarithm)
      if let sum = matching.operand(stripped, of: .logarithm),
        let statistic = matching.statistic(sum), statistic.kind == .sum,
        statistic.axes.count == 1, matching.operand(statistic.source, of: .exponential) == d,
        matching.isBroadcast(logarithm, statistic)
      {
        let axis = statistic.axes[0]
        return (Softmax(.logSoftmax, axis: axis), withoutMaximum(d, axis: axis))
      }
      if let statistic = matching.statistic(logarithm),
        statistic.kind == .logarithmOfSumOfExponentials, statistic.source == d,
        statistic.axes.count == 1, matching.isBroadcast(logarithm, statistic)
      {
        let axis = statistic.axes[0]
        return (Softmax(.logSoftmax, axis: axis), withoutMaximum(d, axis: axis))
      }
      return nil
    }

    /// x, where `value` is x − max(x) along the axis; both have the same softmax.
    private func withoutMaximum(_ value: Graph.ValueID, axis: Int) -> Graph.ValueID {
      guard let (x, maximum) = matching.operands(value, of: .subtract) else { return value }
      var inner = matching.stripped(maximum)
      for (bound, other) in matching.pairs(inner, of: .maximum)
      where matching.scalar(bound) == -.infinity {
        inner = matching.stripped(other)
      }
      guard let statistic = matching.statistic(inner), statistic.kind == .maximum,
        statistic.source == x, statistic.axes == [axis], matching.isBroadcast(maximum, statistic)
      else { return value }
      return x
    }
  }
}
