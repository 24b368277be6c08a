import QMFormat
import QMOperations
import QMRuntime
import QMTensor

/// The number of multiply-adds of a program, for the input shapes of one run.
public struct Work: Sendable, Hashable {
  /// Multiply-adds of all nodes.
  public private(set) var multiplyAdds = 0
  /// Multiply-adds on integers.
  public private(set) var integerMultiplyAdds = 0

  /// Fraction of the multiply-adds on integers, 0 to 1; 1 if there are none.
  public var integerShare: Double {
    multiplyAdds == 0 ? 1 : Double(integerMultiplyAdds) / Double(multiplyAdds)
  }

  /// Sums up the multiply-adds of nodes.
  /// - Parameter counts: as ``multiplyAddsByNode(of:_:_:)`` gives them.
  public init(of program: Program, _ counts: [Int: Int]) {
    for (node, count) in counts {
      multiplyAdds += count
      if program.note(of: program.nodes[node]).mode == .integer { integerMultiplyAdds += count }
    }
  }

  /// The multiply-adds of one run, by node; nodes without multiply-adds are absent.
  /// - Parameter session: a session of the program's model.
  /// - Throws: the error of the run.
  public static func multiplyAddsByNode(
    of program: Program, _ session: Session, _ inputs: [String: Tensor]
  ) throws(QMError) -> [Int: Int] {
    var shapes: [Int: [Int]] = [:]
    _ = try session.run(
      inputs,
      observing: { (value, view) throws(QMError) in shapes[value] = view.shape })
    var counts: [Int: Int] = [:]
    for (index, node) in program.nodes.enumerated() {
      let inputs = node.inputs.map { value in
        value.flatMap { shapes[$0] ?? program.values[$0].type.shape.extents }
      }
      guard let output = node.outputs.first.flatMap({ shapes[$0] }),
        let count = node.operation.body.multiplyAdds(inputs: inputs, output: output)
      else { continue }
      counts[index] = count
    }
    return counts
  }
}
