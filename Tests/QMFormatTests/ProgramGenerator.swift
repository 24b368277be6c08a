import QMFormat
import QMOperations
import QMTensor
import QMTestSupport

/// Programs of every operation with attributes of every form. They are numbered as a program must
/// be; their types need not make sense.
struct ProgramGenerator {
  var random: SeededGenerator
  /// How many loops hold what is drawn.
  private var loopDepth = 0

  init(seed: UInt64) { random = SeededGenerator(seed: seed) }

  mutating func number(_ range: ClosedRange<Int>) -> Int { .random(in: range, using: &random) }
  mutating func flag() -> Bool { .random(using: &random) }
  mutating func float() -> Float {
    [0, 1, -1, .infinity, -.infinity, .leastNonzeroMagnitude, .random(in: -9...9, using: &random)]
      .randomElement(using: &random)!
  }
  mutating func integer() -> Int {
    [0, 1, -1, Int(Int32.max), Int(Int32.min), number(-300...300)].randomElement(using: &random)!
  }
  mutating func list() -> [Int] {
    var list: [Int] = []
    for _ in 0..<number(0...4) { list.append(integer()) }
    return list
  }
  mutating func text() -> String {
    ["", "x", "größe/höhe", "\u{0}\n", String(repeating: "long", count: 40), "n\(number(0...99))"]
      .randomElement(using: &random)!
  }

  mutating func elementType() -> ElementType { ElementType.allCases.randomElement(using: &random)! }
  mutating func zeroPoint() -> Int32 { Int32(integer()) }

  mutating func function() -> UnaryFunction {
    let functions: [UnaryFunction] = (0..<33 as Range<UInt8>).compactMap { code in
      for count in 0...2 {
        let parameters = (0..<count).map { _ in float() }
        if let function = UnaryFunction(code: code, parameters: parameters) { return function }
      }
      return nil
    }
    return functions.randomElement(using: &random)!
  }

  /// An operation whose attributes are anything that a file may say.
  mutating func operation(_ opcode: Opcode) -> Operation {
    while true {
      // Refused where attributes contradict each other: a transposed convolution without gaps.
      if let operation = try? Operation(opcode, visitedBy: &self) { return operation }
    }
  }

  mutating func type() -> ValueType {
    let quantization: Quantization =
      switch number(0...3) {
      case 0: .none
      case 1: .fixed(scale: float(), zeroPoint: zeroPoint())
      case 2: .dynamic(axes: number(0...9))
      default: .weights(bits: BitWidth(number(2...8))!, granularity: granularity())
      }
    var axes: [Shape.Axis] = []
    for _ in 0..<number(0...5) {
      let name = ["", "batch", "width", "Länge"].randomElement(using: &random)!
      axes.append(flag() ? .free(name) : .fixed(number(0...(1 << 40))))
    }
    return ValueType(elementType(), Shape(axes), quantization)
  }

  mutating func granularity() -> Granularity {
    switch number(0...2) {
    case 0: .perTensor
    case 1: .perChannel(axis: number(0...3))
    default: .perGroup(axis: number(0...3), size: number(1...200))
    }
  }

  mutating func constant() throws -> Program.Constant {
    let elementType = elementType()
    let shape = (0..<number(0...3)).map { _ in number(0...7) } + [number(0...9) == 0 ? 1100 : 3]
    let tensor = try Tensor(zeros: elementType, shape)
    let bytes = UnsafeMutableRawBufferPointer(start: tensor.buffer.base, count: tensor.byteCount)
    guard elementType == .int8, flag() else {
      let spread = number(0...255)
      for index in bytes.indices { bytes[index] = UInt8(number(0...spread)) }
      return Program.Constant(tensor)
    }
    let width = BitWidth(number(2...8))!
    let codes = flag() ? width.allCodes : width.symmetricCodes
    for index in bytes.indices {
      bytes[index] = UInt8(bitPattern: Int8(Int32.random(in: codes, using: &random)))
    }
    return Program.Constant(tensor, .weights(bits: width, granularity: granularity()))
  }

  /// A program with one node of each given operation.
  mutating func program(_ opcodes: [Opcode]) throws -> Program {
    var values: [Program.Value] = []
    for index in 0..<number(0...3) { values.append(Program.Value(type(), name: "input \(index)")) }
    let inputs = Array(values.indices)
    var constants: [Program.Constant] = []
    for index in 0..<number(1...9) {
      constants.append(try constant())
      values.append(Program.Value(constants[index].type, name: text(), constant: index))
    }
    var nodes: [Program.Node] = []
    for opcode in opcodes {
      let first = values.count
      let operands = (0..<number(0...5)).map { _ in flag() ? number(0...(first - 1)) : nil }
      for _ in 0..<number(1...3) { values.append(Program.Value(type(), name: text())) }
      nodes.append(
        Program.Node(
          operation(opcode), name: text(), inputs: operands,
          outputs: Array(first..<values.count)))
    }
    let outputs = (0..<number(1...3)).map { index in
      Program.Output(name: "\(text()) \(index)", value: number(0...(values.count - 1)))
    }
    return Program(
      values: values, constants: constants, nodes: nodes, inputs: inputs, outputs: outputs,
      metadata: flag() ? Program.Metadata() : metadata(outputs.count, nodes.count))
  }

  mutating func metadata(_ outputCount: Int, _ nodeCount: Int) -> Program.Metadata {
    Program.Metadata(
      producer: text(), sourceName: text(),
      sourceDigest: flag() ? [] : (0..<32).map { _ in UInt8(number(0...255)) },
      recipe: [.init(text(), text()), .init("bits", "4")],
      measurements: (0..<number(0...3)).map { _ in
        .init(
          output: number(0...(outputCount - 1)), part: flag() ? nil : part(),
          Program.Metadata.Measure.allCases.randomElement(using: &random)!, float(),
          sampleCount: number(0...999))
      },
      inputKeys: [text()], outputKeys: [text(), text()],
      notes: (0..<nodeCount).map { _ in
        .init(ExecutionMode.allCases.randomElement(using: &random)!, reason: text())
      },
      entries: [.init("labels", text())])
  }

  private mutating func part() -> Program.Metadata.Part {
    var part = Program.Metadata.Part(
      value: flag() ? "" : text(),
      form: Program.Metadata.Part.Form.allCases.randomElement(using: &random)!,
      isNextStep: flag())
    for _ in 0..<number(0...2) {
      let first = number(0...99)
      part.ranges.append(first..<first + number(0...99))
    }
    if !part.ranges.isEmpty || part.form == .classLogOdds { part.axis = -number(1...4) }
    return part
  }
}

/// Gives every attribute a value of its kind.
extension ProgramGenerator: AttributeVisitor {
  mutating func visit(_ name: String, _ value: inout Bool) { value = flag() }
  mutating func visit(_ name: String, _ value: inout Int) { value = integer() }
  mutating func visit(_ name: String, _ value: inout [Int]) { value = list() }
  mutating func visit(_ name: String, _ value: inout Float) { value = float() }

  mutating func visit<Code: RawRepresentable<UInt8> & CaseIterable>(
    _ name: String, _ value: inout Code
  ) {
    value = Code.allCases.randomElement(using: &random)!
  }

  mutating func visit(_ name: String, _ value: inout UnaryFunction?) {
    value = flag() ? function() : nil
  }

  mutating func visit(_ name: String, _ value: inout [UnaryFunction]) {
    value = (0..<number(0...6)).map { _ in function() }
  }

  mutating func visit(_ name: String, _ value: inout OutputEncoding) {
    value = flag() ? .float32 : .quantized(elementType(), scale: float(), zeroPoint: zeroPoint())
  }

  mutating func visit(_ name: String, _ value: inout [LoopNode]) throws(QMError) {
    loopDepth += 1
    value = []
    for _ in 0..<number(0...3) {
      let opcode = Opcode.allCases.randomElement(using: &random)!
      guard opcode != .loop || loopDepth < Loop.deepest else { continue }
      value.append(
        LoopNode(
          try Operation(opcode, visitedBy: &self),
          inputs: (0..<number(0...4)).map { _ in flag() ? number(0...9) : nil },
          outputCount: number(1...3)))
    }
    loopDepth -= 1
  }

  mutating func visitPresence(of name: String, _ isPresent: inout Bool) { isPresent = flag() }

  func malformed(_ message: String) -> QMError { .malformed(message) }
}

/// A small network that is valid in every respect: inputs int8 codes and weights of 4 and 3 bits,
/// a bias, a free batch axis, scales, outputs float32.
func smallNetwork(depth: Int = 12, seed: UInt64 = 1) throws -> Program {
  var random = SeededGenerator(seed: seed)
  func codes(_ shape: [Int], _ limit: Int8) throws -> Tensor {
    let count = shape.reduce(1, *)
    return try Tensor(
      shape, (0..<count).map { _ in Int8.random(in: -limit...limit, using: &random) })
  }
  func floats(_ count: Int) throws -> Tensor {
    try Tensor([count], (0..<count).map { _ in Float.random(in: 0.001...0.01, using: &random) })
  }
  let weights = { (bits: Int) in
    Quantization.weights(bits: BitWidth(bits)!, granularity: .perChannel(axis: 0))
  }
  let constants = [
    Program.Constant(try codes([8, 1, 3, 3], 7), weights(4)),
    Program.Constant(try Tensor([8], (0..<8).map { Int32($0 * 1000 - 4000) })),
    Program.Constant(try floats(8)),
    Program.Constant(try codes([depth, 8], 3), weights(3)),
    Program.Constant(try floats(depth)),
    Program.Constant(try floats(depth)),
  ]
  let image = ValueType(
    .int8, [.free("batch"), 1, 6, 6], .fixed(scale: 1 / 64, zeroPoint: -3))
  let hidden = OutputEncoding.quantized(.int8, scale: 0.05, zeroPoint: 4)
  let convolution = Convolution(
    order: .channelsFirst, strides: [1, 1], dilations: [1, 1],
    padding: .explicit(before: [0, 0], after: [0, 0]), groups: 1,
    epilogue: Epilogue(function: .relu, output: hidden))
  let product = MatrixMultiply(
    rightLayout: .channelsFirst,
    epilogue: Epilogue(function: .clip(minimum: 0, maximum: 6), output: .float32))
  let pooling = Pooling(
    kind: .averageOfInside, order: .channelsFirst, window: [4, 4], strides: [1, 1],
    dilations: [1, 1], padding: .explicit(before: [0, 0], after: [0, 0]), roundsUp: false,
    output: hidden)
  var values = [Program.Value(image, name: "image")]
  for (index, constant) in constants.enumerated() {
    values.append(Program.Value(constant.type, name: "constant \(index)", constant: index))
  }
  values += [
    Program.Value(
      ValueType(.int8, [.free("batch"), 8, 4, 4], hidden.quantization), name: "features"),
    Program.Value(ValueType(.int8, [.free("batch"), 8, 1, 1], hidden.quantization), name: "mean"),
    Program.Value(ValueType(.int8, [.free("batch"), 8], hidden.quantization), name: "flat"),
    Program.Value(ValueType(.float32, [.free("batch"), .fixed(depth)]), name: "scores"),
  ]
  let first = 1 + constants.count
  return Program(
    values: values, constants: constants,
    nodes: [
      Program.Node(
        .convolution(convolution), name: "features", inputs: [0, 1, 2, 3], outputs: [first]),
      Program.Node(.pooling(pooling), name: "mean", inputs: [first], outputs: [first + 1]),
      Program.Node(
        .flatten(Flatten(axis: 1)), name: "flat", inputs: [first + 1], outputs: [first + 2]),
      Program.Node(
        .matrixMultiply(product), name: "scores", inputs: [first + 2, 4, 5, 6],
        outputs: [first + 3]),
    ],
    inputs: [0], outputs: [Program.Output(name: "scores", value: first + 3)],
    metadata: Program.Metadata(
      producer: "test", sourceName: "small.onnx", recipe: [.init("bits", "4")],
      measurements: [.init(output: 0, .signalToNoise, 31.5, sampleCount: 8)],
      inputKeys: ["image"], outputKeys: ["scores"],
      notes: [
        .init(.integer), .init(.integer), .init(.move), .init(.integer, reason: "last product"),
      ]))
}

func buffer(_ bytes: [UInt8]) throws -> Buffer { try bytes.withUnsafeBytes(Buffer.copying) }
