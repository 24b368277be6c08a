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
  /// two with the same weights, and products.
  private static func program() throws -> Program {
    var generator = SeededGenerator(seed: 77)
    var builder = ProgramBuilder()
    let input = builder.input(
      "x", .int8, [.free("n"), .free("h"), .free("w"), 48], ProgramBuilder.grid)
    let scale = builder.constant(try Tensor([1], [0.002] as [Float]))
    let shared = try builder.weights([48, 3, 3, 48], &generator)
    var last = input
    last = try builder.convolution(
      last, builder.weights([96, 1, 1, 48], &generator), scale: scale)
    last = try builder.convolution(
      last, builder.weights([48, 1, 1, 96], bits: 4, &generator), scale: scale)
    last = try builder.convolution(last, shared, scale: scale)
    last = try builder.convolution(last, shared, scale: scale)
    last = try builder.convolution(
      last, builder.weights([48, 5, 1, 48], bits: 4, &generator), scale: scale)
    // Few channels and few rows: most of what kernels read is padding.
    last = try builder.convolution(
      last, builder.weights([48, 5, 5, 1], &generator), scale: scale, groups: 48)
    let few = try builder.convolution(
      last, builder.weights([3, 3, 3, 48], &generator), scale: scale)
    last = try builder.product(
      last, builder.weights([384, 48], &generator), scale: scale, output: ProgramBuilder.codes)
    last = try builder.product(
      last, builder.weights([320, 384], bits: 4, &generator), scale: scale)
    // What a front keeps in float is computed from codes.
    let spectrum = try builder.append(
      .dequantize(Dequantize()), [builder.weights([64, 1, 1, 48], &generator), scale])
    let real = try builder.append(.dequantize(Dequantize()), [input])
    let power = try builder.append(
      .convolution(
        Convolution(
          order: .channelsLast, strides: [1, 1], dilations: [1, 1], padding: .sameUpper, groups: 1)
      ), [real, spectrum])
    return builder.program(["few": few, "p": power, "y": last])
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
      #expect(compact.weightByteCount <= codes * 12 / 10, "\(kernels)")
      let standard = try Model(program, options: .init(kernels: kernels))
      #expect(standard.weightByteCount <= 3 * codes + real, "\(kernels)")
    }
  }

  @Test func memoryIsKnownBeforeTheFileIsOpened() throws {
    let bytes = try Self.program().encoded()
    for kernels in KernelSet.available {
      for memory in Model.Memory.allCases {
        let options = Model.Options(kernels: kernels, memory: memory)
        let needed = try Model.memoryNeeded(bytes: bytes, options: options)
        let taken = try Model(bytes: bytes, options: options).weightByteCount
        #expect(needed >= taken && needed * 10 <= taken * 11, "\(kernels), \(memory)")
      }
    }
  }

  @Test func whatFollowsFromShapesCountsAsMemory() throws {
    var builder = ProgramBuilder()
    let x = builder.input("x", .float32, [.free("n"), 3, 5])
    let extents = try builder.append(.shape(ShapeOperation(start: 1)), [x])
    let bytes = try builder.program(["y": extents]).encoded()
    #expect(try Model(bytes: bytes).weightByteCount > 0)
    #expect(try Model.memoryNeeded(bytes: bytes) >= Model(bytes: bytes).weightByteCount)
  }

  /// Convolutions of 3 × 3 with as many channels out as in, of the extents given, one behind the
  /// other.
  private static func convolutions(
    _ layers: [(channels: Int, extent: Int)], bits: Int
  ) throws -> Program {
    var generator = SeededGenerator(seed: 80)
    var builder = ProgramBuilder()
    let scale = builder.constant(try Tensor([1], [0.002] as [Float]))
    var outputs: [String: Int] = [:]
    for (index, layer) in layers.enumerated() {
      let extent = Shape.Axis.fixed(layer.extent)
      let input = builder.input(
        "x\(index)", .int8, [1, extent, extent, .fixed(layer.channels)], ProgramBuilder.grid)
      outputs["y\(index)"] = try builder.convolution(
        input, builder.weights([layer.channels, 3, 3, layer.channels], bits: bits, &generator),
        scale: scale)
    }
    return builder.program(outputs)
  }

  private static func weightByteCount(
    _ layers: [(channels: Int, extent: Int)], bits: Int
  ) throws -> Int {
    try Model(convolutions(layers, bits: bits), options: .init(kernels: .portable)).weightByteCount
  }

  @Test func convolutionsAreTransformedWhereThatSavesTime() throws {
    let codes = 64 * 9 * 64
    #expect(try Self.weightByteCount([(64, 32)], bits: 8) > 7 * codes)
    #expect(try Self.weightByteCount([(64, 32)], bits: 4) > 7 * codes)
    // Most of the only tile is beyond the edge.
    #expect(try Self.weightByteCount([(64, 1)], bits: 8) < 2 * codes)
  }

  /// Signs of gains that were measured: `make tune`.
  @Test func transformsSaveTimeWhereTheProcessorSaysSo() {
    func saves(_ name: String, _ channels: Int, _ extent: Int, hasFewBits: Bool = false) -> Bool {
      let costs = WinogradCosts.costs(KernelSet(rawValue: name)!)
      return costs.gain(
        channels: channels, outputs: channels, height: extent, width: extent,
        hasFewBits: hasFewBits) > 0
    }
    #expect(saves("avx2", 16, 32) && saves("avx2", 64, 32, hasFewBits: true))
    // Three quarters of the second tiles are beyond the edge.
    #expect(!saves("avx2", 64, 5))
    // Of few channels the transforms cost as much as the products; of few bits products cost less.
    #expect(!saves("avx2", 16, 32, hasFewBits: true))
    // Half of a vector would be empty, and bytes are multiplied twice as fast as words.
    #expect(!saves("avx512vnni", 16, 56) && !saves("avx512vnni", 32, 10))
    #expect(saves("avx512vnni", 64, 56) && saves("avx512vnni", 64, 56, hasFewBits: true))
    #expect(!saves("avxvnni", 16, 56) && saves("avxvnni", 32, 56))
  }

  @Test func whatTransformsTakeIsBounded() throws {
    // Each would take a megabyte more, and two bytes a code allow for one: where it saves the most.
    let large = 128 * 9 * 128
    let byteCount = try Self.weightByteCount([(128, 8), (128, 32), (128, 8), (128, 8)], bits: 8)
    #expect(byteCount > 10 * large && byteCount <= 3 * 4 * large)
  }

  @Test func sharedAndReleasedWeightsGiveTheSameBits() throws {
    var generator = SeededGenerator(seed: 78)
    let program = try Self.program()
    for extents in [[1, 5, 7, 48], [2, 3, 1, 48], [1, 1, 1, 48]] {
      let inputs = ["x": try generator.tensor(extents, in: Int8(-128)...127)]
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
      var builder = ProgramBuilder()
      let input = builder.input("x", .int8, [1, 700], ProgramBuilder.grid)
      let scale = builder.constant(try Tensor([1], [0.01] as [Float]))
      let first = try builder.product(
        input, builder.weights([2000, 700], &generator), scale: scale)
      let second = try builder.product(
        input, builder.weights([2000, 700], &generator), scale: scale)
      let program = builder.program(["a": first, "b": second])
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
      try await withTemporaryFolder { folder in
        let path = folder + "/products.qm"
        try Self.writeProducts(path)
        await #expect(processExitsWith: .success) { [path = path as String, threads] in
          let options = Model.Options(threadCount: threads, memory: .compact)
          // The code that opening takes is in memory then, and the peak so far is forgotten: but
          // for some pages that the system has not counted yet.
          _ = try Model(contentsOf: path, options: options)
          try? Data("5".utf8).write(to: URL(filePath: "/proc/self/clear_refs"))
          let before = try Self.status("VmRSS")
          guard try Self.status("VmHWM") - before < 300_000 else { return }
          let model = try Model(contentsOf: path, options: options)
          let peak = try Self.status("VmHWM") - before
          precondition(model.weightByteCount > 2_800_000)
          precondition(peak < 2_800_000 * 12 / 10, "\(peak)")
        }
      }
    }
  }
#endif
