import QMFormat
import QMOperations
import QMRuntime
import QMTensor

/// Multiply-adds of a program's products, for the shapes of one run.
public struct Work: Sendable, Hashable {
  /// Of all products.
  public private(set) var multiplyAdds = 0
  /// Those on integer operands.
  public private(set) var integerMultiplyAdds = 0

  /// Share of the multiply-adds on integers, 0 to 1; 1 where there is no product.
  public var integerShare: Double {
    multiplyAdds == 0 ? 1 : Double(integerMultiplyAdds) / Double(multiplyAdds)
  }

  /// Counts one run of a program.
  /// - Parameter session: of the program's model.
  /// - Throws: what the run throws.
  public init(
    of program: Program, _ session: Session, _ inputs: [String: Tensor]
  ) throws(QMError) {
    for (node, count) in try Work.multiplyAddsByNode(of: program, session, inputs) {
      multiplyAdds += count
      if program.note(of: program.nodes[node]).mode == .integer { integerMultiplyAdds += count }
    }
  }

  /// Multiply-adds of one run, of each node that is a product.
  static func multiplyAddsByNode(
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
