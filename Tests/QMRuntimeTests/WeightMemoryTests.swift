import CAllocationCount
import Foundation
import QMFormat
import QMOperations
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// Bytes that weights take while a model is open.
@Suite struct WeightMemoryTests {
  /// A network of weights of 8 and of 4 bits, `[n, h, w, 48]` in codes: a convolution of each kind,
  /// the two of one window with the same weights, and products.
  private static func program() throws -> Program {
    var generator = SeededGenerator(seed: 77)
    let grid = Quantization.fixed(scale: 0.05, zeroPoint: -3)
    let epilogue = Epilogue(output: .quantized(.int8, scale: 0.05, zeroPoint: -3))
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
          constant: constants.count - 1))
      return values.count - 1
    }
    func weights(_ shape: [Int], bits: Int) throws -> Int {
      let width = BitWidth(bits)!
      return constant(
        try generator.tensor(
          shape, in: Int8(width.allCodes.lowerBound)...Int8(width.allCodes.upperBound)),
        .weights(bits: width, granularity: .perTensor))
    }
    func append(_ operation: QMOperations.Operation, _ inputs: [Int?], _ type: ValueType) -> Int {
      let output = value(type)
      nodes.append(
        Program.Node(operation, name: "n\(nodes.count)", inputs: inputs, outputs: [output]))
      return output
    }
    let image = ValueType(.int8, [.free("n"), .free("h"), .free("w"), 48], grid)
    let input = value(image)
    let scale = constant(try Tensor([1], [0.002] as [Float]))
    let once = try weights([96, 1, 1, 48], bits: 8)
    let fewBits = try weights([48, 1, 1, 96], bits: 4)
    let shared = try weights([48, 3, 3, 48], bits: 8)
    let across = try weights([48, 5, 1, 48], bits: 4)
    let first = try weights([384, 48], bits: 8)
    let second = try weights([320, 384], bits: 4)
    let spectrum = try weights([64, 1, 1, 48], bits: 8)
    func convolution(_ input: Int, _ weights: Int, channels: Int) -> Int {
      var type = image
      type.shape.axes[3] = .fixed(channels)
      return append(
        .convolution(
          Convolution(
            order: .channelsLast, strides: [1, 1], dilations: [1, 1], padding: .sameUpper,
            groups: 1, epilogue: epilogue)), [input, weights, nil, scale], type)
    }
    var last = convolution(input, once, channels: 96)
    last = convolution(last, fewBits, channels: 48)
    last = convolution(last, shared, channels: 48)
    last = convolution(last, shared, channels: 48)
    last = convolution(last, across, channels: 48)
    let rows = ValueType(.int8, [.free("n"), .free("h"), .free("w"), 384], grid)
    last = append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst, epilogue: epilogue)),
      [last, first, nil, scale], rows)
    last = append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), [last, second, nil, scale],
      ValueType(.float32, [.free("n"), .free("h"), .free("w"), 320]))
    // What a front keeps in float is computed from codes while the model is opened.
    let numbers = append(
      .dequantize(Dequantize()), [spectrum, scale], ValueType(.float32, [64, 1, 1, 48]))
    let real = append(
      .dequantize(Dequantize()), [input],
      ValueType(.float32, [.free("n"), .free("h"), .free("w"), 48]))
    let power = append(
      .convolution(
        Convolution(
          order: .channelsLast, strides: [1, 1], dilations: [1, 1], padding: .sameUpper, groups: 1)
      ), [real, numbers], ValueType(.float32, [.free("n"), .free("h"), .free("w"), 64]))
    return Program(
      values: values, constants: constants, nodes: nodes, inputs: [input],
      outputs: [Program.Output(name: "y", value: last), Program.Output(name: "p", value: power)])
  }

  private static func codeCount(_ program: Program) -> Int {
    program.constants.map(\.tensor).filter { $0.elementType == .int8 }
      .reduce(0) { $0 + $1.elementCount }
  }

  @Test func weightsTakeWhatTheFormOfMemoryAllows() throws {
    let program = try Self.program()
    let codes = Self.codeCount(program)
    // Numbers of four bytes in the place of codes.
    let real = 4 * 64 * 48
    for kernels in KernelSet.available where kernels != .reference {
      let compact = try Model(program, options: .init(kernels: kernels, memory: .compact))
      #expect(compact.weightByteCount <= codes * 12 / 10 + real, "\(kernels)")
      let standard = try Model(program, options: .init(kernels: kernels))
      #expect(standard.weightByteCount <= 3 * codes + real, "\(kernels)")
    }
  }

  @Test func sharedAndReleasedWeightsGiveTheSameBits() throws {
    var generator = SeededGenerator(seed: 78)
    let program = try Self.program()
    for extents in [[1, 5, 7, 48], [2, 3, 1, 48], [1, 1, 1, 48]] {
      let inputs = ["v0": try generator.tensor(extents, in: Int8(-128)...127)]
      let expected = try Model(program, options: .init(kernels: .reference)).run(inputs)
      for kernels in KernelSet.available {
        for memory in Model.Memory.allCases {
          let outputs = try Model(program, options: .init(kernels: kernels, memory: memory))
            .run(inputs)
          for name in expected.keys {
            #expect(
              outputs[name]?.isIdentical(to: expected[name]!) == true,
              "\(name), \(extents), \(kernels), \(memory)")
          }
        }
      }
    }
  }
}

#if os(Linux)
  extension WeightMemoryTests {
    /// A file with two products of `[2000, 700]` weights of 8 bits.
    private static func writeProducts(_ path: String) throws {
      var generator = SeededGenerator(seed: 79)
      let weights = Quantization.weights(bits: .eight, granularity: .perTensor)
      let grid = Quantization.fixed(scale: 0.05, zeroPoint: 1)
      var constants: [Program.Constant] = []
      for _ in 0..<2 {
        constants.append(
          Program.Constant(try generator.tensor([2000, 700], in: Int8(-128)...127), weights))
      }
      constants.append(Program.Constant(try Tensor([1], [0.01] as [Float])))
      let values =
        [Program.Value(ValueType(.int8, [1, 700], grid), name: "x")]
        + constants.enumerated().map { Program.Value($1.type, constant: $0) }
        + [Program.Value(ValueType(.float32, [1, 2000])), .init(ValueType(.float32, [1, 2000]))]
      let product = QMOperations.Operation.matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst))
      let program = Program(
        values: values, constants: constants,
        nodes: [
          Program.Node(product, inputs: [0, 1, nil, 3], outputs: [4]),
          Program.Node(product, inputs: [0, 2, nil, 3], outputs: [5]),
        ], inputs: [0],
        outputs: [Program.Output(name: "a", value: 4), Program.Output(name: "b", value: 5)])
      try Data(program.encoded()).write(to: URL(filePath: path))
    }

    /// A line of what the system says of this process, in bytes.
    private static func status(_ key: String) throws -> Int {
      let text = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
      let line = text.split(separator: "\n").first { $0.hasPrefix(key) }
      let number = line?.split(whereSeparator: \.isWhitespace).dropFirst().first
      return try 1024 * #require(number.flatMap { Int($0) })
    }

    /// Sections are inflated part by part, and codes go as they are packed: at no time are there
    /// much more than the weights themselves.
    @Test(.enabled(if: allocation_count_is_available()), arguments: [1, 2])
    func openingAFileTakesLittleMoreThanItsWeights(threads: Int) async throws {
      await #expect(processExitsWith: .success) { [threads] in
        try withTemporaryFolder { folder in
          let path = folder + "/products.qm"
          try Self.writeProducts(path)
          let options = Model.Options(threadCount: threads, memory: .compact)
          // The code that opening takes is in memory then, and the peak so far is forgotten.
          _ = try Model(contentsOf: path, options: options)
          try? Data("5".utf8).write(to: URL(filePath: "/proc/self/clear_refs"))
          let before = try Self.status("VmRSS")
          guard try Self.status("VmHWM") - before < 100_000 else { return }
          let model = try Model(contentsOf: path, options: options)
          let peak = try Self.status("VmHWM") - before
          precondition(model.weightByteCount > 2_800_000)
          precondition(peak < 2_800_000 * 12 / 10, "\(peak)")
        }
      }
    }
  }
#endif
