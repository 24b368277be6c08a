import QMOperations
import QMTensor

/// Given: a convolution or matrix product, followed by an addition of a value of the same shape
/// (optional) and by up to two unary functions, each the only reader of the one before.
/// Given: a binary element-wise operation whose only reader is a unary function.
/// Result: one node at the place of the last; the addition and the functions are part of it.
///
/// A plan then rounds nothing between them. Float outputs are equal bit for bit.
public struct FuseEpilogues: Pass {
  public static let name = "fuse-epilogues"

  /// The pass; it has no options.
  public init() {}

  public func rewrite(_ graph: Graph) throws(QMError) -> Rewritten {
    let uses = Uses(graph)
    var rewriter = try Rewriter(graph)
    /// The fused node to emit, by index of the last node that it replaces.
    var fusions: [Int: Fusion] = [:]
    var absorbed: Set<Int> = []
    for (index, node) in graph.nodes.enumerated() {
      if let fusion = fusions[index] {
        let inputs = fusion.inputs.map { input in input.map { rewriter.value($0) } }
        try rewriter.append(
          fusion.operation, name: fusion.node.name, inputs, replacing: node.outputs)
        rewriter.record(.init(), into: fusion.node, output: node.outputs[0])
        continue
      }
      if absorbed.contains(index) { continue }
      guard var fusion = Fusion(node) else {
        try rewriter.copy(node)
        continue
      }
      var last = index
      while let reader = uses.onlyConsumer(of: graph.nodes[last].outputs[0]),
        !absorbed.contains(reader), fusions[reader] == nil,
        fusion.absorb(graph.nodes[reader], reading: graph.nodes[last].outputs[0], in: graph)
      {
        absorbed.insert(last)
        last = reader
      }
      if last == index {
        try rewriter.copy(node)
      } else {
        fusions[last] = fusion
      }
    }
    return try rewriter.finished()
  }

  /// A node with what was fused into it so far.
  private struct Fusion {
    let node: Graph.Node
    var operation: Operation
    var inputs: [Graph.ValueID?]

    init?(_ node: Graph.Node) {
      switch node.operation {
      case .convolution, .matrixMultiply, .binary: break
      default: return nil
      }
      self.node = node
      operation = node.operation
      inputs = node.inputs
    }

    mutating func absorb(
      _ node: Graph.Node, reading value: Graph.ValueID, in graph: Graph
    ) -> Bool {
      guard graph[value].type.elementType == .float32 else { return false }
      switch node.operation {
      case .unary(let unary) where unary.output == .float32:
        return absorb(unary.function)
      case .binary(let binary)
      where binary.function == .add && binary.secondFunction == nil && binary.output == .float32:
        return absorbResidual(node, value, in: graph)
      default:
        return false
      }
    }

    private mutating func absorb(_ function: UnaryFunction) -> Bool {
      switch operation {
      case .convolution(var convolution):
        guard convolution.epilogue.append(function) else { return false }
        operation = .convolution(convolution)
      case .matrixMultiply(var product):
        guard product.epilogue.append(function) else { return false }
        operation = .matrixMultiply(product)
      case .binary(var binary):
        guard binary.secondFunction == nil else { return false }
        binary.secondFunction = function
        operation = .binary(binary)
      default:
        return false
      }
      return true
    }

    private mutating func absorbResidual(
      _ node: Graph.Node, _ value: Graph.ValueID, in graph: Graph
    ) -> Bool {
      switch operation {
      case .convolution(let convolution) where convolution.epilogue.functions.isEmpty: break
      case .matrixMultiply(let product) where product.epilogue.functions.isEmpty: break
      default: return false
      }
      let other = node.input(0) == value ? node.input(1) : node.input(0)
      guard let other, other != value, graph[other].constant == nil,
        graph[other].type.shape.isCertainlyEqual(to: graph[value].type.shape),
        inputs.count <= ProductOperand.residual || inputs[ProductOperand.residual] == nil
      else { return false }
      while inputs.count <= ProductOperand.residual { inputs.append(nil) }
      inputs[ProductOperand.residual] = other
      return true
    }
  }
}

extension Epilogue {
  /// - Returns: false if both places for functions are taken.
  fileprivate mutating func append(_ next: UnaryFunction) -> Bool {
    if function == nil {
      function = next
    } else if secondFunction == nil {
      secondFunction = next
    } else {
      return false
    }
    return true
  }
}
