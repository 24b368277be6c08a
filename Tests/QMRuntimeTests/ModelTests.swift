import Foundation
import QMFormat
import QMOperations
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

@Suite struct ModelTests {
  /// `y = relu(x · wᵀ)`, x `[n, 3]`, w `[2, 3]`.
  private func program() throws -> Program {
    let weights = try Tensor([2, 3], [Float(1), 2, 3, -1, -2, -3])
    let types = [
      ValueType(.float32, [.free("n"), 3]), ValueType(.float32, [2, 3]),
      ValueType(.float32, [.free("n"), 2]),
    ]
    return Program(
      values: [
        Program.Value(types[0], name: "x"), Program.Value(types[1], name: "w", constant: 0),
        Program.Value(types[2], name: "y"),
      ],
      constants: [Program.Constant(weights)],
      nodes: [
        Program.Node(
          .matrixMultiply(
            MatrixMultiply(
              rightLayout: .channelsFirst, epilogue: Epilogue(function: .relu))),
          name: "product", inputs: [0, 1], outputs: [2])
      ],
      inputs: [0], outputs: [Program.Output(name: "y", value: 2)])
  }

  @Test func runsEveryBatch() throws {
    let model = try Model(program())
    for batch in [1, 4, 2, 1, 7, 9, 4] {
      let x = try Tensor([batch, 3], (0..<batch * 3).map { Float($0) })
      let y = try #require(try model.run(["x": x])["y"])
      #expect(y.shape == [batch, 2])
      #expect(y.elements(as: Float.self)[0] == 8)
      #expect(y.elements(as: Float.self)[1] == 0)
    }
  }

  @Test func wrongInputsAreErrorsThatNameTheInput() throws {
    let model = try Model(program())
    let good = try Tensor([1, 3], [Float(1), 2, 3])
    let wrong: [[String: Tensor]] = try [
      [:], ["z": good], ["x": good, "z": good], ["x": Tensor([1, 2], [Float(1), 2])],
      ["x": Tensor([3], [Float(1), 2, 3])], ["x": Tensor([1, 3], [Int64(1), 2, 3])],
    ]
    for inputs in wrong {
      let error = #expect(throws: QMError.invalidInput("")) { try model.run(inputs) }
      #expect(error?.description.contains("'x'") == true)
    }
    #expect(try model.run(["x": good])["y"]?.elements(as: Float.self) == [14, 0])
    #expect(try model.run(["x": Tensor([0, 3], [Float]())])["y"]?.shape == [0, 2])
  }

  @Test func concurrentRunsDoNotMix() async throws {
    let model = try Model(program())
    try await withThrowingTaskGroup(of: Bool.self) { group in
      for task in 0..<8 {
        group.addTask {
          for run in 1...50 {
            let x = try Tensor([1, 3], [Float(task), Float(run), 1])
            let y = try model.run(["x": x])["y"]?.elements(as: Float.self)
            if y != [Float(task) + 2 * Float(run) + 3, 0] { return false }
          }
          return true
        }
      }
      for try await isRight in group { #expect(isRight) }
    }
  }

  @Test func bytesInMemoryAreReadAsAFileIs() throws {
    let bytes = try program().encoded()
    let x = ["x": try Tensor([1, 3], [Float(1), 2, 3])]
    let expected = try Model(program()).run(x)["y"]!
    func check(_ model: Model) throws { #expect(try model.run(x)["y"]!.isIdentical(to: expected)) }
    try check(Model(bytes: bytes))
    try check(Model(bytes: ArraySlice([0] + bytes).dropFirst()))
    try check(Model(bytes: bytes.withUnsafeBytes { Data($0) }))
    // Not contiguous.
    try check(
      Model(bytes: bytes.reversed().reversed() as ReversedCollection<ReversedCollection<[UInt8]>>))
    try bytes.withUnsafeBytes { try check(Model(bytes: $0)) }
    #expect(throws: QMError.malformed("")) { try Model(bytes: bytes.dropLast()) }
    #expect(throws: QMError.malformed("")) { try Model(bytes: []) }
    #expect(throws: QMError.malformed("")) { try Model.memoryNeeded(bytes: bytes.dropLast()) }
  }

  @Test func memoryOfARunThatContentDecidesIsNotKnown() throws {
    var builder = ProgramBuilder()
    let x = builder.input("x", .float32, [.free("n")])
    let y = try builder.append(.nonZero(NonZero()), [x])
    let session = Session(try Model(builder.program(["y": y])))
    #expect(throws: QMError.unsupported("")) { try session.memoryNeeded(for: [[4]]) }
    #expect(throws: QMError.invalidInput("")) { try session.memoryNeeded(for: [[4, 1]]) }
    #expect(throws: QMError.invalidInput("")) { try session.memoryNeeded(for: []) }
  }

  @Test func aFileThatIsNoModelIsRefused() throws {
    #expect(throws: QMError.cannotOpen("")) { try Model(contentsOf: "/nowhere/at/all.qm") }
    #expect(throws: QMError.malformed("")) { try Model(contentsOf: #filePath) }
  }

  /// A 3 × 3 convolution of codes, whose weights kernels transform, and a product with weights of
  /// 4 bits beside it.
  private func integers() throws -> Program {
    var generator = SeededGenerator(seed: 5)
    let codes = Quantization.fixed(scale: 0.02, zeroPoint: 3)
    let filter = Program.Constant(
      try generator.tensor([24, 3, 3, 20], in: Int8(-128)...127),
      .weights(bits: .eight, granularity: .perTensor))
    let matrix = Program.Constant(
      try generator.tensor([30, 40], in: Int8(-8)...7),
      .weights(bits: BitWidth(4)!, granularity: .perTensor))
    let scale = Program.Constant(try Tensor([1], [Float(0.01)]))
    let constants = [filter, matrix, scale]
    let types = [
      ValueType(.int8, [.free("n"), .free("h"), .free("w"), 20], codes),
      ValueType(.int8, [.free("n"), 40], codes), filter.type, matrix.type, scale.type,
      ValueType(.float32, [.free("n"), .free("h"), .free("w"), 24]),
      ValueType(.float32, [.free("n"), 30]),
    ]
    let names = ["image", "row", "filter", "matrix", "scale", "features", "products"]
    let convolution = Convolution(
      order: .channelsLast, strides: [1, 1], dilations: [1, 1], padding: .sameUpper, groups: 1)
    var values: [Program.Value] = []
    for (type, name) in zip(types, names) {
      let number = values.count - 2
      let constant = constants.indices.contains(number) ? number : nil
      values.append(Program.Value(type, name: name, constant: constant))
    }
    return Program(
      values: values, constants: constants,
      nodes: [
        Program.Node(
          .convolution(convolution), name: "c", inputs: [0, 2, nil, 4], outputs: [5]),
        Program.Node(
          .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: "m",
          inputs: [1, 3, nil, 4], outputs: [6]),
      ],
      inputs: [0, 1],
      outputs: [
        Program.Output(name: "features", value: 5), Program.Output(name: "products", value: 6),
      ])
  }

  @Test func formsOfMemoryGiveTheSameBits() throws {
    var generator = SeededGenerator(seed: 6)
    let program = try integers()
    for (batch, height, width) in [(1, 9, 7), (2, 1, 1), (3, 12, 5)] {
      let inputs = [
        "image": try generator.tensor([batch, height, width, 20], in: Int8(-128)...127),
        "row": try generator.tensor([batch, 40], in: Int8(-128)...127),
      ]
      let expected = try Model(program, options: .init(kernels: .reference)).run(inputs)
      for kernels in KernelSet.available {
        for memory in Model.Memory.allCases {
          for threads in 1...3 {
            let model = try Model(
              program, options: .init(threadCount: threads, kernels: kernels, memory: memory))
            let outputs = try model.run(inputs)
            for name in expected.keys {
              #expect(
                outputs[name]?.isIdentical(to: expected[name]!) == true,
                "\(name), \(kernels), \(memory), \(threads) threads")
            }
          }
        }
      }
    }
    // The caller's own program keeps its codes.
    #expect(try integers() == program)
  }

  /// A product of what extents decide: its weights are packed, and their elements gone, by then.
  @Test func productsOfWhatExtentsDecideHaveTheirWeights() throws {
    let program = Program(
      values: [
        .init(ValueType(.float32, [.free("n"), 2]), name: "x"),
        .init(ValueType(.float32, []), constant: 0),
        .init(ValueType(.float32, [3, 2]), constant: 1),
        .init(ValueType(.int64, [2])), .init(ValueType(.float32, [.free("n"), 2])),
        .init(ValueType(.float32, [.free("n"), 3]), name: "y"),
      ],
      constants: [
        .init(try Tensor([], [Float(0.5)])),
        .init(try Tensor([3, 2], [Float(1), 2, 3, 4, 5, 6])),
      ],
      nodes: [
        .init(.shape(ShapeOperation()), inputs: [0], outputs: [3]),
        .init(.fill(Fill()), inputs: [3, 1], outputs: [4]),
        .init(
          .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), inputs: [4, 2],
          outputs: [5]),
      ], inputs: [0], outputs: [.init(name: "y", value: 5)])
    for kernels in KernelSet.available {
      let model = try Model(program, options: Model.Options(kernels: kernels))
      for count in [1, 2, 9] {
        let y = try model.run(["x": Tensor(zeros: .float32, [count, 2])])["y"]
        #expect(y?.elements(as: Float.self) == (0..<count).flatMap { _ in [Float(1.5), 3.5, 5.5] })
      }
    }
  }
}
