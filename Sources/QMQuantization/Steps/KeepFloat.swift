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
/// product reads before there is a spectrum: their error is measured like that of all others.
struct SpectralFrontEnd {
  private(set) var values: Set<Graph.ValueID> = []
  /// The values between a spectrum and its logarithm. Products among them, such as a filter bank,
  /// read them in float32 too: the logarithm magnifies the error of small sums without a bound.
  private(set) var spectra: Set<Graph.ValueID> = []
  /// What the products read from which a spectrum with a logarithm is computed: the waveform. Codes of
  /// the range of each run add white noise to it, and the logarithm of a band that is much weaker than
  /// others is that of the noise. Only samples show whether there are such bands.
  private(set) var waveforms: Set<Graph.ValueID> = []

  init(_ graph: Graph) {
    var producers: [Graph.ValueID: Int] = [:]
    for (index, node) in graph.nodes.enumerated() {
      for output in node.outputs { producers[output] = index }
    }
    /// What a path from the inputs to a value contains: only data movement, also a product, also a
    /// square or norm, or also a function that compresses it.
    enum Path: Int { case none, moved, computed, spectrum, compressed }
    var paths: [Graph.ValueID: Path] = [:]
    for input in graph.inputs { paths[input] = .moved }
    func path(of value: Graph.ValueID) -> Path {
      graph[value].constant != nil ? .moved : paths[value] ?? .none
    }
    var steep: [Graph.ValueID] = []
    var logarithms: [Graph.ValueID] = []
    for node in graph.nodes {
      let source = node.operation.body.elementSource(operandCount: node.inputs.count)
      var inputs = node.inputs.compactMap { $0 }
      // Indices and conditions carry no signal.
      if case .moved(let positions) = source { inputs = positions.compactMap(node.input) }
      let activations = inputs.filter { graph[$0].constant == nil }
      let before = activations.map { path(of: $0) }
      guard !before.contains(.none), var reached = before.max(by: { $0.rawValue < $1.rawValue }),
        let steps = SpectralFrontEnd.steps(node)
      else { continue }
      var isPath = true
      for step in steps {
        switch step {
        case .linear: break
        case .product: if reached == .moved { reached = .computed }
        case .limit: if reached.rawValue < Path.spectrum.rawValue { isPath = false }
        case .square, .compression:
          if reached != .moved {
            steep += activations
            if step == .compression, reached == .spectrum { logarithms += activations }
            reached =
              step == .compression || reached == .compressed ? .compressed : .spectrum
          }
        }
      }
      guard isPath else { continue }
      for output in node.outputs { paths[output] = reached }
    }
    /// The values after the first product on the paths to others.
    func behind(_ ends: [Graph.ValueID]) -> Set<Graph.ValueID> {
      var (values, pending) = (Set<Graph.ValueID>(), ends)
      while let value = pending.popLast() {
        guard path(of: value).rawValue >= Path.computed.rawValue, values.insert(value).inserted,
          let producer = producers[value]
        else { continue }
        pending += graph.nodes[producer].inputs.compactMap { $0 }
      }
      return values
    }
    values = behind(steep)
    spectra = values.filter { path(of: $0) == .spectrum }
    let transforms = behind(logarithms)
    for node in graph.nodes where SpectralFrontEnd.step(node) == .product {
      guard node.outputs.contains(where: transforms.contains) else { continue }
      waveforms.formUnion(node.inputs.compactMap { $0 }.filter { graph[$0].constant == nil })
    }
  }

  private enum Step { case product, linear, limit, square, compression }

  /// What a node does on such a path, in order; nil if it ends the path.
  private static func steps(_ node: Graph.Node) -> [Step]? {
    guard let first = step(node) else { return nil }
    var functions: [UnaryFunction] = []
    switch node.operation {
    case .convolution(let convolution): functions = convolution.epilogue.functions
    case .matrixMultiply(let multiply): functions = multiply.epilogue.functions
    case .binary(let binary): functions = [binary.secondFunction].compactMap { $0 }
    default: break
    }
    let others = functions.compactMap(step)
    // The limits of a product are the activation of an ordinary layer.
    guard others.count == functions.count, first != .product || !others.contains(.limit) else {
      return nil
    }
    return [first] + others
  }

  private static func step(_ node: Graph.Node) -> Step? {
    switch node.operation {
    case .convolution, .matrixMultiply:
      return .product
    case .unary(let unary):
      return step(unary.function)
    case .binary(let binary):
      switch binary.function {
      case .power: return .compression
      case .multiply: return node.input(0) == node.input(1) ? .square : .linear
      case .add, .subtract, .divide: return .linear
      case .minimum, .maximum: return .limit
      case .remainder, .parametricRelu: return nil
      }
    case .reduction(let reduction):
      switch reduction.kind {
      case .mean, .sum, .sumOfMagnitudes: return .linear
      case .maximum, .minimum: return .limit
      case .norm, .sumOfSquares: return .square
      case .product, .logarithmOfSum, .logarithmOfSumOfExponentials: return .compression
      }
    case .cast:
      return .linear
    default:
      let source = node.operation.body.elementSource(operandCount: node.inputs.count)
      if case .moved = source { return .linear }
      return nil
    }
  }

  private static func step(_ function: UnaryFunction) -> Step? {
    switch function {
    case .absolute, .negate, .affine: .linear
    case .clip: .limit
    case .squareRoot, .square: .square
    case .logarithm, .reciprocal: .compression
    default: nil
    }
  }
}

/// The values that reach a steep function through linear steps only: a logarithm, power, square root
/// or division. It magnifies the error of small numbers, which no error of large ones predicts.
struct SteepFunctions {
  private(set) var inputs: Set<Graph.ValueID> = []

  init(_ graph: Graph) {
    for node in graph.nodes.reversed() {
      var operands: [Graph.ValueID?] = []
      if node.outputs.contains(where: inputs.contains), SteepFunctions.isLinear(node) {
        operands = node.inputs
      } else if case .binary(let binary) = node.operation, binary.function == .divide {
        operands = [node.input(1)]
      } else if SteepFunctions.isSteep(node) {
        operands = node.inputs
      }
      inputs.formUnion(operands.compactMap { $0 }.filter { graph[$0].constant == nil })
    }
  }

  /// Whether such a function follows a node, or is part of it.
  func follow(_ node: Graph.Node) -> Bool {
    SteepFunctions.isSteep(node) || node.outputs.contains(where: inputs.contains)
  }

  private static func isSteep(_ node: Graph.Node) -> Bool {
    switch node.operation {
    case .convolution(let convolution):
      return convolution.epilogue.functions.contains(where: isSteep)
    case .matrixMultiply(let multiply): return multiply.epilogue.functions.contains(where: isSteep)
    case .unary(let unary): return isSteep(unary.function)
    case .binary(let binary):
      return binary.function == .power || binary.secondFunction.map(isSteep) ?? false
    case .reduction(let reduction):
      return [.norm, .logarithmOfSum].contains(reduction.kind)
    default: return false
    }
  }

  private static func isSteep(_ function: UnaryFunction) -> Bool {
    switch function {
    case .logarithm, .squareRoot, .reciprocal: true
    default: false
    }
  }

  /// Whether a node passes on the relative error of small numbers.
  private static func isLinear(_ node: Graph.Node) -> Bool {
    switch node.operation {
    case .convolution(let convolution): return convolution.epilogue.functions.allSatisfy(isLinear)
    case .matrixMultiply(let multiply): return multiply.epilogue.functions.allSatisfy(isLinear)
    case .unary(let unary): return isLinear(unary.function)
    case .binary(let binary):
      return [.add, .subtract, .multiply, .minimum, .maximum].contains(binary.function)
        && binary.secondFunction.map(isLinear) ?? true
    case .reduction(let reduction):
      return [.sum, .mean, .sumOfMagnitudes, .sumOfSquares].contains(reduction.kind)
    default:
      let source = node.operation.body.elementSource(operandCount: node.inputs.count)
      if case .moved = source { return true }
      return false
    }
  }

  private static func isLinear(_ function: UnaryFunction) -> Bool {
    switch function {
    case .relu, .clip, .absolute, .negate, .square, .affine: true
    default: false
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
