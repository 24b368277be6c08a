import QMGraph
import QMOperations
import QMQuantization
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// What the plan leaves to codes and what it keeps in real numbers.
@Suite struct PlannerTests {
  private func kept(_ conversion: Conversion) -> [String: FloatReason] {
    var kept: [String: FloatReason] = [:]
    for (value, reason) in conversion.floatReasons { kept[conversion.graph[value].name] = reason }
    return kept
  }

  @Test func aPowerSpectrumStaysRealUpToItsLogarithm() throws {
    var network = try TestNetwork([8, 16])
    let spectrum = try network.product(network.x, 16, "spectrum")
    let power = try network.unary(.square, spectrum, "power")
    let raised = try network.graph.append(
      .binary(Binary(.add)), name: "raised",
      [power, network.graph.addConstant(name: "e", Tensor([1, 16], numbers(16, seed: 3, 0...1)))],
      outputNames: ["raised"])[0]
    let logarithm = try network.unary(.logarithm, raised, "logarithm")
    let hidden = try network.product(logarithm, 12, "hidden", Epilogue(function: .relu))
    let y = try network.product(hidden, 4, "y")
    let conversion = try network.converted(
      y, samples: (0..<4).map { numbers(128, seed: $0, -1...1) })
    let kept = kept(conversion)
    #expect(kept["power"] == .spectralFrontEnd)
    for name in ["x", "hidden"] { #expect(kept[name] == nil, "\(name)") }
    for node in conversion.program.nodes where node.operation.name == "MatrixMultiply" {
      #expect(conversion.program.note(of: node).mode == .integer, "\(node.name)")
    }
  }

  @Test func whatLeadsToAnOutputWithoutWeightsStaysReal() throws {
    var network = try TestNetwork([8, 16])
    let hidden = try network.product(network.x, 12, "hidden", Epilogue(function: .relu))
    let logits = try network.product(hidden, 5, "logits")
    let y = try network.graph.append(
      .softmax(Softmax(.softmax, axis: 1)), name: "y", [logits])[0]
    let kept = kept(
      try network.converted(y, samples: (0..<4).map { numbers(128, seed: $0, -1...1) }))
    #expect(kept == ["logits": FloatReason.outputTail])
  }

  /// One input element in sixteen is twenty times as large as the others, and its weight is as much
  /// smaller: int8 leaves little of the fifteen.
  @Test func whatInt8DamagesBecomesInt16BeforeAProduct() throws {
    var network = try TestNetwork([8, 16])
    var weights = numbers(12 * 16, seed: 5, -1...1)
    for row in 0..<12 { weights[row * 16] /= 20 }
    let magnitudes = try network.unary(.absolute, network.x, "magnitudes")
    let hidden = try network.graph.append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: "hidden",
      [magnitudes, network.graph.addConstant(name: "w", Tensor([12, 16], weights))])[0]
    let y = try network.product(network.unary(.tanh, hidden, "tanh"), 4, "y")
    let samples = (0..<4).map { seed in
      numbers(128, seed: seed, -1...1).enumerated().map { $0 % 16 == 0 ? $1 * 20 : $1 }
    }
    let conversion = try network.converted(y, samples: samples)
    #expect(kept(conversion).isEmpty)
    let first = try #require(conversion.program.nodes.first { $0.name == "hidden" })
    #expect(conversion.program.values[first.inputs[0]!].type.elementType == .int16)
    #expect(conversion.program.note(of: first).mode == .integer)
    #expect(try #require(conversion.comparisons["y"]).signalToNoise > 20)
  }

  @Test func whatIsMaskedWithInfinitiesStaysReal() throws {
    var network = try TestNetwork([8, 16])
    let scores = try network.product(network.x, 16, "scores")
    let mask = (0..<16).map { $0 % 5 == 0 ? -Float.infinity : 0 }
    let masked = try network.graph.append(
      .binary(Binary(.add)), name: "masked",
      [scores, network.graph.addConstant(name: "mask", Tensor([1, 16], mask))],
      outputNames: ["masked"])[0]
    let shares = try network.graph.append(
      .softmax(Softmax(.softmax, axis: 1)), name: "shares", [masked], outputNames: ["shares"])[0]
    let y = try network.product(shares, 4, "y")
    let conversion = try network.converted(
      y, samples: (0..<4).map { numbers(128, seed: $0, -1...1) })
    #expect(kept(conversion)["masked"] == FloatReason.nonFinite)
    #expect(try #require(conversion.comparisons["y"]).signalToNoise > 25)
  }

  /// A clipped layer is no spectrum, whatever steep function follows at the end.
  @Test func layersWithLimitsAreNoSignalFront() throws {
    var network = try TestNetwork([8, 16])
    let limits = Epilogue(function: .clip(minimum: 0, maximum: 6))
    let first = try network.product(network.x, 16, "first", limits)
    let second = try network.product(first, 16, "second", limits)
    let norm = try network.graph.append(
      .reduction(Reduction(.norm, axes: [1], keepsAxes: true)), name: "norm", [second],
      outputNames: ["norm"])[0]
    let y = try network.graph.append(
      .binary(Binary(.divide)), name: "y", [second, norm], outputNames: ["y"])[0]
    let kept = kept(
      try network.converted(y, samples: (0..<4).map { numbers(128, seed: $0, -1...1) }))
    for name in ["x", "first"] { #expect(kept[name] == nil, "\(name)") }
  }

  /// The output is a feature in another arrangement, which a layer reads as well.
  @Test func whatALayerReadsIsNoOutputTail() throws {
    var network = try TestNetwork([8, 16])
    let feature = try network.product(network.x, 12, "feature", Epilogue(function: .relu))
    let turned = try network.graph.append(
      .transpose(Transpose(permutation: [1, 0])), name: "turned", [feature],
      outputNames: ["turned"])[0]
    try network.graph.addOutput(name: "feature", turned)
    let y = try network.product(feature, 4, "y")
    let conversion = try network.converted(
      y, samples: (0..<4).map { numbers(128, seed: $0, -1...1) })
    #expect(kept(conversion)["feature"] == nil)
    let last = try #require(conversion.program.nodes.first { $0.name == "y" })
    #expect(conversion.program.note(of: last).mode == .integer)
  }

  /// A state that the network gives back stands beside a feature that a layer reads.
  @Test func aStateBesideAFeatureHasNoPartInItsGrid() throws {
    var network = try TestNetwork([8, 16])
    let feature = try network.product(network.x, 12, "feature", Epilogue(function: .relu))
    let state = try network.product(network.x, 12, "state")
    let both = try network.graph.append(
      .concatenate(Concatenate(axis: 1)), name: "both", [feature, state], outputNames: ["both"])[0]
    try network.graph.addOutput(name: "both", both)
    let y = try network.product(feature, 4, "y")
    let conversion = try network.converted(
      y, samples: (0..<4).map { numbers(128, seed: $0, -1...1) })
    #expect(kept(conversion)["feature"] == nil)
    let last = try #require(conversion.program.nodes.first { $0.name == "both" })
    let types = last.inputs.map { conversion.program.values[$0!].type.elementType }
    #expect(types == [.float32, .float32])
  }

  /// One number for one sample has no spread that noise could be compared with.
  @Test func aSingleNumberIsNoReasonToStayReal() throws {
    var network = try TestNetwork([1, 16])
    let hidden = try network.product(network.x, 12, "hidden", Epilogue(function: .relu))
    let y = try network.product(hidden, 1, "y")
    let conversion = try network.converted(y, samples: [numbers(16, seed: 2, 0.5...1)])
    #expect(kept(conversion)["x"] == nil)
    #expect(kept(conversion)["hidden"] == nil)
  }

  /// What extents decide is computed by no step, and still has a range.
  @Test func valuesThatExtentsDecideAreObserved() throws {
    var network = try TestNetwork([.free("n"), 16])
    var graph = network.graph
    let extents = try graph.append(.shape(ShapeOperation()), name: "extents", [network.x])[0]
    let filled = try graph.append(
      .fill(Fill()), name: "filled",
      [extents, graph.addConstant(name: "half", Tensor([], [Float(0.5)]))],
      outputNames: ["filled"])[0]
    let sum = try graph.append(
      .binary(Binary(.add)), name: "sum", [network.x, filled], outputNames: ["sum"])[0]
    network.graph = graph
    try network.graph.addOutput(name: "y", network.product(sum, 4, "y"))
    let samples = try (0..<4).map { ["x": try Tensor([8, 16], numbers(128, seed: $0, -1...1))] }
    let conversion = try Converter(recipe: Recipe(weights: .codes(8), activations: .int8))
      .convert(network.graph, samples: TensorSamples(samples))
    #expect(try #require(conversion.comparisons["y"]).signalToNoise > 25)
  }

  /// y of one of two hidden layers, as an input says.
  private func choosing(
    samples flags: [Bool], sufficientDecibels: Double = 40
  ) throws -> Conversion {
    var network = try TestNetwork([8, 16])
    let flag = try network.graph.addInput(name: "flag", ValueType(.bool, []))
    let relu = Epilogue(function: .relu)
    let first = try network.product(network.x, 12, "first", relu)
    let second = try network.product(network.product(network.x, 14, "inner", relu), 12, "second")
    let chosen = try network.graph.append(
      .if(If()), name: "chosen", [flag, first, second], outputNames: ["chosen"])[0]
    try network.graph.addOutput(name: "y", network.product(chosen, 4, "y"))
    var recipe = Recipe(weights: .codes(8), activations: .int8)
    recipe.thresholds.sufficientDecibels = sufficientDecibels
    return try Converter(recipe: recipe)
      .convert(
        network.graph,
        samples: TensorSamples(
          flags.enumerated().map { seed, flag in
            [
              "x": try Tensor([8, 16], numbers(128, seed: UInt64(seed), -1...1)),
              "flag": try Tensor([], [flag]),
            ]
          }))
  }

  private func signalToNoise(_ conversion: Conversion, where flag: Bool) throws -> Double {
    let inputs = [
      "x": try Tensor([8, 16], numbers(128, seed: 77, -1...1)), "flag": try Tensor([], [flag]),
    ]
    let float = try Model(conversion.graph.flattened().program).run(inputs)["y"]!
    var comparison = Comparison()
    try comparison.add(
      reference: float, measured: Model(conversion.program).run(inputs)["y"]!)
    return comparison.signalToNoise
  }

  @Test func aBranchThatNoSampleTakesIsRoundedInTheRun() throws {
    let conversion = try choosing(samples: [true, true, true, true])
    #expect(kept(conversion) == ["inner": .unseen, "second": .unseen, "chosen": .unseen])
    let modes = conversion.program.nodes.map { ($0.name, conversion.program.note(of: $0).mode) }
    for name in ["first", "inner", "second", "y"] {
      #expect(modes.contains { $0 == (name, .integer) }, "\(name)")
    }
    for flag in [true, false] {
      #expect(try signalToNoise(conversion, where: flag) > 25, "\(flag)")
    }
  }

  /// 40,000 products of the largest codes leave 32 bits: the product stays float32.
  @Test func sumsThatMayOverflowStayFloat() throws {
    let depth = 40_000
    var graph = Graph()
    let x = try graph.addInput(name: "x", ValueType(.float32, Shape([1, .fixed(depth)])))
    let weights = graph.addConstant(
      name: "w", try Tensor([2, depth], [Float](repeating: 1, count: 2 * depth)))
    let y = try graph.append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: "y", [x, weights])[0]
    try graph.addOutput(name: "y", y)
    let sample = try Tensor([1, depth], [Float](repeating: 0.5, count: depth))
    for activations in [Recipe.Activations.int8, .dynamic] {
      let conversion = try Converter(recipe: Recipe(activations: activations)).convert(
        graph, samples: TensorSamples([["x": sample]]))
      #expect(try #require(conversion.comparisons["y"]).signalToNoise > 60)
      try conversion.program.validate()
    }
  }

  @Test func bothSidesOfAChoiceAreOnOneGrid() throws {
    let conversion = try choosing(samples: [true, false, true, false], sufficientDecibels: 25)
    #expect(kept(conversion).isEmpty)
    let choice = try #require(conversion.program.nodes.first { $0.name == "chosen" })
    #expect(conversion.program.values[choice.outputs[0]].type.elementType == .int8)
    for flag in [true, false] {
      #expect(try signalToNoise(conversion, where: flag) > 25, "\(flag)")
    }
  }

  /// Half of the channels have weights a hundredth as large, and inputs as much larger.
  @Test func groupsOfChannelsHaveScalesOfTheirOwn() throws {
    var network = try TestNetwork([8, 32])
    let weights = numbers(12 * 32, seed: 5, -1...1).enumerated().map {
      $0 % 32 < 16 ? $1 : $1 / 100
    }
    let residual = try network.product(network.x, 12, "residual")
    let y = try network.graph.append(
      .matrixMultiply(
        MatrixMultiply(rightLayout: .channelsFirst, epilogue: Epilogue(function: .relu))),
      name: "y",
      [
        network.x, network.graph.addConstant(name: "w", Tensor([12, 32], weights)),
        network.graph.addConstant(name: "b", Tensor([12], numbers(12, seed: 6, -1...1))), nil, nil,
        residual,
      ])[0]
    try network.graph.addOutput(name: "y", y)
    let samples = try (0..<4 as Range<UInt64>).map { seed in
      let numbers = numbers(256, seed: seed, -1...1).enumerated().map {
        $0 % 32 < 16 ? $1 / 100 : $1
      }
      return ["x": try Tensor([8, 32], numbers)]
    }
    func signalToNoise(_ groupSize: Int?) throws -> Double {
      var recipe = Recipe(weights: .codes(4), activations: .float)
      recipe.groupSize = groupSize
      recipe.grid = .fixed
      let pattern = try NodePattern("residual")
      recipe.floatNodes = [pattern]
      let conversion = try Converter(recipe: recipe)
        .convert(network.graph, samples: TensorSamples(samples))
      let granularities = conversion.program.constants.compactMap { constant -> Granularity? in
        guard case .weights(_, let granularity) = constant.quantization else { return nil }
        return granularity
      }
      #expect(
        granularities == [groupSize.map { .perGroup(axis: 1, size: $0) } ?? .perChannel(axis: 0)])
      return try #require(conversion.comparisons["y"]).signalToNoise
    }
    #expect(try signalToNoise(16) > signalToNoise(nil) + 10)
    #expect(try signalToNoise(12) > signalToNoise(nil))
  }
}
