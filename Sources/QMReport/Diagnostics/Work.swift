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
      if program.way(of: program.nodes[node]).way == .integer { integerMultiplyAdds += count }
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
      guard let depth = Work.depth(of: node, in: program, shapes),
        let output = node.outputs.first.flatMap({ shapes[$0] }),
        let count = Shape.elementCount(of: output + [depth])
      else { continue }
      counts[index] = count
    }
    return counts
  }

  /// Products summed in one output element; nil for what is no product.
  private static func depth(
    of node: Program.Node, in program: Program, _ shapes: [Int: [Int]]
  ) -> Int? {
    func extents(_ position: Int) -> [Int]? {
      guard position < node.inputs.count, let value = node.inputs[position] else { return nil }
      return shapes[value] ?? program.values[value].type.shape.extents
    }
    switch node.operation {
    case .convolution(let convolution):
      // Weights are [O, …]: what an output channel reads is all but the first axis; of the taps of
      // a transposed convolution, those that meet no gap.
      let gaps = convolution.spacing.reduce(1) { $0 &* max($1, 1) }
      return extents(ProductOperand.weights).map {
        ($0.dropFirst().reduce(1, *) + gaps - 1) / max(gaps, 1)
      }
    case .matrixMultiply: return extents(ProductOperand.input)?.last
    case .recurrent(let recurrent):
      // Of each element of the states, and each of its gates.
      guard let inputs = extents(RecurrentOperand.weights)?.last,
        let hidden = extents(RecurrentOperand.recurrence)?.last
      else { return nil }
      return recurrent.cell.gateCount * (inputs + hidden)
    default: return nil
    }
  }
}
