import QMOperations
import QMTensor
import QMTestSupport
import QMTraining
import Testing

@Suite struct MovementGradientTests {
  private var generator = SeededGenerator(seed: 31)

  private func integers(_ numbers: [Int64]) throws -> Tensor {
    try Tensor([numbers.count], numbers)
  }

  @Test mutating func shapesAndOrders() throws {
    let x = try generator.tensor([2, 3, 4])
    try expectGradients(of: .identity(Identity()), [x])
    try expectGradients(of: .reshape(Reshape()), [x, integers([4, 6])])
    try expectGradients(of: .flatten(Flatten(axis: 1)), [x])
    try expectGradients(of: .unsqueeze(Unsqueeze(axes: [1])), [x])
    try expectGradients(of: .squeeze(Squeeze(axes: [1])), [try generator.tensor([2, 1, 4])])
    for permutation in [[0, 1, 2], [2, 0, 1], [1, 0, 2]] {
      try expectGradients(of: .transpose(Transpose(permutation: permutation)), [x])
    }
  }

  @Test mutating func partsAndJoins() throws {
    let x = try generator.tensor([2, 3, 4])
    try expectGradients(
      of: .concatenate(Concatenate(axis: 1)),
      [x, try generator.tensor([2, 1, 4]), try generator.tensor([2, 2, 4])])
    try expectGradients(
      of: .split(Split(axis: 2, sizes: .equal(parts: 2))), [x])
    try expectGradients(
      of: .slice(Slice()),
      [x, integers([0, 3]), integers([2, 0]), integers([0, 2]), integers([1, -2])])
    try expectGradients(of: .trilu(Trilu(isUpper: true)), [x])
  }

  @Test(arguments: Pad.Mode.allCases)
  mutating func pads(mode: Pad.Mode) throws {
    let x = try generator.tensor([3, 4])
    try expectGradients(of: .pad(Pad(mode)), [x, integers([1, 2, 2, 1])])
    try expectGradients(of: .pad(Pad(mode)), [x, integers([-1, 2, 1, -1])])
    if mode == .constant {
      // The constant is no parameter here, and has no gradient.
      var test = GradientCase()
      let data = try test.parameter(x)
      let fill = test.constant(try Tensor([], [7] as [Float]))
      try test.output(
        try test.append(.pad(Pad(mode)), [data, try test.constant([1, 1, 1, 1]), fill])[0])
      try expectGradients(test)
    }
  }

  @Test mutating func lookUps() throws {
    let x = try generator.tensor([4, 3])
    let indices = try Tensor([2, 3], [0, 3, 3, -1, 1, 0] as [Int64])
    try expectGradients(of: .gather(Gather(axis: 0)), [x, indices])
    try expectGradients(
      of: .gather(Gather(axis: 1)), [x, try Tensor([2], [2, 2] as [Int64])])
    try expectGradients(
      of: .gatherElements(GatherElements(axis: 0)),
      [x, try Tensor([2, 3], [0, 1, 1, 3, 1, 1] as [Int64])])
    try expectGradients(
      of: .gatherND(GatherND(batchAxes: 0)),
      [x, try Tensor([3, 1], [1, 3, 1] as [Int64])])
  }

  /// Indices that are an input decide in each run where the gradient goes.
  @Test mutating func lookUpsOfInputs() throws {
    var test = GradientCase()
    let x = try test.parameter(try generator.tensor([4, 2]))
    let indices = try test.input(try Tensor([3], [0, 3, 3] as [Int64]))
    try test.output(try test.append(.gather(Gather(axis: 0)), [x, indices])[0])
    try expectGradients(test)
    let run = try GradientRun(test)
    let gradient: [Float] = [1, 2, 4, 8, 16, 32]
    try run.addGradients([gradient], [try Tensor([3], [1, 1, 0] as [Int64])])
    try run.addGradients([gradient], [try Tensor([3], [2, 0, 2] as [Int64])])
    #expect(run.parameterGradients[0] == [20, 40, 5, 10, 17, 34, 0, 0])
  }

  /// Long rows are added together, short ones one by one.
  @Test mutating func rowsOfAnyLength() throws {
    for length in [1, 2, 5, 40] {
      let parts = [try generator.tensor([3, length]), try generator.tensor([3, 2 * length])]
      try expectGradients(of: .concatenate(Concatenate(axis: 1)), parts, "\(length)")
      try expectGradients(
        of: .gather(Gather(axis: 0)), [parts[0], try Tensor([4], [2, 0, 2, 1] as [Int64])],
        "\(length)")
      try expectGradients(of: .tile(Tile()), [parts[0], integers([2, 2])], "\(length)")
    }
  }

  @Test mutating func repetitions() throws {
    try expectGradients(
      of: .expand(Expand()), [try generator.tensor([3, 1]), integers([2, 3, 4])])
    try expectGradients(of: .tile(Tile()), [try generator.tensor([2, 3]), integers([2, 2])])
  }

  @Test(arguments: ChannelOrder.allCases)
  mutating func blocks(order: ChannelOrder) throws {
    let isFirst = order == .channelsFirst
    for channelsComeFirst in [false, true] {
      try expectGradients(
        of: .depthToSpace(
          DepthToSpace(block: 2, channelsComeFirst: channelsComeFirst, order: order)),
        [try generator.tensor(isFirst ? [1, 8, 2, 3] : [1, 2, 3, 8])])
      try expectGradients(
        of: .spaceToDepth(
          SpaceToDepth(block: 2, channelsComeFirst: channelsComeFirst, order: order)),
        [try generator.tensor(isFirst ? [1, 2, 4, 6] : [1, 4, 6, 2])])
    }
  }

  @Test mutating func choices() throws {
    let condition = try Tensor([2, 3], [true, false, true, false, false, true])
    try expectGradients(
      of: .select(Select()),
      [condition, try generator.tensor([2, 3]), try generator.tensor([3])])
    let indices = try Tensor([2, 2], [0, 2, 3, 0] as [Int64])
    try expectGradients(
      of: .scatterElements(ScatterElements(axis: 0, .replace)),
      [try generator.tensor([4, 2]), indices, try generator.tensor([2, 2])])
  }

  @Test mutating func valuesOfPatterns() throws {
    for axis in 0...2 {
      try expectGradients(
        of: .oneHot(OneHot(axis: axis)),
        [
          try Tensor([2, 3], [0, 3, -1, 2, 5, 1] as [Int64]), try Tensor([1], [4] as [Int64]),
          try generator.tensor([2]),
        ])
    }
  }

  /// The branch that was taken has all of the gradient, whether the condition is known before the run or
  /// found in it; what led to it is computed in both branches.
  @Test(arguments: [false, true], [false, true])
  mutating func branches(isTaken: Bool, isKnown: Bool) throws {
    var test = GradientCase()
    let condition =
      isKnown
      ? test.constant(try Tensor([1], [isTaken]))
      : try test.input(try Tensor([1], [isTaken]))
    let x = try test.parameter(try generator.tensor([2, 3]))
    let (first, second) = (
      try test.append(.unary(Unary(.tanh)), [x])[0],
      try test.append(
        .binary(Binary(.multiply)), [x, try test.parameter(try generator.tensor([3]))])[0]
    )
    try test.output(try test.append(.if(If()), [condition, first, second])[0])
    try expectGradients(test, "\(isTaken), known \(isKnown)")
    let run = try GradientRun(test)
    try run.addGradients(try run.outputGradients(&generator))
    #expect(run.parameterGradients[1].allSatisfy { $0 == 0 } == isTaken)
  }

  @Test mutating func nearestElements() throws {
    try expectGradients(
      of: .resize(Resize(.nearest(.floor), .asymmetric, axes: [2, 3])),
      [try generator.tensor([1, 2, 3, 4]), integers([6, 5])])
  }
}
