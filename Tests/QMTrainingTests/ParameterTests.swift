import QMOperations
import QMTensor
import QMTestSupport
import QMTraining
import Testing

@Suite struct ParameterTests {
  private static let granularities: [Granularity] = [
    .perTensor, .perChannel(axis: 0), .perChannel(axis: 1), .perGroup(axis: 1, size: 4),
  ]

  /// The first parameter's number, and what the network reads for it.
  private func read(_ parameters: Parameters, _ network: TrainingNetwork, _ name: String)
    -> [Float]
  {
    let place = network.parameters.firstIndex { $0.name == name }!
    return Array(
      UnsafeBufferPointer(
        start: parameters.elements[place],
        count: network.parameters[place].initial.elementCount))
  }

  // MARK: Start

  @Test(arguments: Quantizer.allCases, granularities)
  func trainingStartsWithTheCodesOfTheConverter(quantizer: Quantizer, granularity: Granularity)
    throws
  {
    for keepsWeights in [false, true] {
      let coded = try CodedNetwork(seed: 2, granularity: granularity)
      let parameters = try coded.parameters(quantizer, keepsWeights: keepsWeights)
      for (place, parameter) in coded.network.parameters.enumerated() {
        guard let codes = parameter.codes else { continue }
        let found = try #require(try parameters.codes(of: place))
        #expect(firstDifference(found.codes, codes.codes) == nil)
        #expect(found.granularity == codes.granularity)
        let scales = zip(
          found.scales.elements(as: Float.self), codes.scales.elements(as: Float.self))
        for (left, right) in scales {
          // A statistic's share of the scale is rounded, the learned scale is not.
          #expect(ulps(left, right) <= (quantizer.isLearned ? 0 : 1))
        }
      }
    }
  }

  @Test func weightsStartNearTheirOldPlaces() throws {
    let coded = try CodedNetwork(seed: 3)
    let parameters = try coded.parameters()
    let codes = coded.network.parameters[0].codes!
    let scales = codes.scales.elements(as: Float.self)
    let middle = try codes.numbers().elements(as: Float.self)
    for (index, start) in parameters.slot("first").elements.enumerated() {
      let reach = scales[index / 6] / 4
      let expected = min(max(coded.weights[index], middle[index] - reach), middle[index] + reach)
      #expect(start == expected)
    }
  }

  // MARK: Rounding

  @Test(arguments: Quantizer.allCases, granularities)
  func theNetworkReadsWhatTheFileHolds(quantizer: Quantizer, granularity: Granularity) throws {
    var generator = SeededGenerator(seed: 4)
    for hasWidth in [false, true] {
      let coded = try CodedNetwork(seed: 4, granularity: granularity)
      let parameters = try coded.parameters(quantizer, hasWidth: hasWidth)
      for slot in parameters.slots where slot.kind != .shifts {
        slot.elements = slot.elements.map {
          slot.kind == .weights
            ? 3 * $0 + Float.random(in: -0.5...1, using: &generator)
            : $0 * Float.random(in: 0.5...2, using: &generator)
        }
      }
      parameters.round()
      for (place, parameter) in coded.network.parameters.enumerated() where parameter.codes != nil {
        let codes = try #require(try parameters.codes(of: place))
        let expected = try codes.numbers().elements(as: Float.self)
        #expect(read(parameters, coded.network, parameter.name) == expected)
        let found = codes.codes.elements(as: Int8.self).map(Int32.init)
        #expect(found.allSatisfy { codes.codeRange.contains($0) })
        #expect(Set(found).count > 2)
        let histogram = parameters.histograms()[parameter.name == "first" ? 0 : 1]
        for code in -127...127 {
          #expect(histogram.counts[127 + code] == found.count { Int($0) == code })
        }
      }
    }
  }

  @Test(arguments: Quantizer.allCases, granularities)
  func flipsAreCodesThatChanged(quantizer: Quantizer, granularity: Granularity) throws {
    let coded = try CodedNetwork(seed: 11, granularity: granularity)
    let parameters = try coded.parameters(quantizer, hasWidth: true)
    func codes() throws -> [Int8] {
      try (0..<coded.network.parameters.count).flatMap { place in
        try parameters.codes(of: place)?.codes.elements(as: Int8.self) ?? []
      }
    }
    #expect(parameters.flipCount == 0)
    var changed = 0
    for factor: Float in [1, 1.25, 1.5, 0.5] {
      let before = try codes()
      for slot in parameters.slots where slot.kind == .weights {
        slot.elements = slot.elements.map { factor * $0 }
      }
      for slot in parameters.slots where slot.kind == .scales {
        slot.elements = slot.elements.map { 1.1 * factor * $0 }
      }
      // The scales of a try count no flips.
      _ = parameters.histograms(scaledBy: 1.7)
      parameters.round()
      let flips = zip(before, try codes()).count { $0 != $1 }
      #expect(parameters.flipCount == flips)
      changed += flips
    }
    #expect(changed > 0)
    parameters.round()
    #expect(parameters.flipCount == 0)
  }

  @Test(arguments: granularities)
  func roundingIsTheEquation(granularity: Granularity) throws {
    let coded = try CodedNetwork(seed: 5, granularity: granularity)
    let parameters = try coded.parameters()
    let slot = parameters.slot("first")
    slot.elements = coded.weights.map { 2.5 * $0 }
    parameters.round()
    let scales = parameters.slot("first.scales").elements
    let found = read(parameters, coded.network, "first")
    for (index, weight) in slot.elements.enumerated() {
      let scale = scales[CodedNetwork.scale(of: index, [4, 6], granularity)]
      let code = (weight * (1 / scale)).rounded(.toNearestOrEven)
      #expect(found[index] == scale * min(max(code, -7), 7))
    }
  }

  // MARK: Gradients

  private struct Twin {
    var weights: [Double]
    var scales: [Double]
  }

  /// Random gradients of the rounded weights of a network that was changed after the start, and the
  /// gradients of weights and scales that they give.
  private func gradients(
    _ quantizer: Quantizer, _ granularity: Granularity, hasWidth: Bool = false, threads: Int = 1
  ) throws -> (parameters: Parameters, coded: CodedNetwork, of: [Float]) {
    var generator = SeededGenerator(seed: 6)
    let coded = try CodedNetwork(seed: 6, granularity: granularity)
    let parameters = try coded.parameters(quantizer, hasWidth: hasWidth, threads: threads)
    let slot = parameters.slot("first")
    slot.elements = coded.weights.map { 2.5 * $0 + 0.25 }
    parameters.round()
    let gradients = try generator.tensor([24]).elements(as: Float.self)
    parameters.clearGradients()
    slot.elementGradients = gradients
    parameters.finishGradients()
    return (parameters, coded, gradients)
  }

  private func expectEqual(_ found: [Float], _ expected: [Double], _ description: String) {
    for (left, right) in zip(found, expected) {
      #expect(
        (Double(left) - right).magnitude <= 2e-6 * max(right.magnitude, 1),
        "\(description): \(left), \(right)")
    }
  }

  @Test(arguments: [Quantizer.lsq, .lsqPlus, .pact], granularities)
  func gradientsOfLearnedScalesAreTheEquations(quantizer: Quantizer, granularity: Granularity)
    throws
  {
    let (parameters, coded, gradients) = try gradients(quantizer, granularity)
    let (weights, scales) = (parameters.slot("first"), parameters.slot("first.scales"))
    let rounded = read(parameters, coded.network, "first")
    var expected = Twin(
      weights: gradients.map(Double.init),
      scales: [Double](repeating: 0, count: scales.count))
    var beyond = 0
    for (index, weight) in weights.elements.map(Double.init).enumerated() {
      let place = CodedNetwork.scale(of: index, [4, 6], granularity)
      let (scale, gradient) = (Double(scales.elements[place]), Double(gradients[index]))
      if weight.magnitude <= 7.5 * scale {
        if quantizer != .pact {
          expected.scales[place] += gradient * (Double(rounded[index]) - weight) / scale
        }
      } else {
        beyond += 1
        expected.weights[index] = 0
        expected.scales[place] += gradient * (weight > 0 ? 7 : -7)
      }
    }
    #expect(beyond > 3 && beyond < 20)
    expectEqual(weights.elementGradients, expected.weights, "weights")
    expectEqual(scales.elementGradients, expected.scales, "scales")
  }

  /// With s = factor · unit(w), the gradient of s passes through the unit to all weights with this s.
  @Test(arguments: [Quantizer.normalised, .scaled, .affine], granularities)
  func gradientsOfStatisticsReachTheWeights(quantizer: Quantizer, granularity: Granularity) throws {
    let (parameters, coded, gradients) = try gradients(quantizer, granularity)
    let slot = parameters.slot("first")
    let weights = slot.elements.map(Double.init)
    let factors = parameters.slot("first.scales").elements.map(Double.init)
    let rounded = read(parameters, coded.network, "first")
    let first = coded.network.parameters[0].codes!.scales.elements(as: Float.self)
    // A statistic counts as at least a quarter of the first scale.
    func unit(_ weights: [Double], _ place: Int) -> Double {
      let mean = weights.reduce(0, +) / Double(weights.count)
      let squares = weights.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
      let found =
        quantizer == .scaled
        ? weights.map { ($0 - mean).magnitude }.max() ?? 0
        : (squares / Double(weights.count)).squareRoot()
      return max(found, Double(first[place]) / 4)
    }
    var expected = gradients.map(Double.init)
    for (place, factor) in factors.enumerated() {
      let members = weights.indices.filter {
        CodedNetwork.scale(of: $0, [4, 6], granularity) == place
      }
      let scale = factor * unit(members.map { weights[$0] }, place)
      var scaleGradient = 0.0
      for index in members {
        let gradient = Double(gradients[index])
        if weights[index].magnitude <= 7.5 * scale {
          scaleGradient += gradient * (Double(rounded[index]) - weights[index]) / scale
        } else {
          expected[index] = 0
          scaleGradient += gradient * (weights[index] > 0 ? 7 : -7)
        }
      }
      for (position, index) in members.enumerated() {
        var (above, below) = (members.map { weights[$0] }, members.map { weights[$0] })
        above[position] += 1e-5
        below[position] -= 1e-5
        expected[index] += scaleGradient * factor * (unit(above, place) - unit(below, place)) / 2e-5
      }
    }
    for (left, right) in zip(slot.elementGradients, expected) {
      #expect((Double(left) - right).magnitude < 1e-4, "\(left), \(right)")
    }
    #expect(slot.elementGradients != gradients)
    #expect(parameters.slot("first.scales").elementGradients.allSatisfy { $0 == 0 })
  }

  @Test(arguments: Quantizer.allCases, granularities)
  func threadsDoNotMatter(quantizer: Quantizer, granularity: Granularity) throws {
    let one = try gradients(quantizer, granularity, hasWidth: true)
    let three = try gradients(quantizer, granularity, hasWidth: true, threads: 3)
    for (left, right) in zip(one.parameters.slots, three.parameters.slots) {
      #expect(left.elements == right.elements && left.elementGradients == right.elementGradients)
    }
  }

  // MARK: States

  @Test(arguments: Quantizer.allCases)
  func aSnapshotRestoresEverything(quantizer: Quantizer) throws {
    let coded = try CodedNetwork(seed: 7)
    let parameters = try coded.parameters(quantizer, hasWidth: true)
    parameters.multiplyScales(by: 1.25)
    let (snapshot, codes) = (parameters.snapshot(), try parameters.codes(of: 0)!)
    for slot in parameters.slots { slot.elements = slot.elements.map { 3 * $0 + 1 } }
    parameters.round()
    try parameters.restore(snapshot)
    #expect(parameters.snapshot() == snapshot)
    let found = try parameters.codes(of: 0)!
    #expect(firstDifference(found.codes, codes.codes) == nil)
    #expect(firstDifference(found.scales, codes.scales) == nil)
    #expect(throws: QMError.self) { try parameters.restore(Array(snapshot.dropLast())) }
  }

  @Test(arguments: Quantizer.allCases)
  func aChannelOfZerosKeepsItsScale(quantizer: Quantizer) throws {
    let coded = try CodedNetwork(seed: 8)
    let parameters = try coded.parameters(quantizer, hasWidth: true)
    let slot = parameters.slot("first")
    slot.elements = slot.elements.enumerated().map { $0 < 6 ? 0 : $1 }
    parameters.round()
    let codes = try parameters.codes(of: 0)!
    #expect(codes.scales.elements(as: Float.self).allSatisfy { $0.isNormal && $0 > 0 })
    #expect(codes.codes.elements(as: Int8.self).prefix(6).allSatisfy { $0 == 0 })
    slot.elementGradients = [Float](repeating: 1, count: 24)
    parameters.finishGradients()
    #expect(parameters.slots.allSatisfy { $0.elementGradients.allSatisfy { $0.isFinite } })
  }

  @Test func scalesHaveALowerBound() throws {
    let coded = try CodedNetwork(seed: 9)
    let parameters = try coded.parameters()
    let slot = parameters.slot("first.scales")
    let start = slot.elements
    slot.elements = [-1, 0, 1e-30, 5]
    parameters.boundScales()
    #expect(slot.elements == [start[0] / 8, start[1] / 8, start[2] / 8, 5])
  }

  // MARK: Bits

  @Test func bitsAreTheEntropyOfTheCodes() {
    var histogram = CodeHistogram()
    #expect(histogram.bits == 0)
    histogram.counts[127] = 8
    #expect(histogram.bits == 0)
    histogram.counts[128] = 4
    histogram.counts[126] = 4
    #expect((histogram.bits - (8 * 1 + 8 * 2)).magnitude < 1e-5)
    for (found, expected) in zip(histogram.bitsOfCodes[125...129], [5, 2, 1, 2, 5] as [Float]) {
      #expect(abs(found - expected) < 1e-6)
    }
  }

  @Test(arguments: [Quantizer.normalised, .scaled, .affine])
  func factorsOfStatisticsFollowTheBudget(quantizer: Quantizer) throws {
    let coded = try CodedNetwork(seed: 10)
    let parameters = try coded.parameters(quantizer, largest: 63)
    let threads = ThreadPool(threadCount: 1)
    func bits() -> Double { parameters.histograms().reduce(0) { $0 + $1.bits } }
    let (start, weights) = (bits(), parameters.slot("first").elements)
    for share in [0.6, 1.2] {
      var pressure = RatePressure(budget: share * start)
      for _ in 0..<300 {
        _ = pressure.apply(to: parameters, parameters.histograms(), threads)
        parameters.round()
      }
      // A few dozen weights have few entropies.
      #expect((bits() / (share * start) - 1).magnitude < 0.1)
      #expect(pressure.strength == 0)
    }
    #expect(parameters.slot("first").elements == weights)
  }

  @Test(arguments: [Quantizer.lsq, .lsqPlus, .pact])
  func pressureLowersTheEntropy(quantizer: Quantizer) throws {
    let coded = try CodedNetwork(seed: 10)
    let parameters = try coded.parameters(quantizer)
    let threads = ThreadPool(threadCount: 1)
    func bits() -> Double { parameters.histograms().reduce(0) { $0 + $1.bits } }
    let start = bits()
    var pressure = RatePressure(budget: 0.6 * start)
    for _ in 0..<100 where bits() > pressure.budget {
      _ = pressure.apply(to: parameters, parameters.histograms(), threads)
      parameters.round()
    }
    #expect(bits() <= 0.6 * start)
    #expect(pressure.strength > 0)
    // Below the budget it fades, and then changes nothing.
    for _ in 0..<2000 where pressure.strength > 0 {
      _ = pressure.apply(to: parameters, [CodeHistogram()], threads)
    }
    #expect(pressure.strength == 0)
    let numbers = parameters.snapshot()
    _ = pressure.apply(to: parameters, [CodeHistogram()], threads)
    #expect(parameters.snapshot() == numbers)
  }
}

extension Quantizer {
  /// Whether scales of weights are learned.
  fileprivate var isLearned: Bool { learnsActivations }
}
