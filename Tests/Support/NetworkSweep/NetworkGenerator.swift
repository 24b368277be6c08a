import QMONNX
import QMTensor
import QMTestSupport

/// Draws networks of one or two operators, with products in front and behind, so that their values
/// are quantized. Equal seeds give equal networks.
public struct NetworkGenerator {
  /// A value that a node reads.
  struct Operand {
    var name: String
    var elementType: ElementType
    /// Extents in a run.
    var shape: [Int]
  }

  var random: SeededGenerator
  var drawn: RandomNetwork
  /// The result of the node before, which the next node reads as its first operand.
  private var previous: Operand?
  private var valueCount = 0
  private let freeAxisChance: Double
  private let constantChance: Double

  var opset: Int { drawn.network.opset }

  private init(_ first: ONNXOperator, _ random: SeededGenerator) {
    self.random = random
    // The last operator set in which ONNX has the operator; the reader takes it from newer ones too.
    let last = ["Upsample": 9, "Scatter": 10][first.name]
    let opsets = first.opsets.clamped(to: 1...(last ?? first.opsets.upperBound))
    let isNewest = Bool.random(using: &self.random)
    let opset = isNewest ? opsets.upperBound : Int.random(in: opsets, using: &self.random)
    drawn = RandomNetwork(network: ONNXNetwork(opset: opset))
    drawn.isPositive = Bool.random(using: &self.random)
    freeAxisChance = [0, 0, 0.3, 1].randomElement(using: &self.random)!
    constantChance = [0, 0.1, 0.5, 1].randomElement(using: &self.random)!
  }

  /// The operators that are drawn: on codes, only those that quantize and dequantize.
  private static let operators = OperatorTable.operators.filter { row in
    ["QuantizeLinear", "DequantizeLinear"].contains(row.name)
      || !OperatorTable.quantizedOperators.contains { $0.name == row.name }
  }

  /// The network of a seed.
  /// - Parameter evaluate: the first output of a network, nil if it cannot be read or run.
  public static func network(
    seed: UInt64, evaluating evaluate: (RandomNetwork) -> Tensor?
  ) throws -> RandomNetwork {
    var random = SeededGenerator(seed: seed)
    let first = Self.operators.randomElement(using: &random)!
    var generator = NetworkGenerator(first, random)
    try generator.add(first.name)
    generator.drawn.network.outputs = [generator.drawn.network.nodes.last!.outputs[0]]
    for _ in 0..<2 {
      guard generator.chance(0.7), let result = evaluate(generator.drawn) else { break }
      // The result of a network of another float type is float32 or that type: the Cast settles it.
      let name = generator.drawn.network.outputs[0]
      generator.previous = Operand(
        name: result.elementType.isFloatingPoint && generator.hasOtherFloats
          ? generator.add("Cast", [name], [("to", .integer(1))]) : name,
        elementType: result.elementType.isFloatingPoint ? .float32 : result.elementType,
        shape: result.shape)
      if generator.chance(0.5) {
        try generator.addProductBehind()
      } else {
        try generator.add(
          (generator.chance(0.4)
            ? Self.operators.map(\.name)
            : [
              "Relu", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Concat", "Flatten",
              "Softmax",
              "Add", "Slice", "Mul", "Identity", "Split", "ReduceMean", "Pad", "Gather",
            ]).randomElement(using: &generator.random)!)
      }
      let output = generator.drawn.network.nodes.last!.outputs[0]
      if generator.chance(0.1) {
        generator.drawn.network.outputs.insert(output, at: 0)
      } else {
        generator.drawn.network.outputs = [output]
      }
    }
    return generator.drawn
  }

  private var hasOtherFloats: Bool {
    let types =
      drawn.network.inputs.map(\.type.elementType)
      + drawn.network.constants.map(\.tensor.elementType)
    return types.contains { $0.isFloatingPoint && $0 != .float32 }
  }

  // MARK: Drawing

  mutating func chance(_ probability: Double) -> Bool {
    Double.random(in: 0..<1, using: &random) < probability
  }

  mutating func pick<Element>(_ elements: [Element]) -> Element {
    elements.randomElement(using: &random)!
  }

  mutating func integer(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }

  /// Mostly an axis of a value of this rank; sometimes one beyond it.
  mutating func axis(_ rank: Int) -> Int {
    chance(0.05) ? integer(-rank - 2...rank + 1) : integer(-rank...max(rank - 1, 0))
  }

  mutating func axes(_ rank: Int) -> [Int] {
    if chance(0.05) { return (0..<integer(0...3)).map { _ in axis(rank) } }
    return (0..<rank).filter { _ in chance(0.4) }.map { axis in chance(0.3) ? axis - rank : axis }
  }

  mutating func extents(_ rank: ClosedRange<Int>) -> [Int] {
    let hasEmpty = chance(0.15)
    return (0..<integer(rank)).map { _ in
      pick(hasEmpty ? [0, 1, 1, 2, 2, 3] : [1, 1, 2, 2, 3, 3])
    }
  }

  /// A shape that broadcasts against another, mostly.
  mutating func broadcast(_ shape: [Int]) -> [Int] {
    if chance(0.05) { return extents(0...5) }
    let rest = shape.dropFirst(chance(0.3) ? integer(0...shape.count) : 0)
    let result = rest.map { chance(0.25) ? 1 : $0 }
    return chance(0.1) ? [1] + result : result
  }

  /// An attribute that is written or left out.
  mutating func maybe(
    _ name: String, _ value: ONNXNetwork.Attribute, _ probability: Double = 0.5
  ) -> [(name: String, value: ONNXNetwork.Attribute)] {
    chance(probability) ? [(name, value)] : []
  }

  mutating func flag(_ name: String) -> [(name: String, value: ONNXNetwork.Attribute)] {
    maybe(name, .integer(integer(0...1)))
  }

  // MARK: Operands

  static let floats: [ElementType] =
    Array(repeating: .float32, count: 12) + [.float16, .bfloat16, .float64]
  static let numbers: [ElementType] = floats + [.int32, .int64, .int8, .uint8]
  static let all: [ElementType] =
    Array(repeating: .float32, count: 16) + ElementType.allCases

  /// The first operand of a node.
  mutating func data(
    _ types: [ElementType] = numbers, rank: ClosedRange<Int> = 0...5
  ) throws -> Operand {
    if let previous {
      self.previous = nil
      return previous
    }
    let beyond = chance(0.03) ? 0...5 : rank
    return try operand(pick(types), extents(beyond))
  }

  /// A further operand: constant, an input, or computed.
  mutating func operand(
    _ type: ElementType, _ shape: [Int], constant: Double? = nil
  ) throws -> Operand {
    if chance(constant ?? constantChance) {
      return self.constant(try random.numbers(type, shape, isPositive: drawn.isPositive))
    }
    let input = input(type, shape)
    guard type == .float32, chance(0.4) else { return input }
    if let last = shape.last, chance(0.6) {
      let weights = constantName(try random.numbers(.float32, [last, last]))
      return Operand(name: add("MatMul", [input.name, weights]), elementType: type, shape: shape)
    }
    return Operand(
      name: add(pick(["Relu", "Neg", "Sigmoid"]), [input.name]), elementType: type, shape: shape)
  }

  private mutating func constantName(_ tensor: Tensor) -> String { constant(tensor).name }

  mutating func constant(_ tensor: Tensor) -> Operand {
    let name = newName("c")
    drawn.network.constants.append((name, tensor))
    return Operand(name: name, elementType: tensor.elementType, shape: tensor.shape)
  }

  mutating func input(_ type: ElementType, _ shape: [Int]) -> Operand {
    let name = newName("x")
    let axes = shape.enumerated().map { position, extent -> Shape.Axis in
      guard chance(freeAxisChance) else { return .fixed(extent) }
      return .free(pick(["n\(extent)", "\(name).\(position)", ""]))
    }
    drawn.network.inputs.append((name, ValueType(type, Shape(axes))))
    drawn.shapes[name] = shape
    return Operand(name: name, elementType: type, shape: shape)
  }

  /// Extents, axes, indices: mostly a constant, sometimes an input.
  mutating func integers(
    _ values: [Int], shape: [Int]? = nil, constant: Double = 0.85, type: ElementType = .int64
  ) throws -> String {
    let tensor = try Tensor(shape ?? [values.count], values.map(Int64.init)).converted(to: type)
    if chance(constant) { return constantName(tensor) }
    let operand = input(type, tensor.shape)
    drawn.fixedInputs[operand.name] = tensor
    return operand.name
  }

  mutating func newName(_ prefix: String) -> String {
    valueCount += 1
    return prefix + "\(valueCount)"
  }

  /// Appends a node.
  /// - Returns: the name of its first output.
  @discardableResult mutating func add(
    _ operation: String, _ inputs: [String],
    _ attributes: [(name: String, value: ONNXNetwork.Attribute)] = [], outputs: Int = 1
  ) -> String {
    var inputs = inputs
    while inputs.last == "" { inputs.removeLast() }
    let names = (0..<max(outputs, 1)).map { _ in newName("y") }
    drawn.network.nodes.append(.init(operation, inputs, names, attributes))
    return names[0]
  }

  /// A product over the last axis of the value before, or over all of it.
  private mutating func addProductBehind() throws {
    guard var operand = previous else { return }
    previous = nil
    if operand.elementType != .float32 {
      operand.name = add("Cast", [operand.name], [("to", .integer(1))])
    }
    if operand.shape.isEmpty || chance(0.3) {
      let count = operand.shape.reduce(1, *)
      operand.name = add("Reshape", [operand.name, try integers([1, -1], constant: 1)])
      operand.shape = [1, count]
    }
    let weights = constantName(try random.numbers(.float32, [operand.shape.last!, 3]))
    add("MatMul", [operand.name, weights])
  }
}
