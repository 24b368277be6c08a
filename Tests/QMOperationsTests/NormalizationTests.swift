import QMOperations
import QMTensor
import QMTestSupport
import Testing

@Suite struct NormalizationTests {
  private func parameters(_ generator: inout SeededGenerator, _ channels: Int) throws -> [Given] {
    var inputs = try (0..<3).map { _ in Given(try generator.numbers([channels])) }
    inputs.append(Given(try generator.floats([channels], in: 0.01...4)))
    return inputs
  }

  @Test func batchNormalizationByHand() throws {
    // s = 6 / √(8 + 1) = 2, t = 5 − 3 · 2 = −1
    let inputs = [
      try Given([1, 1, 2], [Float(1), 4]), try Given([1], [Float(6)]), try Given([1], [Float(5)]),
      try Given([1], [Float(3)]), try Given([1], [Float(8)]),
    ]
    let output: [Float] = try BatchNormalization(order: .channelsFirst, epsilon: 1).run(inputs)[0]
      .elements()
    #expect(output == [1, 7])
  }

  @Test func batchNormalizationOfEitherOrderAgrees() throws {
    var generator = SeededGenerator(seed: 31)
    for channels in [1, 2, 3, 7, 8, 16, 17, 33, 67] {
      for spatial in [[], [1], [5, 7]] {
        let parameters = try parameters(&generator, channels)
        let first = Given(try generator.numbers([2, channels] + spatial))
        let output = try BatchNormalization(order: .channelsFirst, epsilon: 1e-5)
          .run([first] + parameters)[0]
        let axes = Array(0..<first.tensor.shape.count)
        let turn = Transpose(permutation: [0] + axes.dropFirst(2) + [1])
        let last = Given(try turn.run([first])[0])
        let same = try BatchNormalization(order: .channelsLast, epsilon: 1e-5)
          .run([last] + parameters)[0]
        #expect(try turn.run([Given(output)])[0].isIdentical(to: same))
      }
    }
  }

  @Test func batchNormalizationChecksItsChannels() throws {
    func types(_ shape: Shape, _ channels: Shape.Axis) throws -> [ValueType] {
      let parameter = Operand(ValueType(.float32, [channels]))
      return try BatchNormalization(order: .channelsFirst, epsilon: 0).outputTypes(for: [
        Operand(ValueType(.float32, shape)), parameter, parameter, parameter, parameter,
      ])
    }
    #expect(try types([2, .free("C"), 4], 3)[0].shape == [2, 3, 4])
    #expect(throws: QMError.malformed("")) { try types([2, 3, 4], 4) }
    #expect(throws: QMError.unsupported("")) { try types([2], 2) }
  }

  @Test func layerNormalizationByHand() throws {
    // mean 3, variance 4: d = ±2, r = 1/√(4 + 0) = 0.5
    let data = try Given([2, 2], [Float(1), 5, 5, 1])
    let plain: [Float] = try LayerNormalization(axis: 1, epsilon: 0).run([data])[0].elements()
    #expect(plain == [-1, 1, 1, -1])
    let scaled: [Float] = try LayerNormalization(axis: 1, epsilon: 0).run([
      data, Given([2], [Float(10), 20]), Given([2], [Float(1), 2]),
    ])[0].elements()
    #expect(scaled == [-9, 22, 11, -18])
  }

  @Test func layerNormalizationsAgree() throws {
    var generator = SeededGenerator(seed: 32)
    for count in 1...67 {
      let scale = Given(try generator.numbers([count]))
      let bias = Given(try generator.numbers([count]))
      for inputs: [Given?] in [[], [scale], [nil, bias], [scale, bias]] {
        let data = Given(try generator.numbers([3, count]))
        _ = try LayerNormalization(axis: 1, epsilon: 1e-5).run([data] + inputs)
      }
    }
    for output in OutputEncoding.samples {
      for (elementType, quantization) in codeTypes {
        let codes = Given(try generator.bytes(elementType, [2, 5, 33]), quantization)
        for axis in 0..<3 {
          _ = try LayerNormalization(axis: axis, epsilon: 1e-3, output: output).run([codes])
        }
      }
    }
  }

  @Test func layerNormalizationChecksItsParameters() throws {
    let data = Operand(ValueType(.float32, [.free("N"), 3, .free("")]))
    func shape(_ parameter: Shape, axis: Int) throws -> Shape {
      try LayerNormalization(axis: axis, epsilon: 0)
        .outputTypes(for: [data, Operand(ValueType(.float32, parameter))])[0].shape
    }
    #expect(try shape([8], axis: 2) == [.free("N"), 3, 8])
    #expect(throws: QMError.malformed("")) { try shape([8], axis: 1) }
    #expect(throws: QMError.malformed("")) { try shape([4, 8], axis: 1) }
    #expect(throws: QMError.malformed("")) { try shape([8], axis: 3) }
  }
}
