import CAllocationCount
import QMFormat
import QMOperations
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

@Suite struct SessionInPlaceTests {
  /// int8 `[1, 9, 9, 8]`: a convolution of each kind, an addition, a pooling, a table and a product.
  private func program() throws -> Program {
    var generator = SeededGenerator(seed: 41)
    let grid = Quantization.fixed(scale: 0.05, zeroPoint: -3)
    let epilogue = Epilogue(output: .quantized(.int8, scale: 0.05, zeroPoint: -3))
    func codes(_ shape: [Int]) throws -> Tensor {
      let count = shape.reduce(1, *)
      return try Tensor(
        shape, (0..<count).map { _ in Int8.random(in: -90...90, using: &generator) })
    }
    var values: [Program.Value] = []
    var constants: [Program.Constant] = []
    var nodes: [Program.Node] = []
    func value(_ type: ValueType) -> Int {
      values.append(Program.Value(type, name: "v\(values.count)"))
      return values.count - 1
    }
    func constant(_ tensor: Tensor, _ quantization: Quantization = .none) -> Int {
      constants.append(Program.Constant(tensor, quantization))
      values.append(
        Program.Value(
          ValueType(tensor.elementType, Shape(tensor.shape), quantization),
          name: "v\(values.count)", constant: constants.count - 1))
      return values.count - 1
    }
    func append(_ operation: Operation, _ inputs: [Int?], _ type: ValueType) -> Int {
      let output = value(type)
      nodes.append(
        Program.Node(operation, name: "n\(nodes.count)", inputs: inputs, outputs: [output]))
      return output
    }
    let weights = Quantization.weights(bits: .eight, granularity: .perTensor)
    let scale = constant(try Tensor([1], [0.002] as [Float]))
    func convolution(_ input: Int, window: [Int], strides: [Int], groups: Int, _ extent: Int)
      throws -> Int
    {
      let codes = constant(try codes([8] + window + [8 / groups]), weights)
      return append(
        .convolution(
          Convolution(
            order: .channelsLast, strides: strides, dilations: [1, 1], padding: .sameUpper,
            groups: groups, epilogue: epilogue)), [input, codes, nil, scale],
        ValueType(.int8, [1, .fixed(extent), .fixed(extent), 8], grid))
    }
    let image = ValueType(.int8, [1, 9, 9, 8], grid)
    let input = value(image)
    let direct = try convolution(input, window: [5, 3], strides: [1, 1], groups: 1, 9)
    let winograd = try convolution(direct, window: [3, 3], strides: [1, 1], groups: 1, 9)
    let depthwise = try convolution(winograd, window: [3, 3], strides: [1, 1], groups: 8, 9)
    let sum = append(
      .binary(Binary(.add, output: .quantized(.int8, scale: 0.05, zeroPoint: -3))),
      [direct, depthwise], image)
    let pointwise = try convolution(sum, window: [1, 1], strides: [1, 1], groups: 1, 9)
    let product = constant(try codes([5, 8]), weights)
    let output = append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)),
      [pointwise, product, nil, scale], ValueType(.float32, [1, 9, 9, 5]))
    // Inputs and constants are the first values.
    let order =
      [input] + values.indices.filter { values[$0].constant != nil }
      + values.indices.filter { $0 != input && values[$0].constant == nil }
    func place(_ value: Int) -> Int { order.firstIndex(of: value)! }
    let moved = nodes.map {
      Program.Node(
        $0.operation, name: $0.name, inputs: $0.inputs.map { $0.map(place) },
        outputs: $0.outputs.map(place))
    }
    return Program(
      values: order.map { values[$0] }, constants: constants, nodes: moved,
      inputs: [place(input)], outputs: [Program.Output(name: "y", value: place(output))])
  }

  @Test(arguments: [1, 2]) func givesTheBytesOfARunAndAllocatesNothing(threads: Int) throws {
    let model = try Model(program(), options: Model.Options(threadCount: threads))
    let session = Session(model)
    try session.prepare([[1, 9, 9, 8]])
    #expect(session.outputExtents == [[1, 9, 9, 5]])
    for seed: UInt64 in [1, 2, 3] {
      var generator = SeededGenerator(seed: seed)
      let codes = (0..<648).map { _ in Int8.random(in: -128...127, using: &generator) }
      let expected = try model.run([model.inputs[0].name: Tensor([1, 9, 9, 8], codes)])["y"]!
      try session.runInPlace()
      session.withInput(0) { bytes in codes.withUnsafeBytes { bytes.copyMemory(from: $0) } }
      let before = allocation_count()
      try session.runInPlace()
      // With several threads, each loop that they share takes a closure's memory.
      if allocation_count_is_available(), threads == 1 {
        #expect(allocation_count() == before)
      }
      session.withOutput(0) { bytes in
        #expect(bytes.elementsEqual(expected.bytes))
      }
    }
  }

  /// x `[n]` in two rows where the rate is 2, and in three elsewhere.
  private func switched() throws -> Program {
    var builder = ProgramBuilder()
    let x = builder.input("x", .float32, [.free("n")])
    let rate = builder.input("rate", .int64, [])
    let (two, three) = (try builder.constant([2, -1]), try builder.constant([3, -1]))
    let number = builder.constant(try Tensor([], [Int64(2)]))
    let isTwo = try builder.append(.comparison(Compare(.equal)), [rate, number])
    let whenTrue = try builder.append(.reshape(Reshape()), [x, two])
    let whenFalse = try builder.append(.reshape(Reshape()), [x, three])
    let y = try builder.append(.choice(Choice()), [isTwo, whenTrue, whenFalse])
    return builder.program(["y": y])
  }

  @Test func anInputThatChoosesABranchIsFollowed() throws {
    let session = Session(try Model(switched()))
    // The zero that the memory holds at first chooses three rows, which 4 elements do not fill.
    try session.prepare([[4], []])
    #expect(session.outputExtents == [])
    #expect(session.withOutput(0) { $0.count } == 0)
    #expect(throws: QMError.malformed("")) { try session.runInPlace() }
    func run(_ rate: Int64) throws {
      session.withInput(1) { $0.storeBytes(of: rate, as: Int64.self) }
      try session.runInPlace()
    }
    try run(2)
    #expect(session.outputExtents == [[2, 2]])
    // What the language makes once for a type is made by the first run that finds its plan.
    try session.runInPlace()
    let before = allocation_count()
    try session.runInPlace()
    if allocation_count_is_available() { #expect(allocation_count() == before) }
    #expect(throws: QMError.malformed("")) { try run(5) }

    try session.prepare([[6], []])
    session.withInput(0) { bytes in
      for index in 0..<6 {
        bytes.storeBytes(of: Float(index), toByteOffset: 4 * index, as: Float.self)
      }
    }
    for (rate, extents) in [(Int64(2), [2, 3]), (5, [3, 2]), (2, [2, 3])] {
      try run(rate)
      #expect(session.outputExtents == [extents])
      session.withOutput(0) { bytes in
        #expect(Array(bytes.bindMemory(to: Float.self)) == [0, 1, 2, 3, 4, 5])
      }
    }
  }

  @Test func extentsThatDoNotFitAreRefused() throws {
    let session = Session(try Model(program()))
    #expect(throws: QMError.invalidInput("")) { try session.prepare([]) }
    #expect(throws: QMError.invalidInput("")) { try session.prepare([[1, 9, 8, 8]]) }
  }
}
