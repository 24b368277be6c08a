import QMGraph
import QMOperations
import QMTensor
import QMTestSupport
import QMTraining
import Testing

@Suite struct AxisGradientTests {
  private var generator = SeededGenerator(seed: 41)

  @Test(arguments: Softmax.Kind.allCases)
  mutating func softmax(kind: Softmax.Kind) throws {
    for (shape, axis) in [([3, 5], 1), ([3, 5], 0), ([2, 3, 4], 1), ([2, 37], 1), ([4, 1], 1)] {
      // A single element has the gradient 0, of softmax: nothing to compare with.
      guard shape[axis] > 1 else {
        let run = try GradientRun(
          GradientCase(.softmax(Softmax(kind, axis: axis)), [try generator.tensor(shape)]))
        try run.addGradients(try run.outputGradients(&generator))
        #expect(run.parameterGradients[0].allSatisfy { $0.magnitude < 1e-6 })
        continue
      }
      try expectGradients(
        of: .softmax(Softmax(kind, axis: axis)), [try generator.tensor(shape, in: -3...3)])
    }
  }

  @Test(arguments: Reduction.Kind.allCases)
  mutating func reductions(kind: Reduction.Kind) throws {
    for (shape, axes) in [
      ([3, 4], [1]), ([3, 4], [0]), ([2, 3, 4], [0, 2]), ([2, 3, 4], [1, 2]), ([3, 4], [0, 1]),
      ([3, 4], []), ([2, 35], [1]),
    ] {
      for keepsAxes in [false, true] {
        let x: Tensor
        switch kind {
        case .maximum, .minimum, .sumOfMagnitudes: x = try generator.spread(shape)
        case .logarithmOfSum, .product: x = try generator.tensor(shape, in: 0.75...1.5)
        default: x = try generator.tensor(shape)
        }
        // The logarithm and the magnitude of single elements have corners.
        if axes.isEmpty, [.norm, .product].contains(kind) { continue }
        try expectGradients(
          of: .reduction(Reduction(kind, axes: axes, keepsAxes: keepsAxes)), [x], "\(shape)")
      }
    }
  }

  private func gradient(_ operation: Operation, _ x: [Float], _ shape: [Int], _ output: [Float])
    throws -> [Float]
  {
    let run = try GradientRun(GradientCase(operation, [try Tensor(shape, x)]))
    try run.addGradients([output])
    return run.parameterGradients[0]
  }

  @Test func equalMaximaShareTheGradient() throws {
    let maximum = Operation.reduction(Reduction(.maximum, axes: [1], keepsAxes: false))
    #expect(try gradient(maximum, [2, 5, 5, 1, 3, 0], [2, 3], [4, 7]) == [0, 2, 2, 0, 7, 0])
    let minimum = Operation.reduction(Reduction(.minimum, axes: [0], keepsAxes: true))
    #expect(try gradient(minimum, [1, 4, 1, 3, 1, 4], [3, 2], [6, 1]) == [2, 0, 2, 1, 2, 0])
  }

  @Test func productsOfZerosHaveGradients() throws {
    let product = Operation.reduction(Reduction(.product, axes: [1], keepsAxes: false))
    #expect(
      try gradient(product, [2, 0, 3, 0, 5, 0, 2, 3, 4], [3, 3], [1, 1, 2])
        == [0, 6, 0, 0, 0, 0, 24, 16, 12])
  }

  @Test func normsOfNothingHaveNoGradient() throws {
    let norm = Operation.reduction(Reduction(.norm, axes: [1], keepsAxes: false))
    #expect(try gradient(norm, [0, 0, 3, 4], [2, 2], [1, 10]) == [0, 0, 6, 8])
  }

  @Test mutating func cumulativeSums() throws {
    let x = try generator.tensor([2, 4, 3])
    for axis in 0..<3 {
      for excludesOwn in [false, true] {
        for fromEnd in [false, true] {
          try expectGradients(
            of: .cumulativeSum(
              CumulativeSum(axis: axis, excludesOwn: excludesOwn, fromEnd: fromEnd)), [x])
        }
      }
    }
  }

  @Test mutating func largestElements() throws {
    for (axis, count) in [(0, 2), (1, 3), (2, 1)] {
      for takesLargest in [false, true] {
        try expectGradients(
          of: .topK(TopK(axis: axis, takesLargest: takesLargest)),
          [try generator.spread([3, 4, 2]), try Tensor([1], [Int64(count)])])
      }
    }
  }

  @Test mutating func addedUpdates() throws {
    try expectGradients(
      of: .scatterElements(ScatterElements(axis: 0, .add)),
      [
        try generator.tensor([4, 2]), try Tensor([3, 2], [0, 2, 3, 2, -1, 0] as [Int64]),
        try generator.tensor([3, 2]),
      ])
    try expectGradients(
      of: .scatterND(ScatterND(.add)),
      [
        try generator.tensor([4, 3]), try Tensor([3, 1], [1, 3, 1] as [Int64]),
        try generator.tensor([3, 3]),
      ])
  }

  /// Several updates of one element; x and updates far apart, so that no difference changes a maximum.
  @Test(arguments: [ScatterReduction.multiply, .minimum, .maximum])
  mutating func combinedUpdates(reduction: ScatterReduction) throws {
    let numbers = try generator.spread([20]).elements(as: Float.self)
    func part(_ range: Range<Int>, _ shape: [Int]) throws -> Tensor {
      try Tensor(shape, Array(numbers[range]))
    }
    try expectGradients(
      of: .scatterElements(ScatterElements(axis: 0, reduction)),
      [
        try part(0..<8, [4, 2]), try Tensor([4, 2], [0, 2, 3, 2, -1, 0, 3, 2] as [Int64]),
        try part(8..<16, [4, 2]),
      ])
    try expectGradients(
      of: .scatterND(ScatterND(reduction)),
      [
        try part(0..<8, [4, 2]), try Tensor([5, 1], [1, 3, 1, 1, 0] as [Int64]),
        try part(8..<18, [5, 2]),
      ])
  }

  /// A product with zeros has no quotient: 3 · 0 · 5 has the derivatives 0, 15 and 0.
  @Test func productsOfUpdatesWithZeros() throws {
    let run = try GradientRun(
      GradientCase(
        .scatterElements(ScatterElements(axis: 0, .multiply)),
        [
          try Tensor([1], [3] as [Float]), try Tensor([2], [0, 0] as [Int64]),
          try Tensor([2], [0, 5] as [Float]),
        ]))
    try run.addGradients([[1]])
    #expect(run.parameterGradients == [[0], [15, 0]])
  }

  // MARK: Normalizations

  @Test(arguments: ChannelOrder.allCases)
  mutating func batchNormalizations(order: ChannelOrder) throws {
    for shape in [[4, 3], [2, 3, 5], [2, 3, 2, 3]] {
      let x = order == .channelsFirst ? shape : [shape[0]] + shape[2...] + [shape[1]]
      try expectGradients(
        of: .batchNormalization(BatchNormalization(order: order, epsilon: 1e-3)),
        [
          try generator.tensor(x), try generator.tensor([3]), try generator.tensor([3]),
          try generator.tensor([3]), try generator.tensor([3], in: 0.75...2),
        ], "\(x)")
    }
  }

  @Test mutating func layerNormalizations() throws {
    for (shape, axis) in [([3, 6], 1), ([2, 3, 4], 1), ([2, 2, 37], 2), ([7], 0)] {
      let rest = Array(shape[axis...])
      for operands in 1...3 {
        let parameters = try (1..<3).map { _ in try generator.tensor(rest, in: 0.5...2) }
        try expectGradients(
          of: .layerNormalization(LayerNormalization(axis: axis, epsilon: 1e-3)),
          [try generator.tensor(shape, in: -2...2)] + parameters.prefix(operands - 1),
          "\(shape)")
      }
    }
    try expectGradients(
      of: .layerNormalization(LayerNormalization(axis: 1, epsilon: 1e-3)),
      [try generator.tensor([3, 5]), nil, try generator.tensor([5])])
  }

  @Test(arguments: ChannelOrder.allCases)
  mutating func groupNormalizations(order: ChannelOrder) throws {
    for (groups, shape) in [
      (2, [2, 4, 3]), (0, [2, 3, 5]), (1, [2, 3, 2, 2]), (3, [1, 6, 2, 2]),
    ] {
      let x = order == .channelsFirst ? shape : [shape[0]] + shape[2...] + [shape[1]]
      try expectGradients(
        of: .groupNormalization(GroupNormalization(groups: groups, order: order, epsilon: 1e-3)),
        [
          try generator.tensor(x, in: -2...2), try generator.tensor([shape[1]]),
          try generator.tensor([shape[1]]),
        ], "\(x)")
    }
  }

  // MARK: Windows and sizes

  @Test(arguments: Pooling.Kind.allCases, ChannelOrder.allCases)
  mutating func poolings(kind: Pooling.Kind, order: ChannelOrder) throws {
    struct Window {
      var shape: [Int]
      var window: [Int]
      var strides: [Int]
      var dilations: [Int]
      var padding = Padding.sameUpper
      var roundsUp = false
    }
    let windows = [
      Window(shape: [2, 2, 7], window: [3], strides: [2], dilations: [1]),
      Window(shape: [1, 3, 5, 6], window: [2, 2], strides: [2, 2], dilations: [1, 1]),
      Window(
        shape: [2, 2, 5, 5], window: [3, 2], strides: [1, 2], dilations: [1, 2],
        padding: .explicit(before: [1, 0], after: [1, 1])),
      Window(
        shape: [1, 2, 6, 5], window: [3, 3], strides: [2, 2], dilations: [1, 1],
        padding: .explicit(before: [1, 1], after: [0, 0]), roundsUp: true),
      Window(
        shape: [1, 20, 3, 3], window: [2, 2], strides: [1, 1], dilations: [1, 1],
        padding: .explicit(before: [0, 0], after: [0, 0])),
      Window(
        shape: [1, 2, 3, 4, 3], window: [2, 2, 2], strides: [1, 2, 1], dilations: [1, 1, 1],
        padding: .sameLower),
    ]
    for window in windows {
      let shape = window.shape
      let x = order == .channelsFirst ? shape : [shape[0]] + shape[2...] + [shape[1]]
      try expectGradients(
        of: .pooling(
          Pooling(
            kind: kind, order: order, window: window.window, strides: window.strides,
            dilations: window.dilations, padding: window.padding, roundsUp: window.roundsUp)),
        [try generator.spread(x)], "\(window)")
    }
  }

  @Test func theFirstOfEqualElementsTakesTheGradient() throws {
    let operation = Operation.pooling(
      Pooling(
        kind: .maximum, order: .channelsFirst, window: [2], strides: [2], dilations: [1],
        padding: .explicit(before: [0], after: [0]), roundsUp: false))
    #expect(
      try gradient(operation, [3, 3, 1, 2, .nan, 5], [1, 1, 6], [1, 2, 4]) == [1, 0, 0, 2, 0, 4])
  }

  @Test(arguments: Resize.Coordinates.allCases)
  mutating func resizes(coordinates: Resize.Coordinates) throws {
    let modes: [Resize.Mode] = [.nearest(.floor), .linear, .cubic(coefficient: -0.75)]
    for mode in modes {
      for (antialias, excludesOutside) in [(false, false), (true, false), (false, true)] {
        for extents in [[5, 7] as [Int64], [2, 3], [3, 4], [6, 2]] {
          if case .nearest = mode, antialias || excludesOutside { continue }
          var test = GradientCase()
          let x = try test.parameter(try generator.tensor([1, 2, 3, 4]))
          var operands: [Graph.ValueID?] = [x, try test.constant(extents)]
          if coordinates == .region {
            operands.append(test.constant(try Tensor([4], [-0.25, 0.125, 0.75, 1.25] as [Float])))
          }
          try test.output(
            try test.append(
              .resize(
                Resize(
                  mode, coordinates, axes: [2, 3], antialias: antialias,
                  excludesOutside: excludesOutside, extrapolation: 3)), operands)[0])
          try expectGradients(test, "\(mode) \(coordinates) \(extents)")
        }
      }
    }
  }
}
