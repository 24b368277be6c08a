import QMFormat
import QMGraph
import QMTensor

extension ReferenceRuns {
  /// A plan with those corrected biases that bring the outputs closer to the float network, on samples
  /// that the corrections were not fitted to.
  ///
  /// All are tried together; where that gains nothing, each half of them, and so on, because a few
  /// corrections can spoil what the others gain.
  /// - Parameters:
  ///   - biases: corrected biases by index of the node.
  ///   - plan: has other biases.
  ///   - halvings: number of times that a set of corrections may be halved.
  ///   - program: makes the program of a plan that is measured.
  func keepingGains(
    of biases: [Int: Tensor], in plan: Plan, halvings mostHalvings: Int,
    program: (Plan) throws(QMError) -> Program
  ) throws(QMError) -> Plan {
    guard !biases.isEmpty else { return plan }
    let uncorrected = try errors(of: program(plan), at: roles.choosing)
    func error(of plan: Plan) throws(QMError) -> Double {
      try errors(of: program(plan), at: roles.choosing, like: uncorrected).meanLogarithm
    }
    var best = (plan: plan, error: uncorrected.meanLogarithm)
    var pending = [(nodes: biases.keys.sorted()[...], halvings: 0)]
    while let (nodes, halvings) = pending.popLast() {
      var plan = best.plan
      for node in nodes { plan.biases[node] = biases[node] }
      let error = try error(of: plan)
      if error < best.error {
        best = (plan, error)
      } else if nodes.count > 1, halvings < mostHalvings {
        let middle = nodes.startIndex + nodes.count / 2
        pending += [(nodes[middle...], halvings + 1), (nodes[..<middle], halvings + 1)]
      }
    }
    return best.plan
  }
}
