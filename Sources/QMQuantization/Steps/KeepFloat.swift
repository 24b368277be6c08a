import QMGraph
import QMOperations

/// The values of spectral front ends: those between the first products that read an input of the
/// network and a power spectrum, its logarithm or another steep function of it.
///
/// Given: paths from inputs of the network through linear operations to a square, norm, square
/// root, logarithm or power, and further through more such functions and clipping. Clipping before
/// the first of these functions ends a path, because it is the activation of an ordinary layer.
/// Result: the values on those paths after the first product. Their small magnitudes matter, and
/// eight bits over the whole range round them to zero. They stay float32, except those that another
/// product reads: their sensitivity is measured like that of all others.
struct SpectralFrontEnd {
  private(set) var values: Set<Graph.ValueID> = []

  init(_ graph: Graph) {
    var producers: [Graph.ValueID: Int] = [:]
    for (index, node) in graph.nodes.enumerated() {
      for output in node.outputs { producers[output] = index }
    }
    /// What a path from the inputs to a value contains: only data movement, also a product, or also
    /// a steep function.
    enum Path: Int { case none, moved, computed, spectral }
    var paths: [Graph.ValueID: Path] = [:]
    for input in graph.inputs { paths[input] = .moved }
    func path(of value: Graph.ValueID) -> Path {
      graph[value].constant != nil ? .moved : paths[value] ?? .none
    }
    var steep: [Graph.ValueID] = []
    for node in graph.nodes {
      let source = node.operation.body.elementSource(operandCount: node.inputs.count)
      var inputs = node.inputs.compactMap { $0 }
      // Indices and conditions carry no signal.
      if case .moved(let positions) = source { inputs = positions.compactMap(node.input) }
      let activations = inputs.filter { graph[$0].constant == nil }
      let before = activations.map { path(of: $0) }
      guard !before.contains(.none), var reached = before.max(by: { $0.rawValue < $1.rawValue }),
        let step = SpectralFrontEnd.step(node)
      else { continue }
      switch step {
      case .linear: break
      case .product: if reached == .moved { reached = .computed }
      case .limit: if reached != .spectral { continue }
      case .steep:
        if reached != .moved {
          steep += activations
          reached = .spectral
        }
      }
      for output in node.outputs { paths[output] = reached }
    }
    var pending = steep
    while let value = pending.popLast() {
      guard path(of: value).rawValue >= Path.computed.rawValue, values.insert(value).inserted,
        let producer = producers[value]
      else { continue }
      pending += graph.nodes[producer].inputs.compactMap { $0 }
    }
  }

  private enum Step { case product, linear, limit, steep }

  /// The role of a node on such a path; nil if it ends the path.
  private static func step(_ node: Graph.Node) -> Step? {
    switch node.operation {
    case .convolution(let convolution):
      return product(convolution.epilogue)
    case .matrixMultiply(let multiply):
      return product(multiply.epilogue)
    case .unary(let unary):
      return step(unary.function)
    case .binary(let binary):
      guard let second = step(binary.secondFunction) else { return nil }
      switch binary.function {
      case .power: return .steep
      case .multiply: return node.input(0) == node.input(1) ? .steep : second
      case .add, .subtract, .divide: return second
      case .minimum, .maximum: return .limit
      case .remainder, .parametricRelu: return nil
      }
    case .reduction(let reduction):
      switch reduction.kind {
      case .mean, .sum, .sumOfMagnitudes: return .linear
      case .maximum, .minimum: return .limit
      case .norm, .sumOfSquares, .product, .logarithmOfSum, .logarithmOfSumOfExponentials:
        return .steep
      }
    case .cast:
      return .linear
    default:
      let source = node.operation.body.elementSource(operandCount: node.inputs.count)
      if case .moved = source { return .linear }
      return nil
    }
  }

  private static func product(_ epilogue: Epilogue) -> Step? {
    epilogue.functions.allSatisfy { [.linear, .steep].contains(step($0)) } ? .product : nil
  }

  private static func step(_ function: UnaryFunction?) -> Step? {
    switch function {
    case nil, .absolute, .negate, .affine: .linear
    case .clip: .limit
    case .squareRoot, .logarithm, .square, .reciprocal: .steep
    default: nil
    }
  }
}

/// The values between the last products and the outputs of the network. They stay float32, so that
/// an output is computed from an unrounded product.
///
/// Given: values from which all paths lead to outputs through element-wise functions, softmax, data
/// movement and similar operations only.
/// Result: those values.
struct OutputTail {
  private(set) var values: Set<Graph.ValueID> = []

  init(_ graph: Graph) {
    var readers: [Graph.ValueID: [Int]] = [:]
    for (index, node) in graph.nodes.enumerated() {
      for case .some(let input) in node.inputs { readers[input, default: []].append(index) }
    }
    let outputs = Set(graph.outputs.map(\.value))
    var isTail = [Bool](repeating: false, count: graph.nodes.count)
    for (index, node) in graph.nodes.enumerated().reversed() {
      isTail[index] =
        OutputTail.isLight(node)
        && node.outputs.allSatisfy { output in
          let after = readers[output] ?? []
          return (outputs.contains(output) || !after.isEmpty) && after.allSatisfy { isTail[$0] }
        }
      guard isTail[index] else { continue }
      values.formUnion(node.outputs)
    }
    for (value, after) in readers
    where graph[value].constant == nil && after.allSatisfy({ isTail[$0] }) {
      values.insert(value)
    }
  }

  /// Whether a node may be part of a tail; products and normalizations may not.
  private static func isLight(_ node: Graph.Node) -> Bool {
    switch node.operation {
    case .unary, .binary, .softmax, .cast, .argMinMax, .topK, .resize, .comparison: return true
    default:
      let source = node.operation.body.elementSource(operandCount: node.inputs.count)
      if case .moved = source { return true }
      return false
    }
  }
}
