import QMFormat
import QMOperations
import QMReport
import QMRuntime
import QMTensor
import Testing

@Suite struct SeededInputsTests {
  @Test func axesOfOneNameHaveOneExtent() throws {
    let types: [ValueType] = [
      ValueType(.float32, [.free("batch"), .free("n")]),
      ValueType(.float32, [2, .free("batch"), .free("n")]),
    ]
    let program = Program(
      values: [
        .init(types[0], name: "x"), .init(types[1], name: "state"), .init(types[1], name: "y"),
      ], constants: [],
      nodes: [.init(.binary(Binary(.add)), inputs: [0, 1], outputs: [2])], inputs: [0, 1],
      outputs: [.init(name: "y", value: 2)])
    let tensors = try SeededInputs(Model(program)).tensors(seed: 1)
    #expect(tensors["state"]?.shape == [2, 1, 32])
  }

  /// Only rows of 7 fit, which nobody would try; the file says so.
  @Test func theSampleThatAFileRemembersIsTried() throws {
    func program(_ entries: [Program.Metadata.Entry]) throws -> Program {
      var metadata = Program.Metadata(producer: "test")
      metadata.entries = entries
      return Program(
        values: [
          .init(ValueType(.float32, [.free("n"), .free("m")]), name: "x"),
          .init(ValueType(.int32, [.free("k")]), name: "which"),
          .init(ValueType(.int64, [2]), constant: 0),
          .init(ValueType(.float32, [3, 7])),
          .init(ValueType(.float32, [.free(""), 7]), name: "y"),
        ], constants: [.init(try Tensor([2], [Int64(3), 7]))],
        nodes: [
          .init(.reshape(Reshape()), inputs: [0, 2], outputs: [3]),
          .init(.gather(Gather(axis: 0)), inputs: [3, 1], outputs: [4]),
        ], inputs: [0, 1], outputs: [.init(name: "y", value: 4)], metadata: metadata)
    }
    #expect(throws: QMError.self) { try SeededInputs(Model(program([]))) }
    let samples = [
      "x": try Tensor(zeros: .float32, [1, 21]), "which": try Tensor([2], [Int32(-1), 2]),
    ]
    let entries = try samples.map { try InputExample($1).entry(for: $0) }
    #expect(Set(entries.map(\.value)) == ["1x21", "2 = -1 2"])
    let bytes = try program(entries).encoded()
    let again = try Program(decoding: bytes.withUnsafeBytes(Buffer.copying))
    let tensors = try SeededInputs(Model(again)).tensors(seed: 1)
    #expect(tensors["x"]?.shape == [1, 21])
    #expect(tensors["which"]?.elements(as: Int32.self) == [-1, 2])
    let port = try Model(program([])).inputs[0]
    for damaged in ["", "1x", "9x9x9", "-1x21", "1x21 = 4", "1x2y"] {
      var metadata = Program.Metadata(producer: "test")
      metadata.entries = [.init("sample x", damaged)]
      #expect(InputExample(of: port, in: metadata) == nil, "\(damaged)")
    }
  }

  /// 32 in all six would be 2^30 elements.
  @Test func extentsThatAreTooLargeTogetherAreNotTried() throws {
    let type = ValueType(
      .float32, [.free("n"), .free("a"), .free("b"), .free("c"), .free("d"), .free("e")])
    let inputs = try SeededInputs(model([("x", type)], [], [(.unary(Unary(.relu)), [0], type)]))
    #expect(try inputs.tensors(seed: 0)["x"]?.shape == [1, 8, 8, 8, 8, 8])
  }

  // MARK: Integers

  private func model(
    _ inputs: [(name: String, type: ValueType)], _ constants: [Tensor],
    _ nodes: [(Operation, [Int], ValueType)]
  ) throws -> Model {
    var values = inputs.map { Program.Value($0.type, name: $0.name) }
    for (index, constant) in constants.enumerated() {
      values.append(
        .init(ValueType(constant.elementType, Shape(constant.shape)), constant: index))
    }
    var program = Program(
      values: values, constants: constants.map { .init($0) }, nodes: [],
      inputs: Array(inputs.indices), outputs: [])
    for (operation, operands, type) in nodes {
      program.nodes.append(
        .init(operation, inputs: operands, outputs: [program.values.count]))
      program.values.append(.init(type, name: "v\(program.values.count)"))
      program.outputs.append(
        .init(name: "v\(program.values.count - 1)", value: program.values.count - 1))
    }
    return try Model(program)
  }

  private let rows = ValueType(.int64, [.free("n"), .free("m")])

  @Test func tokensAreRowsOfTheirTable() throws {
    let model = try model(
      [("tokens", rows), ("attention", rows)], [try Tensor(zeros: .float32, [7, 4])],
      [
        (
          .gather(Gather(axis: 0)), [2, 0],
          ValueType(.float32, [.free("n"), .free("m"), 4])
        ),
        (.cast(Cast(to: .float32)), [1], ValueType(.float32, [.free("n"), .free("m")])),
      ])
    let inputs = try SeededInputs(model)
    var seen: Set<Int64> = []
    for seed in 0..<8 {
      let tensors = try inputs.tensors(seed: UInt64(seed))
      seen.formUnion(try #require(tensors["tokens"]).elements(as: Int64.self))
      // Integers beside tokens that select nothing are a mask.
      let mask = try #require(tensors["attention"])
      #expect(mask.shape == tensors["tokens"]?.shape)
      #expect(mask.elements(as: Int64.self).allSatisfy { $0 == 1 })
    }
    #expect(seen == Set(0..<7))
  }

  @Test func aLengthIsWithinItsSequence() throws {
    let model = try model(
      [("x", ValueType(.float32, [1, 40])), ("length", ValueType(.int64, [1]))], [],
      [
        (.unary(Unary(.relu)), [0], ValueType(.float32, [1, 40])),
        (.cast(Cast(to: .float32)), [1], ValueType(.float32, [1])),
      ])
    let inputs = try SeededInputs(model)
    let lengths = try (0..<16).map {
      try #require(try inputs.tensors(seed: $0)["length"]).elements(as: Int64.self)[0]
    }
    #expect(lengths.allSatisfy { (20...40).contains($0) })
    #expect(lengths.contains(40))
    #expect(Set(lengths).count > 2)
  }

  @Test func aNumberThatTheNetworkComparesWithIsTaken() throws {
    let model = try model(
      [("x", ValueType(.float32, [1, 40])), ("rate", ValueType(.int64, []))],
      [try Tensor([], [Int64(16000)])],
      [
        (.unary(Unary(.relu)), [0], ValueType(.float32, [1, 40])),
        (.comparison(Compare(.equal)), [1, 2], ValueType(.bool, [])),
      ])
    let rate = try #require(try SeededInputs(model).tensors(seed: 5)["rate"])
    #expect(rate.elements(as: Int64.self).elementsEqual([16000]))
  }

  // MARK: Noise

  /// Pictures of 1 × 4 × 64 × 64: the kinds of noise in turn.
  private func pictures() throws -> [Tensor] {
    let type = ValueType(.float32, [1, 4, 64, 64])
    let inputs = try SeededInputs(model([("x", type)], [], [(.unary(Unary(.relu)), [0], type)]))
    return try (0..<SeededInputs.kindCount).map {
      try #require(try inputs.tensors(seed: UInt64($0))["x"])
    }
  }

  @Test func noiseHasUnitPowerAndSeveralSpectra() throws {
    var correlations: [Float] = []
    var oneSided = 0
    for picture in try pictures() {
      let x = picture.elements(as: Float.self)
      let count = Float(x.count)
      #expect(abs(x.reduce(0) { $0 + $1 * $1 } / count - 1) < 0.001)
      if x.allSatisfy({ $0 >= 0 }) {
        oneSided += 1
        continue
      }
      // Of neighbours along the last axis.
      let pairs = x.indices.dropFirst().filter { $0 % 64 != 0 }
      correlations.append(pairs.reduce(0) { $0 + x[$1] * x[$1 - 1] } / Float(pairs.count))
    }
    #expect(oneSided == 2)
    correlations.sort()
    #expect(abs(correlations[0]) < 0.05)
    #expect(correlations.last ?? 0 > 0.8)
  }

  /// A changed number means that conversions without samples give other files.
  @Test func noiseHasTheSameBitsOnEveryMachine() throws {
    var digest = Digest()
    for picture in try pictures() {
      withExtendedLifetime(picture) { digest.update(UnsafeRawBufferPointer(picture.bytes)) }
    }
    let text = digest.finished().prefix(8).map { String($0, radix: 16) }.joined(separator: " ")
    #expect(text == "f5 58 6f 40 13 2f 6f 6b")
  }
}
