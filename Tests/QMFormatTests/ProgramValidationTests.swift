import QMFormat
import QMOperations
import QMTensor
import Testing

struct ProgramValidationTests {
  /// Each change makes a valid program invalid in one way.
  private static let damages: [(String, @Sendable (inout Program) throws -> Void)] = [
    ("a value read before it is defined", { $0.nodes[0].inputs[0] = $0.nodes[1].outputs[0] }),
    ("a value that is none", { $0.nodes[0].inputs[0] = 99 }),
    ("a negative value", { $0.nodes[0].inputs[0] = -1 }),
    ("a value defined twice", { $0.nodes[1].outputs = $0.nodes[0].outputs }),
    ("a node without outputs", { $0.nodes[1].outputs = [] }),
    ("an output that is no value", { $0.outputs[0].value = 99 }),
    ("no outputs", { $0.outputs = [] }),
    ("an output without a name", { $0.outputs[0].name = "" }),
    ("two outputs of one name", { $0.outputs.append($0.outputs[0]) }),
    ("an input without a name", { $0.values[0].name = "" }),
    ("inputs in another order", { $0.inputs = [1] }),
    ("a constant that is not where it says", { $0.values[1].constant = 2 }),
    ("a constant of another type", { $0.values[1].type.elementType = .uint8 }),
    ("an output of another type", { $0.values[7].type.elementType = .float32 }),
    ("an output of other extents", { $0.values[7].type.shape[3] = 5 }),
    (
      "an output on another grid",
      {
        $0.values[7].type.quantization = .fixed(scale: 0.06, zeroPoint: 4)
      }
    ),
    (
      "a scale that is not normal",
      {
        $0.values[0].type.quantization = .fixed(scale: .leastNonzeroMagnitude, zeroPoint: 0)
      }
    ),
    ("a negative scale", { $0.values[0].type.quantization = .fixed(scale: -1, zeroPoint: 0) }),
    (
      "a zero point that is no code",
      {
        $0.values[0].type.quantization = .fixed(scale: 1, zeroPoint: 200)
      }
    ),
    ("an input with a grid of the run", { $0.values[0].type.quantization = .dynamic(axes: 1) }),
    ("an extent beyond bounds", { $0.values[0].type.shape[1] = .fixed(1 << 50) }),
    (
      "a code beyond its width",
      {
        let quantization = Quantization.weights(
          bits: BitWidth(3)!, granularity: .perChannel(axis: 0))
        $0.constants[0].quantization = quantization
        $0.values[1].type.quantization = quantization
      }
    ),
    (
      "a scale of weights that is zero",
      {
        $0.constants[2].tensor = try Tensor([8], [Float](repeating: 0, count: 8))
      }
    ),
    (
      "a scale of weights that vanishes with the input's",
      {
        $0.values[0].type.quantization = .fixed(scale: 1e-20, zeroPoint: 0)
        $0.constants[2].tensor = try Tensor([8], [Float](repeating: 1e-20, count: 8))
      }
    ),
    (
      "a bias that lets the sum overflow",
      {
        $0.constants[1].tensor = try Tensor([8], [Int32](repeating: .max, count: 8))
      }
    ),
    (
      "the most negative bias",
      {
        $0.constants[1].tensor = try Tensor([8], [Int32](repeating: .min, count: 8))
      }
    ),
    (
      "an attribute beyond 32 bits",
      {
        $0.nodes[2].operation = .flatten(Flatten(axis: 1 << 40))
      }
    ),
    (
      "an attribute that is not a number",
      {
        $0.nodes[3].operation = .matrixMultiply(
          MatrixMultiply(
            rightLayout: .channelsFirst,
            epilogue: Epilogue(function: .clip(minimum: .nan, maximum: 6))))
      }
    ),
    (
      "more parts than outputs",
      {
        $0.nodes[2].operation = .split(Split(axis: 1, sizes: .equal(parts: 1 << 31 - 1)))
      }
    ),
    ("a measurement of no output", { $0.metadata.measurements[0].output = 1 }),
    ("a measurement that is not a number", { $0.metadata.measurements[0].value = .nan }),
    ("notes on too few nodes", { $0.metadata.notes.removeLast() }),
    ("half a digest", { $0.metadata.sourceDigest = [1, 2, 3] }),
  ]

  @Test func `A valid program is accepted`() throws {
    try smallNetwork().validate()
  }

  @Test(arguments: damages.indices)
  func `A program with one fault is refused`(index: Int) throws {
    let (name, damage) = Self.damages[index]
    var program = try smallNetwork()
    try damage(&program)
    #expect(throws: QMError.malformed(""), "\(name)") { try program.validate() }
  }

  @Test func `Accumulators are bounded to the last unit`() throws {
    // 255 · (127 · 2) per channel, and what is left for the bias.
    let weights = try Tensor([1, 2], [127, -127] as [Int8])
    let room = Int(Int32.max) - 255 * 254
    for (bias, isValid) in [(room, true), (room + 1, false), (-room, true), (-room - 1, false)] {
      let input = ValueType(.int8, [3, 2], .fixed(scale: 1, zeroPoint: 0))
      let constants = [
        Program.Constant(weights, .weights(bits: .eight, granularity: .perTensor)),
        Program.Constant(try Tensor([1], [Int32(bias)])),
        Program.Constant(try Tensor([1], [1] as [Float])),
      ]
      let program = Program(
        values: [Program.Value(input, name: "x")]
          + constants.enumerated().map { Program.Value($1.type, constant: $0) }
          + [Program.Value(ValueType(.float32, [3, 1]))],
        constants: constants,
        nodes: [
          Program.Node(
            .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), inputs: [0, 1, 2, 3],
            outputs: [4])
        ],
        inputs: [0], outputs: [Program.Output(name: "y", value: 4)])
      if isValid {
        try program.validate()
      } else {
        #expect(throws: QMError.malformed("")) { try program.validate() }
      }
    }
  }

  @Test func `Codes of recurrent layers are held to what products are`() throws {
    // 127 · 66,311 · 255 is the largest multiple below 2³¹.
    func program(
      depth: Int = 4, code: Int8 = 127, scale: Float = 1, scalesAreConstant: Bool = true
    ) throws -> Program {
      let width = Quantization.weights(bits: .eight, granularity: .perTensor)
      var constants = [
        Program.Constant(try Tensor([1, depth], [Int8](repeating: code, count: depth)), width),
        Program.Constant(try Tensor([1, 1], [1] as [Int8]), width),
        Program.Constant(try Tensor([1], [scale])),
      ]
      var values = [Program.Value(ValueType(.float32, [2, 1, .fixed(depth)]), name: "x")]
      if !scalesAreConstant {
        values.append(Program.Value(constants.removeLast().type, name: "scales"))
      }
      let inputCount = values.count
      values += constants.enumerated().map { Program.Value($1.type, constant: $0) }
      let scales = scalesAreConstant ? 3 : 1
      let weights = inputCount
      values += [
        Program.Value(ValueType(.float32, [2, 1, 1, 1])),
        Program.Value(ValueType(.float32, [1, 1, 1])),
      ]
      let layer = Recurrent(
        .simple, direction: .forward, functions: [.tanh], inputs: .roundedPerRow)
      return Program(
        values: values, constants: constants,
        nodes: [
          Program.Node(
            .recurrent(layer),
            inputs: [0, weights, weights + 1, nil, nil, nil, nil, nil, scales, scales],
            outputs: [4, 5])
        ],
        inputs: Array(0..<inputCount), outputs: [Program.Output(name: "y", value: 4)])
    }
    try program().validate()
    try program(depth: 66_311).validate()
    for program in [
      try program(depth: 66_312), try program(code: -128, scale: 0), try program(scale: .infinity),
      try program(scalesAreConstant: false),
    ] {
      #expect(throws: QMError.malformed("")) { try program.validate() }
    }
  }

  @Test func `A truth value is 0 or 1`() throws {
    let tensor = try Tensor(zeros: .bool, [2])
    let program = Program(
      values: [Program.Value(tensor.type, constant: 0)], constants: [Program.Constant(tensor)],
      nodes: [], inputs: [], outputs: [Program.Output(name: "y", value: 0)])
    try program.validate()
    tensor.buffer.base.storeBytes(of: 2, as: UInt8.self)
    #expect(throws: QMError.malformed("")) { try program.validate() }
  }
}
