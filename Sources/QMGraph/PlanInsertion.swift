import QMOperations
import QMTensor

extension Graph {
  /// This float graph with the plan in it as Quantize → Dequantize pairs: the simulation of what
  /// ``Lowering`` will make. Run in float it says what quantization costs.
  ///
  /// - A weight becomes its codes and a Dequantize.
  /// - A bias is rounded to the units of the accumulator that it will be added to.
  /// - A fixed activation is rounded to its grid where it is made; every node reads it rounded,
  ///   and only outputs of the graph leave unrounded.
  /// - A recurrent layer reads its input unrounded and rounds it, and its states, in every step.
  /// - A node that is to run in float32 reads everything unrounded.
  /// - A dynamic activation is rounded in front of the products that read it: per row of a matrix
  ///   product, per sample of a convolution.
  ///
  /// - Throws: `usage` if the plan was made for another graph.
  public func inserting(_ plan: Plan) throws(QMError) -> Graph {
    try inserting(RoundingSites(of: plan, in: self))
  }

  /// This graph after the exact passes, with the rounding in it of a plan for the graph after the
  /// fusions: the same simulation, in which the network's own weights, normalizations and scales
  /// still stand.
  ///
  /// The weights of a product are such that what follows scales them to the very numbers of the
  /// plan, and its bias is such that all shifts together are the plan's; both up to the rounding of
  /// float arithmetic.
  /// - Parameter fused: this graph after the fusions.
  /// - Throws: `usage` if the plan was made for another graph than `fused`.
  public func inserting(_ plan: Plan, of fused: Rewritten) throws(QMError) -> Graph {
    try inserting(RoundingSites(of: plan, in: fused, before: self))
  }

  private func inserting(_ sites: RoundingSites) throws(QMError) -> Graph {
    var insertion = PlanInsertion(rewriter: try Rewriter(self), sites: sites)
    for input in inputs { try insertion.round(input) }
    for (index, node) in nodes.enumerated() { try insertion.rewrite(node, at: index) }
    return try insertion.rewriter.finish()
  }
}

private struct PlanInsertion {
  var rewriter: Rewriter
  let sites: RoundingSites
  /// What the readers of an old value read instead of it.
  private var rounded: [Graph.ValueID: Graph.ValueID] = [:]
  private var roundedDynamically: [DynamicKey: Graph.ValueID] = [:]

  private struct DynamicKey: Hashable {
    let value: Graph.ValueID
    let axes: Int
  }

  init(rewriter: Rewriter, sites: RoundingSites) {
    self.rewriter = rewriter
    self.sites = sites
  }

  /// Adds the Quantize → Dequantize pair of a value that has fixed parameters.
  mutating func round(_ value: Graph.ValueID) throws(QMError) {
    guard let parameters = sites.parameters[value] else { return }
    let name = rewriter.source[value].name
    let codes = try rewriter.append(
      .quantize(
        Quantize(
          parameters.elementType, scale: parameters.scale, zeroPoint: parameters.zeroPoint)),
      name: name + ".codes", [rewriter.value(value)])
    rounded[value] = try rewriter.append(
      .dequantize(Dequantize()), name: name + ".rounded", [codes[0]])[0]
  }

  mutating func rewrite(_ node: Graph.Node, at index: Int) throws(QMError) {
    if sites.floatNodes.contains(index) {
      try rewriter.copy(node)
    } else {
      var operation = node.operation
      var inputs: [Graph.ValueID?] = []
      for (position, input) in node.inputs.enumerated() {
        inputs.append(
          try input.map { (input) throws(QMError) in
            try read(input, by: node, at: .init(node: index, position: position))
          })
      }
      if case .recurrent(var recurrent) = operation, sites.rowwiseNodes.contains(index) {
        recurrent.inputs = .roundedPerRow
        operation = .recurrent(recurrent)
      }
      if let bias = sites.biases[index] {
        while inputs.count <= ProductOperand.bias { inputs.append(nil) }
        let own = node.input(ProductOperand.bias).map { rewriter.source[$0].name }
        inputs[ProductOperand.bias] = rewriter.addConstant(
          name: own ?? "\(node.name).bias", bias)
      }
      try rewriter.append(operation, name: node.name, inputs, replacing: node.outputs)
    }
    for output in node.outputs { try round(output) }
  }

  /// What a node reads instead of an old value.
  private mutating func read(
    _ value: Graph.ValueID, by node: Graph.Node, at operand: RoundingSites.Operand
  ) throws(QMError) -> Graph.ValueID {
    if let weights = sites.weights[operand] { return try dequantized(weights, value) }
    // A recurrent layer rounds its input and states itself, each row on a grid of its own; it reads
    // them unrounded, so that nothing is rounded twice.
    if case .recurrent = node.operation { return rewriter.value(value) }
    if let axes = sites.dynamicAxes[operand] { return try roundedDynamically(value, axes: axes) }
    return rounded[value] ?? rewriter.value(value)
  }

  private mutating func dequantized(
    _ weights: RoundingSites.Weights, _ value: Graph.ValueID
  ) throws(QMError) -> Graph.ValueID {
    let name = rewriter.source[value].name
    switch weights {
    case .numbers(let numbers):
      return rewriter.addConstant(name: name + ".dequantized", numbers)
    case .codes(let weights):
      if let known = rounded[value] { return known }
      let codes = rewriter.addConstant(name: name, weights.codes, weights.quantization)
      let scales = rewriter.addConstant(name: name + ".scales", weights.scales)
      let new = try rewriter.append(
        .dequantize(Dequantize()), name: name + ".dequantized", [codes, scales])[0]
      rounded[value] = new
      return new
    }
  }

  private mutating func roundedDynamically(
    _ value: Graph.ValueID, axes: Int
  ) throws(QMError) -> Graph.ValueID {
    let key = DynamicKey(value: value, axes: axes)
    if let known = roundedDynamically[key] { return known }
    let name = rewriter.source[value].name
    let codes = try rewriter.append(
      .dynamicQuantize(DynamicQuantize(axes: axes)), name: name + ".codes",
      [rewriter.value(value)],
      outputNames: [name + ".codes", name + ".parameters"])
    let new = try rewriter.append(
      .dequantize(Dequantize()), name: name + ".rounded", [codes[0], codes[1]])[0]
    roundedDynamically[key] = new
    return new
  }
}
