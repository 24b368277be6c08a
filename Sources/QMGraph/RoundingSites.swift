import QMOperations
import QMTensor

/// Where a float graph rounds if it follows a plan.
struct RoundingSites {
  struct Operand: Hashable {
    /// Index of the node.
    let node: Int
    let position: Int
  }

  /// What a node reads instead of its float weights.
  enum Weights {
    case codes(QuantizedTensor)
    case numbers(Tensor)
    case half(Tensor)
  }

  /// Quantization parameters of the values that are rounded where they are computed.
  private(set) var parameters: [Graph.ValueID: QuantizationParameters] = [:]
  /// Indices of the nodes that read all operands unrounded.
  private(set) var floatNodes: Set<Int> = []
  private(set) var weights: [Operand: Weights] = [:]
  /// Operands that are quantized dynamically: the number of leading axes, each index of which has
  /// its own quantization parameters.
  private(set) var dynamicAxes: [Operand: Int] = [:]
  /// Biases that replace the nodes' own, already rounded; by index of the node.
  private(set) var biases: [Int: Tensor] = [:]
  /// Indices of the recurrent layers that round each row of their inputs and states.
  private(set) var rowwiseNodes: Set<Int> = []

  /// The sites in the graph that the plan was made for.
  /// - Throws: `usage` if the plan was made for another graph.
  init(of plan: Plan, in graph: Graph) throws(QMError) {
    try plan.requireMade(for: graph)
    floatNodes = plan.floatNodes
    for (value, activation) in plan.activations {
      if case .fixed(let fixed) = activation { parameters[value] = fixed }
    }
    for (index, node) in graph.nodes.enumerated() where !floatNodes.contains(index) {
      for (position, input) in node.inputs.enumerated() {
        guard let input else { continue }
        let operand = Operand(node: index, position: position)
        if let codes = plan.weights[input] {
          weights[operand] = .codes(codes)
        } else if plan.halfWeights.contains(input), let constant = graph[input].constant {
          weights[operand] = .half(try constant.converted(to: .float16))
        } else if let numbers = plan.constants[input] {
          weights[operand] = .numbers(numbers)
        }
      }
      if let input = node.input(0), let axes = RoundingSites.dynamicAxes(of: node, plan, graph) {
        let operand = Operand(node: index, position: 0)
        if plan.activations[input] == .dynamic, weights[operand] == nil {
          dynamicAxes[operand] = axes
        }
      }
      if RoundingSites.roundsRows(node, plan) { rowwiseNodes.insert(index) }
      biases[index] = try plan.bias(of: node, at: index, in: graph)
    }
  }

  /// Number of leading axes, each index of which gets its own quantization parameters; nil unless
  /// the node is a product with quantized weights.
  private static func dynamicAxes(of node: Graph.Node, _ plan: Plan, _ graph: Graph) -> Int? {
    guard let weights = node.input(ProductOperand.weights), plan.weights[weights] != nil,
      let input = node.input(ProductOperand.input)
    else { return nil }
    switch node.operation {
    case .convolution: return 1
    case .matrixMultiply: return graph[input].type.shape.rank - 1
    default: return nil
    }
  }

  private static func roundsRows(_ node: Graph.Node, _ plan: Plan) -> Bool {
    guard case .recurrent = node.operation, let input = node.input(RecurrentOperand.input),
      plan.activations[input] != nil
    else { return false }
    return [RecurrentOperand.weights, RecurrentOperand.recurrence].compactMap(node.input)
      .allSatisfy { plan.weights[$0] != nil }
  }
}

extension Plan {
  /// The bias of a product with quantized weights: the plan's or the node's own. If the input has
  /// fixed parameters, it is rounded to the accumulator's unit. nil if the node's own bias is kept.
  fileprivate func bias(
    of node: Graph.Node, at index: Int, in graph: Graph
  ) throws(QMError) -> Tensor? {
    switch node.operation {
    case .convolution, .matrixMultiply: break
    case .recurrent: return biases[index]
    default: return nil
    }
    guard let input = node.input(ProductOperand.input),
      let weights = node.input(ProductOperand.weights).flatMap({ weights[$0] }),
      let numbers = biases[index]
        ?? node.input(ProductOperand.bias).flatMap({ graph[$0].constant }),
      numbers.elementType == .float32
    else { return nil }
    guard case .fixed(let parameters) = activations[input],
      let integers = IntegerBias(
        numbers, inputScale: parameters.scale, weightScales: weights.scales)
    else { return biases[index] }
    return try Tensor(numbers.shape, integers.rounded)
  }
}

// MARK: The exact graph

extension RoundingSites {
  /// The sites in the graph before the fusions, for a plan that was made for the graph after them.
  /// - Throws: `usage` if the plan was made for another graph than `fused`.
  init(of plan: Plan, in fused: Rewritten, before exact: Graph) throws(QMError) {
    guard plan.halfWeights.isEmpty else {
      throw .unsupported("float16 weights before the fusions; expected codes or float32")
    }
    let sites = try RoundingSites(of: plan, in: fused.graph)
    for index in exact.values.indices {
      let value = Graph.ValueID(index)
      guard exact[value].constant == nil, let new = fused.correspondence.value(for: value)
      else { continue }
      parameters[value] = sites.parameters[new]
    }
    let uses = Uses(exact)
    let places = RoundingSites.places(of: exact, uses, in: fused)
    for (index, node) in exact.nodes.enumerated() {
      guard let place = places[index] else { continue }
      if sites.floatNodes.contains(place) {
        floatNodes.insert(index)
        continue
      }
      if sites.rowwiseNodes.contains(place) { rowwiseNodes.insert(index) }
      if let (_, folding) = fused.correspondence.product(node.outputs[0]),
        let product = ExactProduct(node, at: index, in: exact),
        let codes = sites.weights[Operand(node: place, position: ProductOperand.weights)],
        case .codes(let codes) = codes
      {
        let fusedNode = fused.graph.nodes[place]
        let numbers = try product.weights(codes, folding, of: fusedNode)
        weights[Operand(node: index, position: ProductOperand.weights)] = .numbers(numbers)
        let bias =
          sites.biases[place]
          ?? fusedNode.input(ProductOperand.bias).flatMap { fused.graph[$0].constant }
        biases[index] = try bias.map { (bias) throws(QMError) in
          try product.bias(bias, folding, weights: numbers)
        }
        if let axes = sites.dynamicAxes[Operand(node: place, position: 0)] {
          dynamicAxes[product.entry(fused.correspondence, uses)] = axes
        }
        continue
      }
      if fused.correspondence.product(node.outputs[0]) != nil, node.operation.isProduct {
        biases[index] = sites.biases[place]
      }
      for (position, input) in node.inputs.enumerated() {
        guard let input, exact[input].constant != nil,
          let new = fused.correspondence.value(for: input), let codes = plan.weights[new],
          fused.correspondence.permutation(for: input) == nil
        else { continue }
        weights[Operand(node: index, position: position)] = .codes(codes)
      }
    }
  }

  /// For each node of the exact graph, the node of the fused graph that computes it or into which
  /// it was fused.
  private static func places(of exact: Graph, _ uses: Uses, in fused: Rewritten) -> [Int: Int] {
    let fusedUses = Uses(fused.graph)
    var places: [Int: Int] = [:]
    for (index, node) in exact.nodes.enumerated().reversed() {
      let output = node.outputs[0]
      if let product = fused.correspondence.product(output) {
        places[index] = fusedUses.producer(of: product.output)
      } else if let reader = uses.onlyConsumer(of: output) {
        places[index] = places[reader]
      }
    }
    return places
  }
}

extension Operation {
  fileprivate var isProduct: Bool {
    switch self {
    case .convolution, .matrixMultiply: true
    default: false
    }
  }
}

/// A product of the exact graph with constant weights, whose first axis is the output channels.
private struct ExactProduct {
  let node: Graph.Node
  let index: Int
  let graph: Graph
  let weightShape: [Int]

  init?(_ node: Graph.Node, at index: Int, in graph: Graph) {
    guard let weights = node.input(ProductOperand.weights),
      let constant = graph[weights].constant, constant.elementType == .float32
    else { return nil }
    switch node.operation {
    case .convolution: break
    case .matrixMultiply(let product):
      guard product.rightLayout == .channelsFirst, constant.shape.count == 2 else { return nil }
    default: return nil
    }
    self.node = node
    self.index = index
    self.graph = graph
    weightShape = constant.shape
  }

  /// The dequantized weights of the plan, divided by the folded scales, in this product's order of
  /// axes.
  func weights(
    _ fused: QuantizedTensor, _ folding: Correspondence.Folding, of fusedNode: Graph.Node
  ) throws(QMError) -> Tensor {
    var codes = fused
    if case .convolution(let own) = node.operation,
      case .convolution(let other) = fusedNode.operation, own.order != other.order
    {
      let rank = weightShape.count
      codes = try fused.transposed(AxisOrder.channelsLast(rank: rank).places)
    }
    let channels = max(weightShape.first ?? 1, 1)
    let folded = (0..<channels).map { channel in
      folding.inputScale * folding.outputScale[folding.outputScale.count == 1 ? 0 : channel]
    }
    let size = codes.codes.elementCount / channels
    if case .perGroup = codes.granularity {
      let stored = try Operation.dequantize(Dequantize())
        .evaluate([codes.codes, codes.scales], quantizations: [codes.quantization])[0]
        .elements(as: Float.self)
      return try Tensor(
        weightShape,
        stored.enumerated().map { place, number in
          folded[place / size] == 0 ? 0 : Float(Double(number) / folded[place / size])
        })
    }
    let scales = codes.scales.elements(as: Float.self).map(Double.init)
    // The codes of a channel that is scaled by 0 are 0.
    let factors = (0..<channels).map { channel in
      folded[channel] == 0 ? 0 : scales[scales.count == 1 ? 0 : channel] / folded[channel]
    }
    return try codes.codes.withElements(as: Int8.self) { (elements) throws(QMError) in
      try Tensor(weightShape, as: Float.self) { numbers in
        for place in numbers.indices {
          numbers[place] = Float(Double(elements[place]) * factors[place / size])
        }
      }
    }
  }

  /// The bias that gives the fused product's bias together with the folded shifts.
  func bias(
    _ fused: Tensor, _ folding: Correspondence.Folding, weights: Tensor
  ) throws(QMError) -> Tensor {
    let channels = max(weightShape.first ?? 1, 1)
    let size = weights.elementCount / channels
    let (numbers, elements) = (fused.elements(as: Float.self), weights.elements(as: Float.self))
    let own = node.input(ProductOperand.bias).flatMap { graph[$0].constant }?
      .elements(as: Float.self)
    return try Tensor(
      [channels],
      (0..<channels).map { channel in
        let scale = folding.outputScale[folding.outputScale.count == 1 ? 0 : channel]
        let shift = folding.outputShift[folding.outputShift.count == 1 ? 0 : channel]
        guard scale != 0 else { return own?[channel] ?? 0 }
        let sum = elements[(channel * size)..<((channel + 1) * size)].reduce(0.0) {
          $0 + Double($1)
        }
        return Float((Double(numbers[channel]) - shift) / scale - folding.inputShift * sum)
      })
  }

  /// The operand that reads the fused product's input: the product's own, or that of the first of
  /// the nodes in front of it that were fused into it.
  func entry(_ correspondence: Correspondence, _ uses: Uses) -> RoundingSites.Operand {
    var operand = RoundingSites.Operand(node: index, position: ProductOperand.input)
    while let value = graph.nodes[operand.node].input(operand.position),
      correspondence.value(for: value) == nil, let producer = uses.producer(of: value),
      let position = graph.nodes[producer].inputs.firstIndex(where: { input in
        input.map { graph[$0].constant == nil } ?? false
      })
    {
      operand = RoundingSites.Operand(node: producer, position: position)
    }
    return operand
  }
}
