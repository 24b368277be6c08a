import QMFormat
import QMOperations
import QMTensor

/// The state of one raising: for each value of the program, the values of the graph that hold it.
struct Raising {
  /// The order of the axes of a graph's value, beside that of the program's value.
  enum Order: Hashable {
    /// As in the program.
    case stored
    /// The program has the channels last, the graph first.
    case channelsFirst
  }

  /// The graph's values that hold a program's value.
  private struct Place {
    var numbers: [Order: Graph.ValueID] = [:]
    var codes: [Order: Graph.ValueID] = [:]
  }

  let program: Program
  let form: RaisedProgram.Form
  var graph = Graph()
  var floatNodes: [RaisedProgram.FloatNode] = []
  private var places: [Place]
  /// The node that computes a value.
  private var producers: [Int: Int] = [:]
  /// For codes with dynamic quantization, the value that holds their scales and zero points.
  private var parameters: [Int: Int] = [:]
  /// The functions of the tables that were not raised yet; nil if they are not known.
  private var tableFunctions: ArraySlice<[UnaryFunction]>?
  /// A name for each constant: its own, or that of its first reader.
  private var constantNames: [Int: String] = [:]

  init(_ program: Program, _ form: RaisedProgram.Form) throws(QMError) {
    self.program = program
    self.form = form
    places = Array(repeating: Place(), count: program.values.count)
    tableFunctions = program.tableFunctions?[...]
    for (index, node) in program.nodes.enumerated() {
      for output in node.outputs { producers[output] = index }
      for (position, input) in node.inputs.enumerated() {
        guard let input, program.values[input].constant != nil, constantNames[input] == nil else {
          continue
        }
        let own = program.values[input].name
        constantNames[input] =
          own.isEmpty ? node.name + "." + node.operation.operandName(position) : own
      }
      let position =
        switch node.operation {
        case .dequantize: 1
        case .convolution, .matrixMultiply: ProductOperand.inputParameters
        default: node.inputs.count
        }
      if position < node.inputs.count, let codes = node.inputs[0],
        case .dynamic = program.values[codes].type.quantization
      {
        parameters[codes] = node.inputs[position]
      }
    }
    for input in program.inputs {
      let value = program.values[input]
      let new = try graph.addInput(name: value.name, value.type)
      if value.type.quantization == .none {
        places[input].numbers[.stored] = new
      } else {
        places[input].codes[.stored] = new
      }
    }
  }

  mutating func finish() throws(QMError) -> RaisedProgram {
    for output in program.outputs {
      let isCodes =
        if case .fixed = program.values[output.value].type.quantization { true } else { false }
      try graph.addOutput(
        name: output.name, isCodes ? codes(of: output.value, .stored) : numbers(output.value))
    }
    return RaisedProgram(
      graph: try RemoveDeadNodes().run(on: graph), floatNodes: form == .codes ? floatNodes : [])
  }

  /// Adds a node to ``floatNodes``.
  mutating func noteFloat(_ node: Program.Node, _ reason: String) {
    floatNodes.append(
      RaisedProgram.FloatNode(name: node.name, operation: node.operation.name, reason: reason))
  }

  /// The functions of the next Table node; nil if they are not known.
  mutating func nextTableFunctions() -> [UnaryFunction]? { tableFunctions?.popFirst() }

  // MARK: Facts about the program

  func type(of value: Int) -> ValueType { program.values[value].type }

  func rank(of value: Int) -> Int { type(of: value).shape.rank }

  /// The elements of a value that is a constant.
  func constant(_ value: Int?) -> Tensor? {
    value.flatMap { program.values[$0].constant }.map { program.constants[$0].tensor }
  }

  func producer(of value: Int) -> Program.Node? { producers[value].map { program.nodes[$0] } }

  func parameters(of codes: Int) -> Int? { parameters[codes] }

  func operands(of node: Program.Node) -> [Operand?] {
    node.inputs.map { $0.map { Operand(type(of: $0), constant: constant($0)) } }
  }

  /// The name of a value: the user's, or one from the node that computes or reads it.
  func name(of value: Int) -> String {
    let own = program.values[value].name
    return own.isEmpty ? constantNames[value] ?? producer(of: value)?.name ?? "" : own
  }

  /// The permutation between the orders of axes of an image.
  static func permutation(to order: Order, rank: Int) -> [Int] {
    let last = AxisOrder.channelsLast(rank: rank)
    return order == .channelsFirst ? last.places : last.sources
  }

  // MARK: Values

  /// Whether the graph has a value with channels first, and none in the program's order.
  func isChannelsFirstOnly(_ value: Int) -> Bool {
    places[value].numbers[.channelsFirst] != nil && places[value].numbers[.stored] == nil
  }

  func hasChannelsFirst(_ value: Int) -> Bool { places[value].numbers[.channelsFirst] != nil }

  /// Makes a value of the graph hold the numbers of a program's value.
  mutating func setNumbers(of value: Int, _ order: Order, to new: Graph.ValueID) {
    places[value].numbers[order] = new
  }

  mutating func setCodes(of value: Int, _ order: Order, to new: Graph.ValueID) {
    places[value].codes[order] = new
  }

  /// Makes a program's value the same as another one, which has the same numbers.
  mutating func alias(_ value: Int, of source: Int) throws(QMError) {
    if !isChannelsFirstOnly(source) { _ = try numbers(source) }
    places[value].numbers = places[source].numbers
  }

  /// The numbers that a program's value represents.
  mutating func numbers(_ value: Int, _ order: Order = .stored) throws(QMError) -> Graph.ValueID {
    if let known = places[value].numbers[order] { return known }
    let new: Graph.ValueID
    let other: Order = order == .stored ? .channelsFirst : .stored
    if constant(value) != nil {
      let permutation =
        order == .stored ? nil : Self.permutation(to: .channelsFirst, rank: rank(of: value))
      new = try constantNumbers(value, permutation)
    } else if let codes = places[value].codes[order] {
      new = try append(.dequantize(Dequantize()), name(of: value) + ".rounded", [codes])
    } else if order == .stored, places[value].numbers[other] == nil {
      throw .unsupported(
        "codes with \(type(of: value)) whose scales are not known before the run; export the "
          + "dequantized network")
    } else {
      let source = try numbers(value, other)
      new = try append(
        .transpose(Transpose(permutation: Self.permutation(to: order, rank: rank(of: value)))),
        name(of: value) + (order == .stored ? ".channelsLast" : ".channelsFirst"), [source])
    }
    places[value].numbers[order] = new
    return new
  }

  /// The codes of a program's value with fixed quantization.
  mutating func codes(of value: Int, _ order: Order) throws(QMError) -> Graph.ValueID {
    if let known = places[value].codes[order] { return known }
    let type = type(of: value)
    guard case .fixed(let scale, let zeroPoint) = type.quantization else {
      throw .internalFault("value '\(name(of: value))' of \(type) has no fixed codes")
    }
    let new: Graph.ValueID
    if order == .stored, let tensor = constant(value) {
      new = graph.addConstant(name: name(of: value), tensor, type.quantization)
    } else {
      new = try append(
        .quantize(Quantize(type.elementType, scale: scale, zeroPoint: zeroPoint)),
        name(of: value) + ".codes", [numbers(value, order)])
    }
    places[value].codes[order] = new
    return new
  }

  /// Adds a node with one output of its name.
  mutating func append(
    _ operation: Operation, _ name: String, _ inputs: [Graph.ValueID?]
  ) throws(QMError) -> Graph.ValueID {
    try graph.append(operation, name: name, inputs, outputNames: [name])[0]
  }

  private mutating func constantNumbers(
    _ value: Int, _ permutation: [Int]?
  ) throws(QMError) -> Graph.ValueID {
    guard var tensor = constant(value) else {
      throw .internalFault("value '\(name(of: value))' is not a constant")
    }
    if let permutation { tensor = try transposed(tensor, permutation) }
    let quantization = type(of: value).quantization
    switch quantization {
    case .none: return graph.addConstant(name: name(of: value), tensor)
    case .fixed where form == .codes:
      let codes = graph.addConstant(name: name(of: value) + ".codes", tensor, quantization)
      return try append(.dequantize(Dequantize()), name(of: value), [codes])
    case .fixed:
      let numbers = try Operation.dequantize(Dequantize())
        .evaluate([tensor], quantizations: [quantization])[0]
      return graph.addConstant(name: name(of: value), numbers)
    case .dynamic, .weights:
      throw .unsupported(
        "codes with \(type(of: value)) are read without their scales; export the network again")
    }
  }

  func transposed(_ tensor: Tensor, _ permutation: [Int]) throws(QMError) -> Tensor {
    try Operation.transpose(Transpose(permutation: permutation)).evaluate([tensor])[0]
  }

  // MARK: Results of nodes

  /// Adds the functions of an epilogue behind a value, and the rounding to the codes that the program
  /// stores.
  /// - Parameter result: the value before the functions; its node has the name ``stepName(of:before:)``.
  mutating func finish(
    _ node: Program.Node, _ result: Graph.ValueID, _ order: Order, functions: [UnaryFunction] = []
  ) throws(QMError) {
    let output = node.outputs[0]
    var result = result
    for (index, function) in functions.enumerated() {
      result = try append(
        .unary(Unary(function)),
        stepName(of: node, isLast: index == functions.count - 1, "function\(index + 1)"), [result])
    }
    try round(output, result, order)
  }

  /// Makes a value of the graph hold an output, rounded to the codes that the program stores.
  mutating func round(
    _ output: Int, _ result: Graph.ValueID, _ order: Order
  ) throws(QMError) {
    let type = type(of: output)
    guard form == .codes, case .fixed(let scale, let zeroPoint) = type.quantization else {
      setNumbers(of: output, order, to: result)
      return
    }
    let name = graph[result].name
    let codes = try append(
      .quantize(Quantize(type.elementType, scale: scale, zeroPoint: zeroPoint)), name + ".codes",
      [result])
    setCodes(of: output, order, to: codes)
    setNumbers(
      of: output, order,
      to: try append(.dequantize(Dequantize()), name + ".rounded", [codes]))
  }

  /// The name of a step of a node: the last has the user's name of the output.
  func stepName(of node: Program.Node, isLast: Bool, _ suffix: String) -> String {
    let name = name(of: node.outputs[0])
    return isLast ? name : "\(name).\(suffix)"
  }
}

extension Operation {
  /// A word for an operand, for the names of constants.
  fileprivate func operandName(_ position: Int) -> String {
    let names: [String]
    switch self {
    case .convolution, .matrixMultiply: names = ["input", "weight", "bias", "scale"]
    case .recurrent: names = ["input", "weight", "recurrence", "bias"]
    case .batchNormalization: names = ["input", "scale", "bias", "mean", "variance"]
    case .layerNormalization, .groupNormalization: names = ["input", "scale", "bias"]
    case .gather: names = ["weight", "indices"]
    default: names = []
    }
    return position < names.count ? names[position] : "constant\(position)"
  }
}
