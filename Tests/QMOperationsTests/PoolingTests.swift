import QMOperations
import QMTensor
import QMTestSupport
import Testing

@Suite struct PoolingTests {
  private func pooling(
    _ kind: Pooling.Kind, _ order: ChannelOrder = .channelsFirst, window: [Int],
    strides: [Int]? = nil, dilations: [Int]? = nil, padding: Padding? = nil,
    roundsUp: Bool = false, output: OutputEncoding = .float32
  ) -> Pooling {
    let ones = window.map { _ in 1 }
    let zeros = window.map { _ in 0 }
    return Pooling(
      kind: kind, order: order, window: window, strides: strides ?? ones,
      dilations: dilations ?? ones, padding: padding ?? .explicit(before: zeros, after: zeros),
      roundsUp: roundsUp, output: output)
  }

  private func floats(_ operation: Pooling, _ data: Given) throws -> [Float] {
    try operation.run([data])[0].elements()
  }

  @Test func windowsByHand() throws {
    let data = try Given([1, 1, 5], [Float(1), 2, 3, 4, 5])
    let padding = Padding.explicit(before: [1], after: [1])
    #expect(try floats(pooling(.maximum, window: [2], strides: [2]), data) == [2, 4])
    #expect(
      try floats(pooling(.maximum, window: [2], strides: [2], roundsUp: true), data) == [2, 4, 5])
    #expect(
      try floats(pooling(.averageOfInside, window: [3], strides: [2], padding: padding), data)
        == [1.5, 3, 4.5])
    #expect(
      try floats(pooling(.averageOfPadded, window: [3], strides: [2], padding: padding), data)
        == [1, 3, 3])
    // The last window hangs over the padding too, and what is beyond it does not count.
    #expect(
      try floats(
        pooling(
          .averageOfPadded, window: [3], strides: [2], padding: .explicit(before: [0], after: [1]),
          roundsUp: true),
        data) == [2, 4, 2.5])
    #expect(
      try floats(pooling(.maximum, window: [2], dilations: [3]), data) == [4, 5])
    #expect(
      try floats(pooling(.maximum, window: [2], strides: [2], padding: .sameUpper), data)
        == [2, 4, 5])
    #expect(
      try floats(pooling(.maximum, window: [2], strides: [2], padding: .sameLower), data)
        == [1, 3, 5])
  }

  @Test func aWindowWithoutElementsHasAResult() throws {
    let data = try Given([1, 1, 1], [Float(7)])
    let padding = Padding.explicit(before: [2], after: [2])
    let empty = pooling(.maximum, window: [2], dilations: [4], padding: padding)
    #expect(try floats(empty, data) == [-.infinity])
    let average = pooling(.averageOfInside, window: [2], dilations: [4], padding: padding)
    #expect(try floats(average, data) == [0])
  }

  @Test func paddingNeverWins() throws {
    let padding = Padding.explicit(before: [1], after: [1])
    let data = try Given([1, 1, 3], [Float(-5), -6, -7])
    #expect(try floats(pooling(.maximum, window: [3], padding: padding), data) == [-5, -5, -6])
    let codes = try Given([1, 3, 1], [Int8(-100), -90, -120], .fixed(scale: 1, zeroPoint: -50))
    let largest: [Int8] = try pooling(.maximum, .channelsLast, window: [3], padding: padding)
      .run([codes])[0].elements()
    #expect(largest == [-90, -90, -90])
  }

  @Test func codesAreAveragedExactly() throws {
    let codes = try Given([1, 2, 1], [Int8(10), 13], .fixed(scale: 0.5, zeroPoint: 8))
    let average = pooling(
      .averageOfInside, .channelsLast, window: [2],
      output: .quantized(.int8, scale: 0.25, zeroPoint: 1))
    // (2 + 5) · 0.25 = 1.75 → 7 + 1
    let result: [Int8] = try average.run([codes])[0].elements()
    #expect(result == [8])
  }

  @Test func typesFollowTheWindow() throws {
    func shape(_ operation: Pooling, _ input: Shape) throws -> Shape {
      try operation.outputTypes(for: [Operand(ValueType(.float32, input))])[0].shape
    }
    let free: Shape = [.free("N"), .free("C"), .free("H"), 8]
    let same = pooling(.maximum, window: [3, 3], padding: .sameUpper)
    #expect(try shape(same, free) == free)
    let last = pooling(.maximum, .channelsLast, window: [2, 2], strides: [2, 2])
    #expect(try shape(last, [1, 8, 6, 3]) == [1, 4, 3, 3])
    for wrong in [
      pooling(.maximum, window: [9, 9]), pooling(.maximum, window: [2]),
      pooling(.maximum, window: [0, 1]), pooling(.maximum, window: [1, 1], strides: [0, 1]),
      pooling(.maximum, window: []),
      pooling(.maximum, window: [1 << 16, 1 << 16], padding: .sameUpper),
      pooling(
        .averageOfInside, window: [1, 1], output: .quantized(.int32, scale: 1, zeroPoint: 0)),
    ] {
      #expect(throws: QMError.malformed("")) { try shape(wrong, [1, 1, 8, 8]) }
    }
    let grid = Quantization.fixed(scale: 0.5, zeroPoint: 1)
    let codes = Operand(ValueType(.uint8, [1, 4, 1], grid))
    let type = try pooling(.maximum, .channelsLast, window: [2]).outputTypes(for: [codes])[0]
    #expect(type == ValueType(.uint8, [1, 3, 1], grid))
  }

  /// Random windows over one to three spatial axes, in both orders: each set's kernels agree with
  /// the reference loops, and the orders with each other.
  @Test(arguments: [Pooling.Kind.maximum, .averageOfInside, .averageOfPadded])
  func windowsOfEveryFormAgree(kind: Pooling.Kind) throws {
    var generator = SeededGenerator(seed: 41)
    for round in 0..<60 {
      let rank = round % 3 + 1
      func random(_ range: ClosedRange<Int>) -> [Int] {
        (0..<rank).map { _ in Int.random(in: range, using: &generator) }
      }
      let window = random(1...3)
      let spatial = random(rank == 1 ? 7...40 : 5...9)
      let padding: Padding =
        [.explicit(before: random(0...2), after: random(0...2)), .sameUpper, .sameLower][
          round % 4 % 3]
      let channels = [1, 3, 16, 33, 67][round % 5]
      let strides = random(1...3)
      let dilations = random(1...2)
      let output = OutputEncoding.samples[round / 3 % 3]
      func operation(_ order: ChannelOrder) -> Pooling {
        pooling(
          kind, order, window: window, strides: strides, dilations: dilations, padding: padding,
          roundsUp: round % 2 == 0, output: kind == .maximum ? .float32 : output)
      }
      var inputs = [Given(try generator.numbers([2] + spatial + [channels]))]
      let (elementType, grid) = codeTypes[round % 3]
      inputs.append(Given(try generator.bytes(elementType, [2] + spatial + [channels]), grid))
      for last in inputs {
        let expected = try operation(.channelsLast).run([last])[0]
        let toFirst = Transpose(permutation: [0, rank + 1] + Array(1...rank))
        let first = try operation(.channelsFirst).run([
          Given(toFirst.run([last])[0], last.type.quantization)
        ])[0]
        #expect(try toFirst.run([Given(expected)])[0].isIdentical(to: first))
      }
    }
  }

  @Test func threadsShareLargeInputs() throws {
    var generator = SeededGenerator(seed: 42)
    let data = Given(try generator.numbers([1, 24, 64, 64]))
    _ = try pooling(.averageOfInside, window: [3, 3], strides: [2, 2]).run([data])
    _ = try pooling(.maximum, .channelsLast, window: [3, 3], strides: [2, 2]).run([data])
  }
}
