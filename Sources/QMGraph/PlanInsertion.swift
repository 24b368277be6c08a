import QMOperations
import QMTensor

extension Graph {
  /// This float graph with the plan in it as Quantize → Dequantize pairs: the simulation of the
  /// integer graph that ``lowered()`` makes. Run in float32, it shows the error of the
  /// quantization.
  ///
  /// - A weight becomes its codes and a Dequantize.
  /// - A bias is rounded to the units of the accumulator that it will be added to.
  /// - A fixed activation is rounded where it is computed. Every node reads it rounded; an output
  ///   of the graph returns it unrounded.
  /// - A recurrent layer reads its input unrounded; it rounds its input and its states in each
  ///   step.
  /// - A node that runs in float32 reads all its operands unrounded.
  /// - A dynamic activation is rounded in front of the products that read it: per row of a matrix
  ///   product, per sample of a convolution.
  ///
  /// - Throws: `usage` if the plan was made for another graph.
  public func inserting(_ plan: Plan) throws(QMError) -> Graph {
    try inserting(RoundingSites(of: plan, in: self))
  }

  /// This graph, which is the graph after the exact passes, with the rounding of a plan that was
  /// made for the graph after the fusions. It is the same simulation as ``inserting(_:)``, but the
  /// network's own normalizations and scales are still nodes.
  ///
  /// The weights of a product are divided by the scales that follow it, so that both together give
  /// the dequantized weights of the plan; in the same way its bias and the shifts that follow give
  /// the bias of the plan. Both hold up to float rounding.
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
  /// Old value to the rounded value that its readers read instead.
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

  /// Adds the Quantize → Dequantize pair of a value with fixed quantization parameters.
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
        var position = ProductOperand.bias
        if case .recurrent = operation { position = RecurrentOperand.bias }
        while inputs.count <= position { inputs.append(nil) }
        let own = node.input(position).map { rewriter.source[$0].name }
        inputs[position] = rewriter.addConstant(
          name: own ?? "\(node.name).bias", bias)
      }
      try rewriter.append(operation, name: node.name, inputs, replacing: node.outputs)
    }
    for output in node.outputs { try round(output) }
  }

  /// The value that a node reads instead of an old one.
  private mutating func read(
    _ value: Graph.ValueID, by node: Graph.Node, at operand: RoundingSites.Operand
  ) throws(QMError) -> Graph.ValueID {
    if let weights = sites.weights[operand] { return try dequantized(weights, value) }
    // A recurrent layer rounds its input and states itself, each row with its own quantization
    // parameters. It reads them unrounded, so that nothing is rounded twice.
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
    case .half(let numbers):
      if let known = rounded[value] { return known }
      let new = try rewriter.append(
        .cast(Cast(to: .float32)), name: name + ".float32",
        [rewriter.addConstant(name: name, numbers)])[0]
      rounded[value] = new
      return new
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
