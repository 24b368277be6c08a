import QMOperations
import QMTensor
import QMTestSupport
import Testing

@Suite struct GroupNormalizationTests {
  @Test func byHand() throws {
    // Mean 3, variance 4 in either channel; 1 / √4 = 0.5.
    let data = try Given([1, 2, 2], [Float(1), 5, 5, 1])
    let output: [Float] = try GroupNormalization(groups: 0, order: .channelsFirst, epsilon: 0).run([
      data, Given([2], [Float(10), 20]), Given([2], [Float(1), 2]),
    ])[0].elements()
    #expect(output == [-9, 11, 22, -18])
  }

  @Test func ordersAndKernelsAgree() throws {
    var generator = SeededGenerator(seed: 51)
    for channels in [1, 2, 6, 15, 16, 17, 34] {
      for groups in [0, 1, channels % 2 == 0 ? 2 : 1, channels] {
        for spatial in [[1], [5, 7], [67]] {
          let parameters = [
            Given(try generator.numbers([channels])), Given(try generator.numbers([channels])),
          ]
          let first = Given(try generator.numbers([2, channels] + spatial))
          var operation = GroupNormalization(groups: groups, order: .channelsFirst, epsilon: 1e-5)
          let output = try operation.run([first] + parameters)[0]
          let turn = Transpose(
            permutation: [0] + (2..<(2 + spatial.count)) + [1])
          operation.order = .channelsLast
          let last = try operation.run([Given(turn.run([first])[0])] + parameters)[0]
          #expect(try turn.run([Given(output)])[0].isIdentical(to: last))
        }
      }
    }
    for output in OutputEncoding.samples {
      for (elementType, quantization) in codeTypes {
        let codes = Given(try generator.bytes(elementType, [2, 5, 18]), quantization)
        let parameters = [Given(try generator.numbers([18])), Given(try generator.numbers([18]))]
        _ = try GroupNormalization(
          groups: 0, order: .channelsLast, epsilon: 1e-3, output: output
        ).run([codes] + parameters)
      }
    }
  }
}
