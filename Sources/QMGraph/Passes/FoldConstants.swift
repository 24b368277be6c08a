import QMOperations
import QMRuntime
import QMTensor

/// Given: a node whose inputs are all constants, or the extents of a value whose extents are known.
/// Result: its outputs as constants, computed by the interpreter.
///
/// A node that would grow its constants beyond ``byteLimit`` is left in place: a tiled or expanded
/// constant costs nothing in the file as a node.
public struct FoldConstants: Pass {
  public static let name = "fold-constants"
  /// Bytes that the outputs of one node may take beyond those of its inputs.
  public static let byteLimit = 1 << 24
  /// The same of all nodes together: a file of a few bytes a node may have very many.
  static let totalByteLimit = 1 << 28

  public init() {}

  public func run(on graph: Graph) throws(QMError) -> Graph {
    var rewriter = try Rewriter(graph)
    var growthLeft = FoldConstants.totalByteLimit
    for node in graph.nodes {
      let inputs = node.inputs.map { input in input.map { rewriter.value($0) } }
      let context = QMError.Context.node(name: node.name, operation: node.operation.name)
      let results = try within(context) { () throws(QMError) in
        try fold(node.operation, inputs, in: rewriter.graph, &growthLeft)
      }
      guard let results else {
        try rewriter.copy(node)
        continue
      }
      for (old, tensor) in zip(node.outputs, results) {
        rewriter.replace(old, by: rewriter.addConstant(name: graph[old].name, tensor))
      }
    }
    return try rewriter.finish()
  }

  private func fold(
    _ operation: Operation, _ inputs: [Graph.ValueID?], in graph: Graph, _ growthLeft: inout Int
  ) throws(QMError) -> [Tensor]? {
    if case .shapeOf(let shapeOf) = operation, let input = inputs[0],
      let extents = try shapeOf.value(for: graph[input].type.shape)
    {
      return [extents]
    }
    var constants: [Tensor?] = []
    for input in inputs {
      guard let input else {
        constants.append(nil)
        continue
      }
      // Codes stay codes: a dequantized weight would lose its width.
      guard let constant = graph[input].constant, graph[input].type.quantization == .none else {
        return nil
      }
      constants.append(constant)
    }
    let operands = constants.map { $0.map { Operand($0.type, constant: $0) } }
    let types = try operation.body.outputTypes(for: operands)
    var size = 0
    for type in types {
      guard type.quantization == .none, let extents = type.shape.extents else { return nil }
      let (sum, overflow) = size.addingReportingOverflow(
        try Tensor.byteCount(of: type.elementType, extents))
      guard !overflow else { return nil }
      size = sum
    }
    let inputSize = constants.reduce(0) { $0 + ($1?.byteCount ?? 0) }
    let growth = max(0, size - inputSize)
    guard growth <= FoldConstants.byteLimit, growth <= growthLeft else { return nil }
    growthLeft -= growth
    return try operation.evaluate(constants)
  }
}
