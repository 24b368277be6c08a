import QMFormat
import QMOperations
import QMTensor

/// The dequantized constants of a program, as the float network's file holds its own.
public struct RaisedWeights: Sendable {
  /// Names, shapes and order are those of the float network.
  public var arrays: [(name: String, tensor: Tensor)] = []
  /// Weights of the float network that the program does not hold in a form from which they could be
  /// computed.
  public var missing: [String] = []

  /// No arrays.
  public init() {}
}

extension Program {
  /// The dequantized constants by their names in the float network.
  ///
  /// Scales and shifts that were folded into a product's weights are taken out again, as training does
  /// it, so that the constants of normalizations keep their values.
  /// - Parameter source: the float network as it was read, cut as for the conversion.
  /// - Throws: `invalidInput` if no weights of the network are in the program; errors of passes.
  public func weights(of source: Graph) throws(QMError) -> RaisedWeights {
    let exact = try DefaultPasses.runExact(on: source)
    var reading = ConstantReading(
      exact: exact, fused: try DefaultPasses.fused(exact), raising: try Raising(self, .float))
    let sites = try reading.sites()
    var exactValues: [String: Graph.ValueID] = [:]
    for value in exact.valueIDs where exact[value].constant != nil {
      exactValues[exact[value].name] = value
    }
    let readers = exact.constantReaders
    var result = RaisedWeights()
    var found = 0
    for value in source.valueIDs.map({ source[$0] }) {
      guard let own = value.constant, own.elementType == .float32, own.elementCount > 1,
        value.steps.allSatisfy(\.hasInverse)
      else { continue }
      guard let old = exactValues[value.name], let reader = readers[old] else { continue }
      let numbers = try reading.numbers(of: old, readBy: reader, sites)
      if let numbers, numbers.elementCount == own.elementCount,
        !reading.isWeight(reader) || numbers.resembles(own)
      {
        found += 1
        result.arrays.append((value.name, try value.inFile(numbers)))
      } else if reading.isWeight(reader) {
        result.missing.append(value.name)
      } else {
        result.arrays.append((value.name, try value.inFile(own)))
      }
    }
    guard found > 0 else {
      throw .invalidInput(
        "the file holds no weights of the reference; give the network that it was made from")
    }
    return result
  }
}

/// A node of a graph by its index, and the position at which it reads a constant.
private struct ConstantReader {
  let index: Int
  let position: Int
}

/// Finds the program's constants for those of the graph before the fusions.
private struct ConstantReading {
  let exact: Graph
  let fused: Rewritten
  var raising: Raising
  private let uses: Uses
  /// The index of each of the program's nodes whose name and operation no other node has.
  private let places: [String: Int]

  init(exact: Graph, fused: Rewritten, raising: Raising) {
    self.exact = exact
    self.fused = fused
    self.raising = raising
    uses = Uses(exact)
    var places: [String: Int] = [:]
    var repeated: Set<String> = []
    for (index, node) in raising.program.nodes.enumerated() {
      let key = "\(node.operation.name) \(node.name)"
      if places.updateValue(index, forKey: key) != nil { repeated.insert(key) }
    }
    self.places = places.filter { !repeated.contains($0.key) }
  }

  /// The program's codes and biases as a plan, carried over to the graph before the fusions.
  mutating func sites() throws(QMError) -> RoundingSites {
    let graph = fused.graph
    var plan = Plan(for: graph)
    for (index, node) in graph.nodes.enumerated() {
      guard let place = places["\(node.operation.name) \(node.name)"] else { continue }
      let own = raising.program.nodes[place]
      for operand in node.operation.body.weightOperands(of: graph.operands(of: node)) {
        guard let value = node.input(operand.position), graph[value].constant != nil,
          let codes = try raising.codes(of: own, at: operand.position)
        else { continue }
        plan.weights[value] = codes
      }
      if node.operation.isProduct, let bias = raising.input(own, ProductOperand.bias),
        raising.constant(bias) != nil
      {
        let numbers = try raising.bias(bias, own)
        plan.biases[index] = raising.graph[numbers].constant
      }
    }
    return try RoundingSites(of: plan, in: fused, before: exact)
  }

  /// Whether a constant is weights.
  func isWeight(_ reader: ConstantReader) -> Bool {
    let node = exact.nodes[reader.index]
    return node.operation.body.weightOperands(of: exact.operands(of: node)).contains {
      $0.position == reader.position
    }
  }

  /// A constant that is added behind a product without a bias of its own, with what the program adds
  /// to the product besides; nil for other constants.
  private func shifted(
    _ own: Tensor, _ reader: ConstantReader, _ sites: RoundingSites
  ) throws(QMError) -> Tensor? {
    let node = exact.nodes[reader.index]
    let product: Graph.ValueID?
    var factors = [Float](repeating: 1, count: own.elementCount)
    switch node.operation {
    case .binary(let binary) where binary.function == .add:
      product = node.input(1 - reader.position)
    case .batchNormalization(let normalization) where reader.position == 2:
      product = node.input(0)
      guard let scale = node.input(1).flatMap({ exact[$0].constant }),
        let variance = node.input(4).flatMap({ exact[$0].constant })
      else { return nil }
      factors = zip(scale.elements(as: Float.self), variance.elements(as: Float.self)).map {
        $0 / ($1 + normalization.epsilon).squareRoot()
      }
    default: return nil
    }
    guard let index = product.flatMap({ uses.producer(of: $0) }),
      exact.nodes[index].operation.isProduct, exact.nodes[index].input(ProductOperand.bias) == nil,
      let added = sites.biases[index]?.elements(as: Float.self),
      added.count == own.elementCount, factors.count == own.elementCount
    else { return nil }
    let numbers = own.elements(as: Float.self)
    return try Tensor(
      own.shape, numbers.indices.map { numbers[$0] + added[$0] * factors[$0] })
  }

  /// The program's numbers of a constant; nil if it has none.
  mutating func numbers(
    of value: Graph.ValueID, readBy reader: ConstantReader, _ sites: RoundingSites
  ) throws(QMError) -> Tensor? {
    let site = RoundingSites.Operand(node: reader.index, position: reader.position)
    switch sites.weights[site] {
    case .numbers(let numbers), .half(let numbers): return numbers
    case .codes(let codes):
      return try Operation.dequantize(Dequantize())
        .evaluate([codes.codes, codes.scales], quantizations: [codes.quantization])[0]
    case nil: break
    }
    if exact.nodes[reader.index].operation.isProduct, reader.position == ProductOperand.bias,
      let bias = sites.biases[reader.index]
    {
      return bias
    }
    if let own = exact[value].constant, let moved = try shifted(own, reader, sites) { return moved }
    // A constant that no pass changed.
    guard let own = exact[value].constant, let new = fused.correspondence.value(for: value),
      let constant = fused.graph[new].constant,
      let reader = fused.graph.constantReaders[new]
    else { return nil }
    let node = fused.graph.nodes[reader.index]
    let permutation = fused.correspondence.permutation(for: value)
    func inOldOrder(_ tensor: Tensor) throws(QMError) -> Tensor {
      guard let permutation, tensor.shape.count == permutation.count else { return tensor }
      return try raising.transposed(tensor, AxisOrder(permutation).places)
    }
    guard try inOldOrder(constant).isIdentical(to: own),
      let place = places["\(node.operation.name) \(node.name)"],
      let numbers = try raising.constantNumbers(
        of: raising.program.nodes[place], at: reader.position)
    else { return nil }
    return try inOldOrder(numbers)
  }
}

extension Raising {
  /// The codes that a node reads as weights; nil for other operands.
  fileprivate func codes(
    of node: Program.Node, at position: Int
  ) throws(QMError) -> QuantizedTensor? {
    guard let operand = input(node, position) else { return nil }
    let scales: Tensor?
    switch (node.operation, position) {
    case (.convolution, ProductOperand.weights), (.matrixMultiply, ProductOperand.weights):
      scales = constant(input(node, ProductOperand.weightScales))
    case (.recurrent, RecurrentOperand.weights):
      scales = constant(input(node, RecurrentOperand.weightScales))
    case (.recurrent, RecurrentOperand.recurrence):
      scales = constant(input(node, RecurrentOperand.recurrenceScales))
    case (.gather, 0): scales = try rowScales(of: node)
    default: scales = nil
    }
    if let scales { return quantized(operand, scales: scales) }
    // Codes of a product that runs in float32 are dequantized in front of it.
    guard let source = producer(of: operand), case .dequantize = source.operation,
      let codes = source.inputs[0], let scales = constant(input(source, 1))
    else { return nil }
    return quantized(codes, scales: scales)
  }

  /// The numbers of a constant operand, as the program stores them; nil for a computed operand.
  fileprivate mutating func constantNumbers(
    of node: Program.Node, at position: Int
  ) throws(QMError) -> Tensor? {
    if let codes = try codes(of: node, at: position) {
      return try Operation.dequantize(Dequantize())
        .evaluate([codes.codes, codes.scales], quantizations: [codes.quantization])[0]
    }
    guard let operand = input(node, position) else { return nil }
    if let half = storedHalf(operand) {
      return try Operation.cast(Cast(to: .float32)).evaluate([half])[0]
    }
    guard let tensor = constant(operand) else { return nil }
    switch type(of: operand).quantization {
    case .none where tensor.elementType == .float32: return tensor
    case .none:
      return node.operation.isProduct && position == ProductOperand.bias
        ? graph[try bias(operand, node)].constant : nil
    case .fixed: return graph[try numbers(operand)].constant
    case .dynamic, .weights: return nil
    }
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

extension Graph {
  /// The first node that reads each constant, and the position at which it does.
  fileprivate var constantReaders: [ValueID: ConstantReader] {
    var readers: [ValueID: ConstantReader] = [:]
    for (index, node) in nodes.enumerated() {
      for (position, input) in node.inputs.enumerated() {
        if let input, self[input].constant != nil, readers[input] == nil {
          readers[input] = ConstantReader(index: index, position: position)
        }
      }
    }
    return readers
  }
}

extension Tensor {
  /// Whether the difference from another tensor has less than half of its power: rounding changes
  /// weights by less, a scale that a conversion moved into them by more.
  fileprivate func resembles(_ other: Tensor) -> Bool {
    var power = 0.0
    var error = 0.0
    for (own, wanted) in zip(elements(as: Float.self), other.elements(as: Float.self)) {
      power += Double(wanted) * Double(wanted)
      error += (Double(own) - Double(wanted)) * (Double(own) - Double(wanted))
    }
    return error <= power / 2
  }
}
