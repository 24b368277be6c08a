import QMFormat
import QMOperations
import QMTensor
import QMTestSupport

/// A program under construction, in any order.
struct ProgramBuilder {
  private var values: [Program.Value] = []
  private var constants: [Program.Constant] = []
  private var nodes: [Program.Node] = []
  private var inputs: [Int] = []

  mutating func input(
    _ name: String, _ elementType: ElementType, _ shape: Shape,
    _ quantization: Quantization = .none
  ) -> Int {
    values.append(Program.Value(ValueType(elementType, shape, quantization), name: name))
    inputs.append(values.count - 1)
    return values.count - 1
  }

  mutating func constant(_ tensor: Tensor, _ quantization: Quantization = .none) -> Int {
    let type = ValueType(tensor.elementType, Shape(tensor.shape), quantization)
    values.append(
      Program.Value(type, name: "c\(constants.count)", constant: constants.count))
    constants.append(Program.Constant(tensor, quantization))
    return values.count - 1
  }

  mutating func constant(_ integers: [Int64]) throws -> Int {
    constant(try Tensor([integers.count], integers))
  }

  /// The first output of a node with the types that its rule gives.
  mutating func append(_ operation: Operation, _ inputs: [Int?]) throws -> Int {
    let operands = inputs.map { input in
      input.map {
        Operand(values[$0].type, constant: values[$0].constant.map { constants[$0].tensor })
      }
    }
    let first = values.count
    for type in try operation.body.outputTypes(for: operands) {
      values.append(Program.Value(type, name: "v\(values.count)"))
    }
    nodes.append(
      Program.Node(
        operation, name: "n\(nodes.count)", inputs: inputs, outputs: Array(first..<values.count)))
    return first
  }

  func program(_ outputs: [String: Int]) -> Program {
    // Inputs and constants are the first values.
    let order =
      inputs + values.indices.filter { values[$0].constant != nil }
      + values.indices.filter { values[$0].constant == nil && !inputs.contains($0) }
    var places = [Int](repeating: 0, count: order.count)
    for (place, value) in order.enumerated() { places[value] = place }
    return Program(
      values: order.map { values[$0] }, constants: constants,
      nodes: nodes.map {
        Program.Node(
          $0.operation, name: $0.name, inputs: $0.inputs.map { $0.map { places[$0] } },
          outputs: $0.outputs.map { places[$0] })
      }, inputs: inputs.map { places[$0] },
      outputs: outputs.sorted { $0.key < $1.key }.map {
        Program.Output(name: $0.key, value: places[$0.value])
      })
  }
}

// MARK: Products of codes

extension ProgramBuilder {
  /// The grid of activations.
  static let grid = Quantization.fixed(scale: 0.05, zeroPoint: -3)
  static let codes = OutputEncoding.quantized(.int8, scale: 0.05, zeroPoint: -3)

  /// Codes of weights with one scale.
  mutating func weights(
    _ shape: [Int], bits: Int = 8, _ generator: inout SeededGenerator
  ) throws -> Int {
    let width = BitWidth(bits)!
    return constant(
      try generator.tensor(
        shape, in: Int8(width.allCodes.lowerBound)...Int8(width.allCodes.upperBound)),
      .weights(bits: width, granularity: .perTensor))
  }

  /// A convolution with channels last, from codes to codes.
  mutating func convolution(
    _ input: Int, _ weights: Int, scale: Int, groups: Int = 1
  ) throws -> Int {
    try append(
      .convolution(
        Convolution(
          order: .channelsLast, strides: [1, 1], dilations: [1, 1], padding: .sameUpper,
          groups: groups, epilogue: Epilogue(output: Self.codes))), [input, weights, nil, scale])
  }

  /// A product with weights `[N, K]`, from codes to codes or numbers.
  mutating func product(
    _ input: Int, _ weights: Int, scale: Int, output: OutputEncoding = .float32
  ) throws -> Int {
    try append(
      .matrixMultiply(
        MatrixMultiply(rightLayout: .channelsFirst, epilogue: Epilogue(output: output))),
      [input, weights, nil, scale])
  }
}
