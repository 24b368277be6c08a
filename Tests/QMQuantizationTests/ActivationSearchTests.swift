import Foundation
import QMGraph
import QMOperations
import QMQuantization
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// The types of activations, chosen by their errors together.
@Suite struct ActivationSearchTests {
  private func signalToNoise(_ conversion: Conversion) throws -> Double {
    try #require(conversion.comparisons["y"]).signalToNoise
  }

  private func mode(_ name: String, in conversion: Conversion) throws -> ExecutionMode {
    let node = try #require(conversion.program.nodes.first { $0.name == name })
    return conversion.program.note(of: node).mode
  }

  /// Each of 80 activations alone leaves more than 35 dB. All together leave less than the weights do.
  @Test func errorsOfADeepChainAreAddedUp() throws {
    var network = try TestNetwork([8, 24])
    var value = network.x
    for layer in 0..<80 {
      // Rotations of pairs keep the magnitude; the permutation mixes the pairs.
      var weights = [Float](repeating: 0, count: 24 * 24)
      for row in 0..<24 {
        let angle = Float.random(in: -1...1, using: &network.generator)
        weights[row * 24 + (row * 5 + 7) % 24] = (1 - angle * angle).squareRoot()
        weights[row * 24 + (row * 5 + 8) % 24] = angle
      }
      value = try network.product(value, 24, "layer\(layer)", weights: weights)
      value = try network.unary(.leakyRelu(slope: 0.9), value, "activation\(layer)")
    }
    let y = try network.product(value, 6, "y")
    let samples = (0..<12).map { numbers(8 * 24, seed: $0, -1...1) }
    let conversion = try network.converted(y, samples: samples)
    let fixed = try #require(conversion.alternatives.first { $0.name == "int8" })
    let float = try #require(conversion.alternatives.first { $0.name == "float" })
    #expect(fixed.signalToNoiseDecibels < float.signalToNoiseDecibels - 10)
    #expect(try signalToNoise(conversion) > fixed.signalToNoiseDecibels + 10)
    let chosen = try #require(conversion.alternatives.first { $0.isChosen })
    #expect(chosen.signalToNoiseDecibels >= float.signalToNoiseDecibels - 2)
    #expect(chosen.price < 2)
  }

  /// A Concat of values up to 1 and up to about 1,000, which are scaled afterwards. What stands in
  /// front of it keeps int8.
  @Test func unlikeRangesShareNoScaleInAConcat() throws {
    var network = try TestNetwork([8, 16])
    let small = try network.product(network.x, 16, "small", Epilogue(function: .tanh))
    let hidden = try network.product(small, 16, "hidden", Epilogue(function: .tanh))
    let wide = (0..<64).map { _ in Float.random(in: -300...300, using: &network.generator) }
    let large = try network.product(network.x, 4, "large", weights: wide)
    let both = try network.graph.append(
      .concatenate(Concatenate(axis: 1)), name: "both", [small, large], outputNames: ["both"])[0]
    let factors = (0..<20).map { $0 < 16 ? Float(1) : 0.001 }
    let scaled = try network.graph.append(
      .binary(Binary(.multiply)), name: "scaled",
      [both, network.graph.addConstant(name: "factors", Tensor([1, 20], factors))],
      outputNames: ["scaled"])[0]
    let joined = try network.product(scaled, 6, "joined", Epilogue(function: .tanh))
    let sum = try network.graph.append(
      .binary(Binary(.add)), name: "sum",
      [joined, network.product(hidden, 6, "other")], outputNames: ["sum"])[0]
    let y = try network.product(sum, 4, "y")
    let conversion = try network.converted(
      y, samples: (0..<12).map { numbers(128, seed: $0, -1...1) })
    for name in ["small", "hidden", "large", "joined", "other", "y"] {
      #expect(try mode(name, in: conversion) == .integer, "\(name)")
    }
    let reader = try #require(conversion.program.nodes.first { $0.name == "hidden" })
    #expect(conversion.program.values[reader.inputs[0]!].type.elementType == .int8)
    #expect(try signalToNoise(conversion) > 34, "\(conversion.alternatives)")
  }

  /// A product that joins numbers up to 1 with others up to about 1,000, and weighs them by as much less.
  @Test(arguments: [true, false]) func unlikeWeightsOfAConcat(hasSamples: Bool) throws {
    var network = try TestNetwork([8, 16])
    let small = try network.product(network.x, 16, "small", Epilogue(function: .tanh))
    let wide = (0..<256).map { _ in Float.random(in: -300...300, using: &network.generator) }
    let large = try network.product(
      network.x, 16, "large", Epilogue(function: .relu), weights: wide)
    let both = try network.graph.append(
      .concatenate(Concatenate(axis: 1)), name: "both", [small, large], outputNames: ["both"])[0]
    let weights = (0..<32 * 12).map { index in
      Float.random(in: -1...1, using: &network.generator) / (index % 32 < 16 ? 1 : 700)
    }
    let joined = try network.product(
      both, 12, "joined", Epilogue(function: .relu), weights: weights)
    let y = try network.product(joined, 4, "y")
    var graph = network.graph
    try graph.addOutput(name: "y", y)
    let conversion =
      try hasSamples
      ? network.converted(y, samples: (0..<12).map { numbers(128, seed: $0, -1...1) })
      : Converter(recipe: Recipe()).convert(graph)
    for name in ["small", "large", "joined"] {
      #expect(try mode(name, in: conversion) == .integer, "\(name)")
    }
    #expect(try signalToNoise(conversion) > 34, "\(conversion.alternatives)")
  }

  /// Tones have weak bands, whose logarithm would be that of the rounding of the transform.
  @Test func transformsOfTonesKeepTheirWeights() throws {
    let components = (0..<16 * 16).map { index in
      let (row, time) = (index / 16, Double(index % 16))
      let window = 0.5 - 0.5 * cos(2 * Double.pi * (time + 0.5) / 16)
      let angle = 2 * Double.pi * Double(row / 2) * time / 16
      return Float(window * (row % 2 == 0 ? cos(angle) : sin(angle)))
    }
    let (network, y) = try spectralFront(components)
    let samples = (UInt64(0)..<12).map { seed in
      let phases = numbers(8, seed: seed, 0...6)
      let noise = numbers(128, seed: seed + 100, -1e-4...1e-4)
      return (0..<128).map { index in
        let tone = Double(index / 16 % 4 + 2)
        let angle = 2 * Double.pi * tone * Double(index % 16) / 16 + Double(phases[index / 16])
        return Float(cos(angle)) + noise[index]
      }
    }
    let conversion = try network.converted(y, samples: samples)
    #expect(try mode("spectrum", in: conversion) == .float)
    #expect(try mode("y", in: conversion) == .integer)
    #expect(try signalToNoise(conversion) > 30, "\(conversion.alternatives)")
  }

  /// A filter bank between a power spectrum and its logarithm.
  /// - Parameter weights: of the transform, 16 × 16.
  private func spectralFront(
    _ weights: [Float]? = nil
  ) throws -> (network: TestNetwork, y: Graph.ValueID) {
    var network = try TestNetwork([8, 16])
    // Each component is a hundredth to one times as large as the input.
    let components =
      weights
      ?? (0..<16 * 16).map { index in
        Float.random(in: -1...1, using: &network.generator) / Float(1 + index / 16 * 8)
      }
    let spectrum = try network.product(network.x, 16, "spectrum", weights: components)
    let power = try network.unary(.square, spectrum, "power")
    let filters = (0..<8 * 16).map { index -> Float in
      (index % 16) / 2 == index / 16 ? Float.random(in: 0.5...1, using: &network.generator) : 0
    }
    let bank = try network.product(power, 8, "bank", weights: filters)
    let shifted = try network.graph.append(
      .binary(Binary(.add)), name: "shifted",
      [
        bank,
        network.graph.addConstant(name: "e", Tensor([1, 8], [Float](repeating: 1e-6, count: 8))),
      ],
      outputNames: ["shifted"])[0]
    let logarithm = try network.unary(.logarithm, shifted, "logarithm")
    let y = try network.product(logarithm, 4, "y")
    return (network, y)
  }

  @Test(arguments: [Recipe.Activations.int8, .dynamic])
  func aFilterBankBeforeALogarithmReadsFloats(activations: Recipe.Activations) throws {
    let (network, y) = try spectralFront()
    let conversion = try network.converted(
      y, samples: (0..<4).map { numbers(128, seed: $0, -1...1) }, activations)
    #expect(try mode("bank", in: conversion) == .float)
    for name in ["spectrum", "y"] { #expect(try mode(name, in: conversion) == .integer, "\(name)") }
    #expect(try signalToNoise(conversion) > 30)
  }

  /// Inputs made of noise have no weak bands, whose logarithm would be that of the rounding of others.
  @Test func withoutSamplesAWaveformBeforeALogarithmStaysFloat() throws {
    var (network, y) = try spectralFront()
    try network.graph.addOutput(name: "y", y)
    let conversion = try Converter(recipe: Recipe(weights: .codes(8))).convert(network.graph)
    #expect(try mode("spectrum", in: conversion) == .float)
    #expect(try mode("y", in: conversion) == .integer)
  }

  /// Rows differ by a thousand times and count alike: ranges of the run are right for each of them.
  @Test func samplesMakeNothingWorse() throws {
    var network = try TestNetwork([8, 16])
    let hidden = try network.product(network.x, 16, "hidden")
    let normalized = try network.graph.append(
      .layerNormalization(LayerNormalization(axis: 1, epsilon: 1e-9)), name: "normalized", [hidden],
      outputNames: ["normalized"])[0]
    let y = try network.product(normalized, 6, "y")
    let samples = (0..<12).map { seed in
      numbers(128, seed: seed, -1...1).enumerated().map { index, number in
        number * [1, 0.1, 0.01, 0.001][index / 16 % 4]
      }
    }
    let fixed = try network.converted(y, samples: samples)
    let dynamic = try network.converted(y, samples: samples, .dynamic)
    #expect(try signalToNoise(fixed) > signalToNoise(dynamic) - 2, "\(fixed.alternatives)")
    #expect(try signalToNoise(fixed) > 30)
    #expect(
      fixed.alternatives.map(\.name).sorted() == ["dynamic", "float", "int16", "int8", "search"])
    #expect(fixed.alternatives.count { $0.isChosen } == 1)
  }

  /// A quarter of the samples are quiet, others in each test: few or none of those that choose, or one
  /// that a median passes over.
  @Test(arguments: 0..<8) func aMinorityOfTheSamplesCounts(first: Int) throws {
    var network = try TestNetwork([8, 16])
    let hidden = try network.product(network.x, 16, "hidden")
    let normalized = try network.graph.append(
      .layerNormalization(LayerNormalization(axis: 1, epsilon: 1e-9)), name: "normalized", [hidden],
      outputNames: ["normalized"])[0]
    let y = try network.product(normalized, 6, "y")
    let samples = (0..<16).map { index in
      let isQuiet = (0..<4).contains((index + 16 - 2 * first) % 16)
      return numbers(128, seed: UInt64(index), -1...1).map { $0 * (isQuiet ? 0.02 : 1) }
    }
    func errors(_ activations: Recipe.Activations) throws -> [Double] {
      let conversion = try network.converted(y, samples: samples, activations)
      return try #require(conversion.comparisons["y"]).whole.normalizedErrors
    }
    let (fixed, dynamic) = (try errors(.int8), try errors(.dynamic))
    #expect(fixed.count == 4)
    for (fixed, dynamic) in zip(fixed, dynamic) {
      #expect(fixed < 10 * dynamic + 1e-3, "\(fixed) \(dynamic)")
    }
  }

  /// A trunk that is also added to what is computed from it.
  @Test func anInt16ActivationIsAlsoAResidual() throws {
    var network = try TestNetwork([8, 16])
    // One input in sixteen is thirty times as large, and its weights are as much smaller.
    let weights = (0..<256).map { index in
      Float.random(in: -1...1, using: &network.generator) / (index % 16 == 0 ? 30 : 1)
    }
    let scaled = try network.graph.append(
      .binary(Binary(.multiply)), name: "trunk",
      [
        network.x,
        network.graph.addConstant(
          name: "f", Tensor([1, 16], (0..<16).map { $0 == 0 ? Float(30) : 1 })),
      ],
      outputNames: ["trunk"])[0]
    let branch = try network.product(scaled, 16, "branch", weights: weights)
    let sum = try network.graph.append(
      .binary(Binary(.add)), name: "sum", [branch, scaled], outputNames: ["sum"])[0]
    let y = try network.product(
      sum, 6, "y",
      weights: (0..<96).map { index in
        Float.random(in: -1...1, using: &network.generator) / (index % 16 == 0 ? 30 : 1)
      })
    let samples = (0..<12).map { numbers(128, seed: $0, -1...1) }
    let conversion = try network.converted(y, samples: samples)
    let plateau = try signalToNoise(network.converted(y, samples: samples, .float))
    #expect(try signalToNoise(conversion) > min(plateau - 2.5, 39.5))
    let types = conversion.program.nodes.flatMap { $0.inputs.compactMap { $0 } }
      .map { conversion.program.values[$0].type.elementType }
    #expect(types.contains(.int16))
  }

  /// Rounding changes how many elements are not zero: programs of the search and the result are
  /// compared by the numbers in front.
  @Test(arguments: [Recipe.Activations.int8, .dynamic])
  func theShapeOfAResultMayDependOnRounding(activations: Recipe.Activations) throws {
    var network = try TestNetwork([8, 16])
    let hidden = try network.product(network.x, 16, "hidden", Epilogue(function: .relu))
    let scores = try network.product(hidden, 24, "scores", Epilogue(function: .relu))
    let places = try network.graph.append(
      .nonZero(NonZero()), name: "places", [scores], outputNames: ["places"])[0]
    let conversion = try network.converted(
      places, samples: (0..<12).map { numbers(128, seed: $0, -1...1) }, activations)
    let comparison = try #require(conversion.comparisons["y"])
    #expect(comparison.otherShapeCount > 0)
    #expect(comparison.signalToNoise > 30)
  }

  /// Features of unlike units that were normalized by constants, which are now in the weights: means of
  /// many deviations, sizes from 0.01 to 1,000,000.
  @Test(arguments: [true, false]) func columnsOfUnlikeUnits(hasSamples: Bool) throws {
    let (means, deviations): ([Float], [Float]) = (
      [40, 5e4, 0.03, 1000, 2e6, 0.5], [5, 1e4, 0.02, 3, 3e5, 0.2]
    )
    var network = try TestNetwork([8, 6])
    var generator = SeededGenerator(seed: 9)
    let rows = (0..<24 * 6).map { index in
      Float.random(in: -1...1, using: &generator) / deviations[index % 6]
    }
    let bias = (0..<24).map { row in
      -(0..<6).reduce(Float(0)) { $0 + rows[row * 6 + $1] * means[$1] }
    }
    let product = try network.product(network.x, 24, "first", weights: rows)
    let shifted = try network.graph.append(
      .binary(Binary(.add)), name: "shifted",
      [product, network.graph.addConstant(name: "bias", Tensor([24], bias))],
      outputNames: ["shifted"])[0]
    let y = try network.product(network.unary(.relu, shifted, "relu"), 4, "y")
    let samples = (0..<12).map { seed in
      numbers(48, seed: seed, -1.5...1.5).enumerated().map { index, number in
        means[index % 6] + number * deviations[index % 6]
      }
    }
    var graph = network.graph
    try graph.addOutput(name: "y", y)
    let conversion =
      try hasSamples
      ? network.converted(y, samples: samples) : Converter(recipe: Recipe()).convert(graph)
    let (float, small) = (try Model(graph.flattened().program), try Model(conversion.program))
    var (signal, error) = (Float(0), Float(0))
    for seed in 20..<24 {
      let x = numbers(48, seed: UInt64(seed), -1.5...1.5).enumerated().map { index, number in
        means[index % 6] + number * deviations[index % 6]
      }
      let inputs = ["x": try Tensor([8, 6], x)]
      let right = try #require(try float.run(inputs)["y"]).elements(as: Float.self)
      let found = try #require(try small.run(inputs)["y"]).elements(as: Float.self)
      for (right, found) in zip(right, found) {
        signal += right * right
        error += (right - found) * (right - found)
      }
    }
    // 30 dB.
    #expect(signal > 1000 * error)
  }

  /// Without samples, the ranges of the run are not fine enough for many layers of unlike channels.
  @Test func typesAreChosenOnMadeInputsToo() throws {
    var network = try TestNetwork([8, 24])
    var value = network.x
    for layer in 0..<24 {
      // One channel is a hundred times as large, and read by weights that are as much smaller.
      let weights = (0..<24 * 24).map { index in
        Float.random(in: -0.3...0.3, using: &network.generator)
          * (index % 24 == 0 && layer > 0 ? 0.01 : 1) * (index / 24 == 0 ? 100 : 1)
      }
      value = try network.product(value, 24, "layer\(layer)", weights: weights)
      value = try network.unary(.leakyRelu(slope: 0.9), value, "activation\(layer)")
    }
    let y = try network.product(value, 6, "y")
    var graph = network.graph
    try graph.addOutput(name: "y", y)
    let conversion = try Converter(recipe: Recipe()).convert(graph)
    let (float, dynamic) = (
      try #require(conversion.alternatives.first { $0.name == "float" }),
      try #require(conversion.alternatives.first { $0.name == "dynamic" })
    )
    let chosen = try #require(conversion.alternatives.first { $0.isChosen })
    #expect(dynamic.signalToNoiseDecibels < float.signalToNoiseDecibels - 4)
    #expect(chosen.signalToNoiseDecibels >= float.signalToNoiseDecibels - 2)
    #expect(chosen.price < float.price)
    #expect(conversion.plan.activations.values.allSatisfy { $0 == .dynamic })
    #expect(!conversion.floatReasons.isEmpty)
  }
}
