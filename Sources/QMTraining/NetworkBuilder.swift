import QMGraph
import QMOperations
import QMTensor

/// Makes a ``TrainingNetwork`` of a graph, node by node.
struct NetworkBuilder {
  let graph: Graph
  let trained: TrainingNetwork.Trained
  var values: [TrainingNetwork.Value] = []
  var nodes: [TrainingNetwork.Node] = []
  var parameters: [TrainingNetwork.Parameter] = []
  var activations: [TrainingNetwork.Activation] = []
  var inputs: [Int] = []
  var inner: Set<Int> = []
  /// The number of each value of the graph.
  var numbers: [Graph.ValueID: Int] = [:]
  /// Values that hold codes of an activation, with the value that was quantized.
  private var quantized: [Graph.ValueID: (source: Graph.ValueID, QuantizationParameters)] = [:]

  init(_ graph: Graph, _ trained: TrainingNetwork.Trained) {
    self.graph = graph
    self.trained = trained
  }

  mutating func run() throws(QMError) {
    for input in graph.inputs {
      numbers[input] = add(graph[input].name, graph[input].type, .input)
      inputs.append(values.count - 1)
    }
    var plain = 0
    for node in graph.nodes {
      let isPlain = try within(.node(name: node.name, operation: node.operation.name)) {
        () throws(QMError) in try add(node, index: plain)
      }
      if isPlain { plain += 1 }
    }
    for output in graph.outputs {
      try expectNumbers(output.value)
      _ = number(output.value)
    }
  }

  /// - Throws: `unsupported` for codes of an activation, which exist only between a Quantize and its
  ///   Dequantize.
  private func expectNumbers(_ value: Graph.ValueID) throws(QMError) {
    guard quantized[value] == nil else {
      throw .unsupported(
        "'\(graph[value].name.abbreviated)' holds codes; training takes a float network")
    }
  }

  private mutating func add(
    _ name: String, _ type: ValueType, _ content: TrainingNetwork.Content
  ) -> Int {
    values.append(.init(name: name, type: type, content: content))
    return values.count - 1
  }

  /// The number of a value that a node reads.
  private mutating func number(_ id: Graph.ValueID) -> Int {
    if let known = numbers[id] { return known }
    let value = graph[id]
    let content: TrainingNetwork.Content
    if case .parameters = trained, value.isParameter, let constant = value.constant {
      content = add(
        parameter: .init(
          name: value.name, role: .constant(value.name), initial: constant, codes: nil))
    } else {
      content = value.constant.map { .constant($0) } ?? .computed
    }
    let number = add(value.name, value.type, content)
    numbers[id] = number
    return number
  }

  private mutating func add(parameter: TrainingNetwork.Parameter) -> TrainingNetwork.Content {
    parameters.append(parameter)
    return .parameter(parameters.count - 1)
  }

  /// Makes a constant a parameter, unless it is one.
  private mutating func train(_ id: Graph.ValueID, _ role: TrainingNetwork.Parameter.Role) {
    let number = number(id)
    guard case .constant(let tensor) = values[number].content, tensor.elementType == .float32 else {
      return
    }
    values[number].content = add(
      parameter: .init(name: graph[id].name, role: role, initial: tensor, codes: nil))
  }

  /// - Parameter index: number of the node among those that round nothing.
  /// - Returns: whether the node rounds nothing.
  private mutating func add(_ node: Graph.Node, index: Int) throws(QMError) -> Bool {
    switch node.operation {
    case .quantize(let quantize):
      guard let input = node.input(0) else { return false }
      quantized[node.outputs[0]] = (
        input,
        QuantizationParameters(
          quantize.elementType, scale: quantize.scale, zeroPoint: quantize.zeroPoint)
      )
      return false
    case .dequantize:
      guard let input = node.input(0) else { return false }
      if let (source, parameters) = quantized[input] {
        activations.append(.init(name: graph[source].name, parameters: parameters))
        append(
          .rounding(activations.count - 1), node.name, [number(source)], node.outputs)
        return false
      }
      if let codes = graph[input].constant,
        let scales = node.input(1).flatMap({ graph[$0].constant }),
        case .weights(let bits, let granularity) = graph[input].type.quantization
      {
        let tensor = QuantizedTensor(
          codes: codes, scales: scales, granularity: granularity, codeRange: bits.allCodes)
        let name = graph[input].name
        let content = add(
          parameter: .init(
            name: name, role: .codes(name), initial: try tensor.numbers(), codes: tensor))
        numbers[node.outputs[0]] = add(name, graph[node.outputs[0]].type, content)
        return false
      }
      append(
        .operation(node.operation), node.name, node.inputs.map { $0.map { number($0) } },
        node.outputs)
      return false
    case .dynamicQuantize:
      append(
        .operation(node.operation), node.name, node.inputs.map { $0.map { number($0) } },
        node.outputs)
      return false
    default: break
    }
    for case let input? in node.inputs { try expectNumbers(input) }
    if case .quantized = trained { trainConstants(of: node, index) }
    let inputs = node.inputs.map { (input) in input.map { number($0) } }
    let (operation, functions) = node.operation.withoutFunctions
    guard !functions.isEmpty else {
      append(.operation(operation), node.name, inputs, node.outputs)
      return true
    }
    let type = graph[node.outputs[0]].type
    var last = add(node.name, type, .computed)
    inner.insert(last)
    nodes.append(
      .init(step: .operation(operation), name: node.name, inputs: inputs, outputs: [last]))
    for (place, function) in functions.enumerated() {
      let step = TrainingNetwork.Step.operation(.unary(Unary(function)))
      if place == functions.count - 1 {
        append(step, node.name, [last], node.outputs)
      } else {
        let next = add(node.name, type, .computed)
        inner.insert(next)
        nodes.append(.init(step: step, name: node.name, inputs: [last], outputs: [next]))
        last = next
      }
    }
    return true
  }

  private mutating func append(
    _ step: TrainingNetwork.Step, _ name: String, _ inputs: [Int?], _ outputs: [Graph.ValueID]
  ) {
    nodes.append(.init(step: step, name: name, inputs: inputs, outputs: outputs.map { number($0) }))
  }

  /// Makes parameters of the constants of a node that are worth training beside its weights.
  private mutating func trainConstants(of node: Graph.Node, _ index: Int) {
    func constant(_ position: Int) -> Graph.ValueID? {
      node.input(position).flatMap { graph[$0].constant == nil ? nil : $0 }
    }
    func train(_ positions: [Int]) {
      for position in positions {
        guard let id = constant(position) else { continue }
        self.train(id, .operand(node: index, position: position))
      }
    }
    switch node.operation {
    case .convolution, .matrixMultiply:
      guard let bias = constant(ProductOperand.bias),
        let weights = node.input(ProductOperand.weights),
        graph[weights].constant == nil
      else { return }
      self.train(bias, .bias(node: index))
    case .recurrent:
      if let bias = constant(RecurrentOperand.bias) { self.train(bias, .bias(node: index)) }
      train([RecurrentOperand.peepholes])
    case .layerNormalization, .groupNormalization: train([1, 2])
    default: return
    }
  }
}

extension QuantizedTensor {
  /// The numbers that the codes represent.
  package func numbers() throws(QMError) -> Tensor {
    try Operation.dequantize(Dequantize()).evaluate(
      [codes, scales], quantizations: [quantization, .none])[0]
  }
}

extension Operation {
  /// The operation without the functions that are applied to its result, and these.
  fileprivate var withoutFunctions: (Operation, [UnaryFunction]) {
    switch self {
    case .convolution(var convolution):
      let functions = convolution.epilogue.functions
      convolution.epilogue = Epilogue(output: convolution.epilogue.output)
      return (.convolution(convolution), functions)
    case .matrixMultiply(var product):
      let functions = product.epilogue.functions
      product.epilogue = Epilogue(output: product.epilogue.output)
      return (.matrixMultiply(product), functions)
    case .binary(var binary):
      let functions = [binary.secondFunction].compactMap { $0 }
      binary.secondFunction = nil
      return (.binary(binary), functions)
    default: return (self, [])
    }
  }
}
