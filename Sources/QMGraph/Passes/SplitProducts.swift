import QMOperations
import QMTensor

/// Given: a product with constant weights that sums over more than `size` channels of its input.
/// Result: products over `size` channels each, every one adding what the ones before it have
/// summed, so that each has scales of its own. The first takes bias and residual, the last the
/// functions.
///
/// Not among the default passes: fewer codes share a scale, and a run takes longer. Outputs are
/// equal up to the order of sums.
public struct SplitProducts {
  public let graph: Graph
  /// What the products but the last give. Rounding it would undo what the scales gain.
  public let partialSums: [Graph.ValueID]

  /// - Parameters:
  ///   - size: channels of the input that share scales, at least 1.
  ///   - kept: indices of nodes to leave whole.
  public init(_ source: Graph, size: Int, keeping kept: Set<Int>) throws(QMError) {
    var rewriter = try Rewriter(source)
    var partialSums: [Graph.ValueID] = []
    for (index, node) in source.nodes.enumerated() {
      guard !kept.contains(index), let product = Product(node, in: source, size: size) else {
        try rewriter.copy(node)
        continue
      }
      partialSums += try product.split(size: size, with: &rewriter)
    }
    graph = try rewriter.finish()
    self.partialSums = partialSums
  }

  /// A node that can be split: the last axis of its input and of its weights is what it sums over.
  private struct Product {
    let node: Graph.Node
    let weights: Tensor
    let rank: Int
    let epilogue: Epilogue

    init?(_ node: Graph.Node, in graph: Graph, size: Int) {
      switch node.operation {
      case .matrixMultiply(let product):
        guard product.rightLayout == .channelsFirst else { return nil }
        epilogue = product.epilogue
      case .convolution(let convolution):
        guard convolution.order == .channelsLast, convolution.groups == 1 else { return nil }
        epilogue = convolution.epilogue
      default: return nil
      }
      guard let input = node.input(ProductOperand.input),
        let right = node.input(ProductOperand.weights), let weights = graph[right].constant,
        weights.elementType == .float32, graph[right].codes == nil,
        !node.operation.isMatrixProduct || weights.shape.count == 2,
        let channels = weights.shape.last, channels > size
      else { return nil }
      self.node = node
      self.weights = weights
      rank = graph[input].type.shape.rank
    }

    func split(size: Int, with rewriter: inout Rewriter) throws(QMError) -> [Graph.ValueID] {
      let channels = weights.shape.last ?? 0
      let sizes = stride(from: 0, to: channels, by: size).map { min(size, channels - $0) }
      let input = rewriter.value(node.inputs[ProductOperand.input]!)
      let parts = try rewriter.append(
        .split(Split(axis: rank - 1, sizes: .explicit(sizes))), name: "\(node.name).parts", [input])
      var sums: [Graph.ValueID] = []
      for (index, part) in parts.enumerated() {
        let isLast = index == parts.count - 1
        var shape = weights.shape
        shape[shape.count - 1] = sizes[index]
        let first = index * size
        let own = try weights.withElements(as: Float.self) { (elements) throws(QMError) in
          try Tensor(shape, as: Float.self) { own in
            for position in own.indices {
              let (row, column) = position.quotientAndRemainder(dividingBy: sizes[index])
              own[position] = elements[row * channels + first + column]
            }
          }
        }
        let name = "\(node.name).\(index)"
        let right = rewriter.addConstant(name: "\(name).weights", own)
        var inputs: [Graph.ValueID?] = [part, right]
        if let sum = sums.last {
          inputs += [Graph.ValueID?](repeating: nil, count: ProductOperand.residual - 2) + [sum]
        } else {
          inputs += node.inputs.dropFirst(2).map { input in input.map { rewriter.value($0) } }
        }
        let epilogue = isLast ? epilogue : Epilogue()
        if isLast {
          try rewriter.append(
            node.operation.with(epilogue), name: name, inputs, replacing: node.outputs)
        } else {
          sums += try rewriter.append(
            node.operation.with(epilogue), name: name, inputs, outputNames: ["\(name).sum"])
        }
      }
      return sums
    }
  }
}

extension Operation {
  fileprivate var isMatrixProduct: Bool {
    if case .matrixMultiply = self { true } else { false }
  }

  fileprivate func with(_ epilogue: Epilogue) -> Operation {
    switch self {
    case .matrixMultiply(var product):
      product.epilogue = epilogue
      return .matrixMultiply(product)
    case .convolution(var convolution):
      convolution.epilogue = epilogue
      return .convolution(convolution)
    default: return self
    }
  }
}
