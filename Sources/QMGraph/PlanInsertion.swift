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
    try plan.requireMade(for: self)
    var insertion = PlanInsertion(rewriter: try Rewriter(self), plan: plan)
    for input in inputs { try insertion.round(input) }
    for (index, node) in nodes.enumerated() { try insertion.rewrite(node, at: index) }
    return try insertion.rewriter.finish()
  }
}

private struct PlanInsertion {
  var rewriter: Rewriter
  let plan: Plan
  /// What the readers of an old value read instead of it.
  private var rounded: [Graph.ValueID: Graph.ValueID] = [:]
  private var roundedDynamically: [DynamicKey: Graph.ValueID] = [:]

  private struct DynamicKey: Hashable {
    let value: Graph.ValueID
    let axes: Int
  }

  init(rewriter: Rewriter, plan: Plan) {
    self.rewriter = rewriter
    self.plan = plan
  }

  /// Adds the Quantize → Dequantize pair of a value that has a fixed grid.
  mutating func round(_ value: Graph.ValueID) throws(QMError) {
    guard case .fixed(let grid) = plan.activations[value] else { return }
    let name = rewriter.source[value].name
    let codes = try rewriter.append(
      .quantize(Quantize(grid.elementType, scale: grid.scale, zeroPoint: grid.zeroPoint)),
      name: name + ".codes", [rewriter.value(value)])
    rounded[value] = try rewriter.append(
      .dequantize(Dequantize()), name: name + ".rounded", [codes[0]])[0]
  }

  mutating func rewrite(_ node: Graph.Node, at index: Int) throws(QMError) {
    if plan.floatNodes.contains(index) {
      try rewriter.copy(node)
      for output in node.outputs { try round(output) }
      return
    }
    if case .recurrent(let recurrent) = node.operation {
      try rewrite(recurrent, node)
      return
    }
    var inputs: [Graph.ValueID?] = []
    for (position, input) in node.inputs.enumerated() {
      guard let input else {
        inputs.append(nil)
        continue
      }
      if plan.weights[input] != nil {
        inputs.append(try dequantizedWeights(input))
      } else if position == ProductOperand.input, plan.activations[input] == .dynamic,
        let axes = dynamicAxes(node)
      {
        inputs.append(try roundedDynamically(input, axes: axes))
      } else {
        inputs.append(rounded[input] ?? rewriter.value(input))
      }
    }
    if let bias = try bias(of: node, at: index) {
      while inputs.count <= ProductOperand.bias { inputs.append(nil) }
      inputs[ProductOperand.bias] = bias
    }
    try rewriter.append(node.operation, name: node.name, inputs, replacing: node.outputs)
    for output in node.outputs { try round(output) }
  }

  /// A recurrent layer rounds its input and states itself, each row on a grid of its own; it reads
  /// them unrounded, so that nothing is rounded twice.
  private mutating func rewrite(
    _ recurrent: Recurrent, _ node: Graph.Node
  ) throws(QMError) {
    let weights = [RecurrentOperand.weights, RecurrentOperand.recurrence].compactMap(node.input)
    var recurrent = recurrent
    if let input = node.input(RecurrentOperand.input), plan.activations[input] != nil,
      weights.allSatisfy({ plan.weights[$0] != nil })
    {
      recurrent.inputs = .roundedPerRow
    }
    var inputs: [Graph.ValueID?] = []
    for input in node.inputs {
      inputs.append(
        try input.map { (input) throws(QMError) in
          plan.weights[input] != nil ? try dequantizedWeights(input) : rewriter.value(input)
        })
    }
    try rewriter.append(
      .recurrent(recurrent), name: node.name, inputs, replacing: node.outputs)
    for output in node.outputs { try round(output) }
  }

  /// Leading axes whose every index has a grid of its own; nil for what is no product with
  /// quantized weights.
  private func dynamicAxes(_ node: Graph.Node) -> Int? {
    guard let weights = node.input(ProductOperand.weights), plan.weights[weights] != nil
    else { return nil }
    switch node.operation {
    case .convolution: return 1
    case .matrixMultiply: return rewriter.source[node.input(0)!].type.shape.rank - 1
    default: return nil
    }
  }

  private mutating func dequantizedWeights(
    _ value: Graph.ValueID
  ) throws(QMError) -> Graph.ValueID {
    if let known = rounded[value] { return known }
    guard let weights = plan.weights[value] else { return rewriter.value(value) }
    let name = rewriter.source[value].name
    let codes = rewriter.addConstant(
      name: name, weights.codes, weights.quantization)
    let scales = rewriter.addConstant(name: name + ".scales", weights.scales)
    let new = try rewriter.append(
      .dequantize(Dequantize()), name: name + ".dequantized", [codes, scales])[0]
    rounded[value] = new
    return new
  }

  /// The bias of a product with quantized weights: the plan's, or its own, and on a fixed grid as
  /// the accumulator will hold it. nil where the node's own stands.
  private mutating func bias(of node: Graph.Node, at index: Int) throws(QMError) -> Graph.ValueID? {
    switch node.operation {
    case .convolution, .matrixMultiply: break
    default: return nil
    }
    let own = node.input(ProductOperand.bias)
    guard let input = node.input(ProductOperand.input),
      let weights = node.input(ProductOperand.weights).flatMap({ plan.weights[$0] }),
      let numbers = plan.biases[index] ?? own.flatMap({ rewriter.source[$0].constant }),
      numbers.elementType == .float32
    else { return nil }
    let name = own.map { rewriter.source[$0].name } ?? "\(node.name).bias"
    guard case .fixed(let grid) = plan.activations[input],
      let integers = IntegerBias(numbers, inputScale: grid.scale, weightScales: weights.scales)
    else {
      return plan.biases[index].map { rewriter.addConstant(name: name, $0) }
    }
    return rewriter.addConstant(name: name, try Tensor(numbers.shape, integers.rounded))
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
