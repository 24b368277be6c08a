import QMOperations
import QMTensor
import QMTestSupport
import Testing

/// A product is what its windows and its weights give: every window times every row of weights.
@Suite struct InputWindowsTests {
  struct Case: CustomTestStringConvertible {
    let name: String
    let operation: Operation
    let input: [Int]
    let weights: [Int]
    var windows: InputWindows? { InputWindows(of: operation, weightsAt: 1, weights) }
    var testDescription: String { name }
  }

  static func convolution(
    _ order: ChannelOrder, strides: [Int], dilations: [Int]? = nil, groups: Int = 1,
    before: [Int], after: [Int], spacing: [Int]? = nil
  ) -> Operation {
    .convolution(
      Convolution(
        order: order, strides: strides, dilations: dilations ?? strides.map { _ in 1 },
        padding: .explicit(before: before, after: after), groups: groups, spacing: spacing))
  }

  static let cases = [
    Case(
      name: "rows", operation: .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)),
      input: [2, 3, 5, 7], weights: [4, 7]),
    Case(
      name: "3×3, channels last",
      operation: convolution(
        .channelsLast, strides: [1, 1], before: [1, 1], after: [1, 1]),
      input: [2, 5, 6, 3], weights: [4, 3, 3, 3]),
    Case(
      name: "3×2, channels first, strides and dilations",
      operation: convolution(
        .channelsFirst, strides: [2, 1], dilations: [1, 2], before: [0, 2], after: [1, 0]),
      input: [2, 4, 7, 6], weights: [6, 4, 3, 2]),
    Case(
      name: "two groups",
      operation: convolution(
        .channelsLast, strides: [1], groups: 2, before: [2], after: [0]),
      input: [1, 9, 6], weights: [4, 3, 3]),
    Case(
      name: "depthwise, channels first",
      operation: convolution(
        .channelsFirst, strides: [1, 1], groups: 5, before: [1, 1], after: [1, 1]),
      input: [1, 5, 4, 4], weights: [5, 1, 3, 3]),
    Case(
      name: "transposed",
      operation: convolution(
        .channelsLast, strides: [1, 1], before: [2, 1], after: [2, 1], spacing: [2, 3]),
      input: [1, 3, 4, 3], weights: [2, 3, 3, 3]),
  ]

  @Test(arguments: cases) func windowsTimesWeightsAreTheProduct(_ given: Case) throws {
    var generator = SeededGenerator(seed: 3)
    /// Small whole numbers: no sum is rounded, in whichever order.
    func tensor(_ shape: [Int]) throws -> Tensor {
      try Tensor(
        shape,
        (0..<shape.reduce(1, *)).map { _ in Float(Int.random(in: -9...9, using: &generator)) })
    }
    let (input, weights) = (try tensor(given.input), try tensor(given.weights))
    let output = try given.operation.evaluate([input, weights])[0]
    let windows = try #require(given.windows)
    let count = try windows.count(of: .operand(0), given.input)
    let channels = given.weights[0]
    #expect(count * channels == output.elementCount)

    let numbers = weights.elements(as: Float.self)
    let rows = try InputWindowsTests.rows(
      Array(0..<count), windows, of: .operand(0), input.elements(), given.input)
    let isFirst =
      if case .convolution(let convolution) = given.operation {
        convolution.order == .channelsFirst
      } else { false }
    let plane = isFirst ? output.shape.dropFirst(2).reduce(1, *) : 1
    var product = [Float](repeating: 0, count: output.elementCount)
    for window in 0..<count {
      for channel in 0..<channels {
        let group = channel / (channels / windows.groupCount)
        var sum: Float = 0
        for index in 0..<windows.length {
          sum +=
            numbers[channel * windows.length + index]
            * rows[window][group * windows.length + index]
        }
        let place =
          isFirst
          ? (window / plane * channels + channel) * plane + window % plane
          : window * channels + channel
        product[place] = sum
      }
    }
    #expect(product == output.elements(as: Float.self))
  }

  @Test func aPartOfTheWindowsIsThosePartsOfAll() throws {
    let given = InputWindowsTests.cases[2]
    let windows = try #require(given.windows)
    let count = try windows.count(of: .operand(0), given.input)
    let input = (0..<given.input.reduce(1, *)).map { Float($0) + 1 }
    func rows(_ chosen: [Int]) throws -> [[Float]] {
      try InputWindowsTests.rows(chosen, windows, of: .operand(0), input, given.input)
    }
    let all = try rows(Array(0..<count))
    let some = [3, 10, 4, count - 1]
    #expect(try rows(some) == some.map { all[$0] })
  }

  /// Each window as a row.
  private static func rows(
    _ chosen: [Int], _ windows: InputWindows, of source: InputWindows.Source, _ input: [Float],
    _ shape: [Int]
  ) throws -> [[Float]] {
    let width = windows.groupCount * windows.length
    var rows = [Float](repeating: .nan, count: width * chosen.count)
    try input.withUnsafeBufferPointer { input in
      try rows.withUnsafeMutableBufferPointer {
        try windows.copy(chosen, of: source, input, shape, to: $0)
      }
    }
    return chosen.indices.map { Array(rows[$0 * width..<($0 + 1) * width]) }
  }

  /// Before each step a direction has the state that the step before left, or the initial one.
  @Test func theRecurrenceReadsTheStatesBeforeEachStep() throws {
    let layer = Operation.recurrent(
      Recurrent(
        .gru, direction: .bidirectional, functions: [.sigmoid, .tanh, .sigmoid, .tanh]))
    let windows = try #require(
      InputWindows(of: layer, weightsAt: RecurrentOperand.recurrence, [12, 2]))
    #expect((windows.groupCount, windows.length) == (2, 2))
    #expect(windows.sources == [.operand(RecurrentOperand.hidden), .output(0)])
    // Two directions, three items.
    let initial = (0..<12).map { Float($0) }
    #expect(try windows.count(of: windows.sources[0], [2, 3, 2]) == 3)
    #expect(
      try InputWindowsTests.rows([0, 2], windows, of: windows.sources[0], initial, [2, 3, 2])
        == [[0, 1, 6, 7], [4, 5, 10, 11]])
    // Three steps, two directions, one item: h = 10 · step + direction.
    let states = (0..<3).flatMap { step in
      [0, 0, 1, 1].map { Float(10 * step + $0) }
    }
    #expect(try windows.count(of: windows.sources[1], [3, 2, 1, 2]) == 2)
    #expect(
      try InputWindowsTests.rows([0, 1], windows, of: windows.sources[1], states, [3, 2, 1, 2])
        == [[0, 0, 11, 11], [10, 10, 21, 21]])
    let inputs = try #require(
      InputWindows(of: layer, weightsAt: RecurrentOperand.weights, [12, 5]))
    #expect(try inputs.count(of: .operand(0), [3, 1, 5]) == 3)
  }

  @Test func whatHasNoWindowsIsNil() {
    let depthFirst = Operation.matrixMultiply(MatrixMultiply(rightLayout: .depthFirst))
    #expect(InputWindows(of: depthFirst, weightsAt: 1, [7, 4]) == nil)
    #expect(InputWindows(of: .unary(Unary(.relu)), weightsAt: 1, [7, 4]) == nil)
  }
}
