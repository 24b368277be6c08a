import QMGraph
import QMOperations
import QMTensor

extension GraphWriter {
  /// RNN, GRU or LSTM.
  mutating func write(_ recurrent: Recurrent, _ node: Graph.Node) throws(QMError) {
    guard recurrent.inputs == .real, let recurrence = node.input(RecurrentOperand.recurrence),
      let hidden = shape(recurrence)[1].extent
    else { throw .unsupported("inputs and states with scales per row") }
    var operands = try inputs(node)
    for position in [RecurrentOperand.weights, RecurrentOperand.recurrence] {
      operands[position] = try byDirection(node, position, recurrent.direction.count)
    }
    var attributes: Attributes = [
      ("direction", .text(recurrent.direction.onnxName)), ("hidden_size", .integer(hidden)),
    ]
    attributes += try Self.activations(recurrent)
    if let clip = recurrent.clip { attributes.append(("clip", .float(clip))) }
    switch recurrent.cell {
    case .simple: try emit("RNN", operands, node, attributes)
    case .gru, .gruResetAfter:
      attributes.append(("linear_before_reset", .flag(recurrent.cell == .gruResetAfter)))
      try emit("GRU", operands, node, attributes)
    case .lstm, .lstmCoupled:
      attributes.append(("input_forget", .flag(recurrent.cell == .lstmCoupled)))
      try emit("LSTM", operands, node, attributes)
    }
  }

  /// Weights `[D·G·H, I]` as `[D, G·H, I]`.
  private mutating func byDirection(
    _ node: Graph.Node, _ position: Int, _ directions: Int
  ) throws(QMError) -> String {
    guard let weights = node.input(position), let extents = shape(weights).extents,
      extents.count == 2
    else { throw .unsupported("weights without a known shape") }
    let wanted = [directions, extents[0] / directions, extents[1]]
    if let tensor = graph[weights].constant {
      return try constant(tensor.reshaped(wanted), graph[weights].name)
    }
    let name = try name(of: weights)
    return add(
      "Reshape", [name, try constant(wanted, name + ".shape")], as: unique(name + ".byDirection"))
  }

  private static func activations(_ recurrent: Recurrent) throws(QMError) -> Attributes {
    var names: [[UInt8]] = []
    var alphas: [Float] = []
    var betas: [Float] = []
    for function in recurrent.functions {
      let name: String
      switch function {
      case .relu: name = "Relu"
      case .tanh: name = "Tanh"
      case .sigmoid: name = "Sigmoid"
      case .softsign: name = "Softsign"
      case .softplus: name = "Softplus"
      case .affine: name = "Affine"
      case .leakyRelu: name = "LeakyRelu"
      case .thresholdedRelu: name = "ThresholdedRelu"
      case .hardSigmoid: name = "HardSigmoid"
      case .elu: name = "Elu"
      default: throw .unsupported("\(function) as a function of a recurrent layer")
      }
      names.append(Array(name.utf8))
      let parameters = function.parameters
      if let first = parameters.first { alphas.append(first) }
      if parameters.count > 1 { betas.append(parameters[1]) }
    }
    var attributes: Attributes = [("activations", .strings(names))]
    if !alphas.isEmpty { attributes.append(("activation_alpha", .floats(alphas))) }
    if !betas.isEmpty { attributes.append(("activation_beta", .floats(betas))) }
    return attributes
  }
}

extension Recurrent.Direction {
  fileprivate var onnxName: String {
    switch self {
    case .forward: "forward"
    case .reverse: "reverse"
    case .bidirectional: "bidirectional"
    }
  }
}
