import QMNumPy
import QMOperations
import QMTensor
import QMTestSupport
import Testing

/// Results of ONNX Runtime and NumPy; `fixtures/generate/kernels.py` made them.
@Suite struct OracleTests {
  private let arrays: NPZArchive
  private let x: Given

  init() throws {
    let folder = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
    arrays = try NPZArchive(path: "/" + folder + "/fixtures/kernels/oracle.npz")
    x = Given(try arrays.tensor(named: "x"))
  }

  private func pooling(
    _ kind: Pooling.Kind, window: [Int], strides: [Int], dilations: [Int] = [1, 1],
    _ padding: Padding, roundsUp: Bool = false
  ) -> Pooling {
    Pooling(
      kind: kind, order: .channelsFirst, window: window, strides: strides, dilations: dilations,
      padding: padding, roundsUp: roundsUp)
  }

  /// - Parameter tolerance: largest difference, as a part of 1 or of the number where that is more;
  ///   0 demands the same bits.
  private func expect(
    _ name: String, _ operation: some OperationProtocol, _ inputs: [Given?]? = nil,
    tolerance: Float
  ) throws {
    let expected = try arrays.tensor(named: name)
    let found = try operation.run(inputs ?? [x])[0]
    #expect(found.shape == expected.shape, "\(name)")
    if tolerance == 0 {
      #expect(found.isIdentical(to: expected), "\(name)")
      return
    }
    let pairs = zip(found.elements(as: Float.self), expected.elements(as: Float.self))
    for (index, (found, expected)) in pairs.enumerated() {
      #expect(
        abs(found - expected) <= tolerance * max(1, abs(expected)),
        "\(name), element \(index): \(found), expected \(expected)")
    }
  }

  @Test func pools() throws {
    let ones = Padding.explicit(before: [1, 1], after: [1, 1])
    try expect(
      "maximum", pooling(.maximum, window: [3, 3], strides: [2, 2], ones, roundsUp: true),
      tolerance: 0)
    try expect(
      "maximum_dilated",
      pooling(
        .maximum, window: [2, 3], strides: [1, 1], dilations: [3, 2],
        .explicit(before: [1, 0], after: [0, 1])), tolerance: 0)
    try expect(
      "maximum_same", pooling(.maximum, window: [2, 4], strides: [2, 3], .sameLower), tolerance: 0)
    let data = Given(try x.tensor.reshaped([2, 6, 1, 7, 9]))
    let zeros = Padding.explicit(before: [0, 0, 0], after: [0, 0, 0])
    try expect(
      "maximum_3d",
      pooling(.maximum, window: [1, 2, 2], strides: [1, 2, 1], dilations: [1, 1, 1], zeros),
      [data], tolerance: 0)
    try expect(
      "average_inside",
      pooling(
        .averageOfInside, window: [3, 3], strides: [2, 2],
        .explicit(before: [1, 1], after: [0, 1]), roundsUp: true), tolerance: 1e-6)
    try expect(
      "average_padded",
      pooling(
        .averageOfPadded, window: [3, 4], strides: [2, 2],
        .explicit(before: [1, 2], after: [1, 1])), tolerance: 1e-6)
    try expect(
      "average_same", pooling(.averageOfInside, window: [2, 4], strides: [1, 2], .sameUpper),
      tolerance: 1e-6)
  }

  private static let kinds: [(String, Reduction.Kind)] = [
    ("mean", .mean), ("sum", .sum), ("largest", .maximum), ("smallest", .minimum),
    ("product", .product), ("magnitudes", .sumOfMagnitudes), ("norm", .norm),
    ("squares", .sumOfSquares), ("log_sum", .logarithmOfSum),
    ("log_sum_exp", .logarithmOfSumOfExponentials),
  ]

  @Test(arguments: OracleTests.kinds)
  func reductions(name: String, kind: Reduction.Kind) throws {
    let magnitudes = x.tensor.elements(as: Float.self).map(\.magnitude)
    let data = kind == .logarithmOfSum ? Given(try Tensor(x.tensor.shape, magnitudes)) : x
    try expect(
      name, Reduction(kind, axes: [1, 3], keepsAxes: false), [data],
      tolerance: kind == .maximum || kind == .minimum ? 0 : 2e-6)
  }

  @Test func normalizations() throws {
    try expect("softmax", Softmax(.softmax, axis: 1), tolerance: 1e-6)
    try expect("log_softmax", Softmax(.logSoftmax, axis: 3), tolerance: 1e-6)
    func part(_ index: Int, of name: String, _ shape: [Int]) throws -> Given {
      let all = try arrays.tensor(named: name)
      let offset = all.byteOffset + index * shape.reduce(4, *)
      return Given(try Tensor(.float32, shape, buffer: all.buffer, byteOffset: offset))
    }
    try expect(
      "batch_normalization", BatchNormalization(order: .channelsFirst, epsilon: 1e-3),
      [x] + (0..<4).map { try part($0, of: "channels", [6]) }, tolerance: 2e-6)
    try expect(
      "layer_normalization", LayerNormalization(axis: 2, epsilon: 1e-2),
      [x, part(0, of: "rows", [7, 9]), part(1, of: "rows", [7, 9])], tolerance: 2e-6)
  }

  @Test func moves() throws {
    try expect("transposed", Transpose(permutation: [3, 0, 2, 1]), tolerance: 0)
    try expect(
      "sliced", Slice(),
      [
        x, .integers([-1, 2, 8]), .integers([-9, 100, 0]), .integers([1, 2, 3]),
        .integers([-2, 1, -3]),
      ], tolerance: 0)
    let pads = try Given.integers([0, 2, 0, 4, 1, 3, 0, 2])
    try expect("reflect", Pad(.reflect), [x, pads], tolerance: 0)
    try expect("edge", Pad(.edge), [x, pads], tolerance: 0)
    try expect("wrap", Pad(.wrap), [x, pads], tolerance: 0)
    try expect(
      "taken", Gather(axis: 2), [x, Given([2, 2], [Int64(-1), 0, 3, 2])], tolerance: 0)
    try expect("tiled", Tile(), [x, .integers([1, 2, 1, 3])], tolerance: 0)
  }
}
