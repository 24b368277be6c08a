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
    let windows = try #require(InputWindows(of: given.operation, weights: given.weights))
    let count = try windows.count(input: given.input)
    let channels = given.weights[0]
    #expect(count * channels == output.elementCount)

    let numbers = weights.elements(as: Float.self)
    var columns = [Float](repeating: .nan, count: windows.groupCount * windows.length * count)
    try input.withElements(as: Float.self) { input in
      try columns.withUnsafeMutableBufferPointer {
        try windows.copy(0..<count, of: input, given.input, to: $0)
      }
    }
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
            * columns[(group * windows.length + index) * count + window]
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
    let windows = try #require(InputWindows(of: given.operation, weights: given.weights))
    let count = try windows.count(input: given.input)
    let input = (0..<given.input.reduce(1, *)).map { Float($0) + 1 }
    func columns(_ range: Range<Int>) throws -> [[Float]] {
      var columns = [Float](repeating: .nan, count: windows.length * range.count)
      try input.withUnsafeBufferPointer { input in
        try columns.withUnsafeMutableBufferPointer {
          try windows.copy(range, of: input, given.input, to: $0)
        }
      }
      return range.indices.map { column in
        stride(from: column - range.lowerBound, to: columns.count, by: range.count)
          .map { columns[$0] }
      }
    }
    let all = try columns(0..<count)
    #expect(try columns(3..<11) == Array(all[3..<11]))
  }

  @Test func whatHasNoWindowsIsNil() {
    let depthFirst = Operation.matrixMultiply(MatrixMultiply(rightLayout: .depthFirst))
    #expect(InputWindows(of: depthFirst, weights: [7, 4]) == nil)
    #expect(InputWindows(of: .unary(Unary(.relu)), weights: [7, 4]) == nil)
  }
}
