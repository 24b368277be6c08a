import QMOperations
import QMTensor
import QMTestSupport
import QMTraining
import Testing

/// The forms of rounding against their equations, written out in double.
@Suite struct QuantizerTests {
  private func numbers(_ count: Int, seed: UInt64, mean: Float = 0) -> [Float] {
    var generator = SeededGenerator(seed: seed)
    return (0..<count).map { _ in
      (0..<4).reduce(mean) { sum, _ in sum + Float.random(in: -0.5...0.5, using: &generator) }
    }
  }

  private func statistics(_ numbers: [Float]) -> StepStatistics {
    var numbers = numbers
    return numbers.withUnsafeMutableBufferPointer {
      StepStatistics([0..<$0.count], of: $0.baseAddress!)
    }
  }

  private func round(_ number: Double) -> Double { number.rounded(.toNearestOrEven) }

  /// What a grid makes of numbers.
  private func rounded(_ numbers: [Float], _ grid: RoundingGrid) -> [Double] {
    numbers.map { Double(grid.scale * grid.code($0, inverse: 1 / grid.scale)) }
  }

  private func expectEqual(_ found: [Double], _ expected: [Double], unit: Float) {
    #expect(found.count == expected.count)
    for (left, right) in zip(found, expected) {
      #expect((left - right).magnitude < 1e-4 * Double(unit), "\(left), \(right)")
    }
  }

  /// μ, rounded to a whole number of steps, as the codes hold it.
  private func whole(_ mean: Double, _ step: Float) -> Double {
    round(mean / Double(step)) * Double(step)
  }

  // MARK: Statistics

  @Test func statisticsAreThoseOfAllRuns() {
    var numbers = numbers(100, seed: 1, mean: 3)
    let parts = [10..<30, 0..<4, 70..<100]
    let found = numbers.withUnsafeMutableBufferPointer {
      StepStatistics(parts, of: $0.baseAddress!)
    }
    let members = parts.flatMap { $0.map { Double(numbers[$0]) } }
    let mean = members.reduce(0, +) / 54
    let squares = members.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    #expect(found.count == 54)
    #expect((found.mean - mean).magnitude < 1e-12)
    #expect((found.deviation - (squares / 54).squareRoot()).magnitude < 1e-12)
    #expect((found.reach - members.map { ($0 - mean).magnitude }.max()!).magnitude < 1e-12)
  }

  @Test func gradientsOfStatisticsAreDifferences() {
    let numbers = numbers(20, seed: 2, mean: 1).map(Double.init)
    for (index, number) in numbers.enumerated() {
      func change(_ step: Float) -> StepStatistics {
        var moved = numbers.map { Float($0) }
        moved[index] += step
        return statistics(moved)
      }
      let (above, below) = (change(0x1p-10), change(-0x1p-10))
      let own = statistics(numbers.map { Float($0) })
      let deviation = (above.deviation - below.deviation) / 0x1p-9
      let reach = (above.reach - below.reach) / 0x1p-9
      #expect((own.deviationGradient(number) - deviation).magnitude < 1e-4)
      #expect((own.reachGradient(number) - reach).magnitude < 1e-4)
    }
  }

  // MARK: Forms of the statistics

  /// Q(x) = round((x − μ) / σ · 2^b), x̂ = Q(x) · σ / 2^b + μ, where μ is a whole number of steps.
  @Test(arguments: [0, 2, 3.5, 5])
  func normalised(bits: Float) {
    let weights = numbers(500, seed: 3, mean: 0.4)
    let found = statistics(weights)
    var power: Float = 1
    for _ in 0..<Int(2 * bits) { power *= Float(2).squareRoot() }
    let scale = Float(Normalised().unit(found)) / power
    // Free codes: nothing is beyond them.
    let free = Normalised().grid(scale: scale, mean: found.mean, width: nil, most: 127)
    #expect(free.lowest == -127 && free.highest == 127)
    let mean = whole(found.mean, scale)
    let codes = weights.map { round((Double($0) - mean) / found.deviation * Double(power)) }
    let equation = codes.map { $0 * found.deviation / Double(power) + mean }
    let reachable = weights.indices.filter { abs(weights[$0]) < 127 * scale }
    expectEqual(
      reachable.map { rounded(weights, free)[$0] }, reachable.map { equation[$0] }, unit: scale)
    // Codes of 4 bits around μ, and 0 if it is not among them.
    let steps = round(mean / Double(scale))
    let fixed = Normalised().grid(scale: scale, mean: found.mean, width: 7, most: 127)
    expectEqual(
      rounded(weights, fixed),
      codes.map { min(max($0, min(-8, -steps)), 7) * found.deviation / Double(power) + mean },
      unit: scale)
  }

  /// Q(x) = sign(n) · round(R · |n| / max |n|) of n = (x − μ) / σ; x̂ = Q(x) · max |x − μ| / R + μ.
  @Test(arguments: [Float(1), 7, 31])
  func scaled(largest: Float) {
    // Symmetric to a mean that is a whole number of steps: one that the codes hold exactly.
    let half = numbers(200, seed: 4)
    let reach = half.map(abs).max()!
    let mean = 2 * (reach / largest)
    let weights = half.map { $0 + mean } + half.map { mean - $0 }
    let found = statistics(weights)
    let scale = Float(Scaled().unit(found)) / largest
    #expect(abs(scale / (reach / largest) - 1) < 1e-5)
    let grid = Scaled().grid(scale: scale, mean: found.mean, width: largest, most: 127)
    let normalised = weights.map { (Double($0) - found.mean) / found.deviation }
    let most = normalised.map(\.magnitude).max()!
    let equation = normalised.map { number in
      let code = round(Double(largest) * number.magnitude / most)
      return (number < 0 ? -1 : 1) * code * found.reach / Double(largest) + found.mean
    }
    // Numbers halfway between two codes may go to either.
    let inner = weights.indices.filter {
      let place = normalised[$0].magnitude / most * Double(largest)
      return (place - place.rounded(.down) - 0.5).magnitude > 1e-3
    }
    #expect(inner.count > 390)
    expectEqual(inner.map { rounded(weights, grid)[$0] }, inner.map { equation[$0] }, unit: scale)
    #expect(weights.allSatisfy { grid.range.contains($0) })
  }

  /// Q(x) = clamp(round(x / s + b), lowest, highest), x̂ = (Q(x) − b) · s, with the range from mean and
  /// variance: μ ± k · σ on [lowest, highest].
  @Test(arguments: [Float(2), 3])
  func affine(deviations: Float) {
    let weights = numbers(500, seed: 5, mean: 0.2)
    let found = statistics(weights)
    func equation(_ lowest: Double, _ highest: Double) -> (step: Double, rounded: [Double]) {
      let step = 2 * Double(deviations) * found.deviation / (highest - lowest)
      let offset = round(
        lowest - (found.mean - Double(deviations) * found.deviation) / step - 0.25)
      return (
        step,
        weights.map {
          (min(max(round(Double($0) / step + offset), lowest), highest) - offset) * step
        }
      )
    }
    // 8 bits: the codes of int8 end before those of the equation if μ is not 0.
    let (step, expected) = equation(-128, 127)
    let scale = Float(Affine().unit(found)) * 2 * deviations / 255
    #expect((Double(scale) / step - 1).magnitude < 1e-6)
    let grid = Affine().grid(scale: scale, mean: found.mean, width: 127, most: 127)
    #expect(grid.lowest == min(max(-128 + (Float(found.mean) / scale).rounded(), -127), 0))
    #expect(grid.highest == 127)
    let reachable = weights.indices.filter {
      grid.range.contains(weights[$0]) && expected[$0] < 127 * step
        && (Double(weights[$0]) - found.mean).magnitude < Double(deviations) * found.deviation
          - step
    }
    #expect(reachable.count > 400)
    expectEqual(
      reachable.map { rounded(weights, grid)[$0] }, reachable.map { expected[$0] }, unit: scale)
    // [0, 255] are the same numbers, [−128, 255] as many in 383 steps instead of 255.
    expectEqual(equation(0, 255).rounded, expected, unit: scale)
    let wide = equation(-128, 255)
    #expect((wide.step * 383 / 255 / step - 1).magnitude < 1e-12)
  }

  /// An activation's codes hold μ − below · u to μ + above · u, where u is the form's statistic:
  ///
  ///     Q(x) = clamp(round(x / s + b), lowest, highest)     x̂ = (Q(x) − b) · s
  ///     s = (below + above) · u / (highest − lowest)        b = round(lowest − (μ − below · u) / s)
  ///
  /// In steps of u / 2^b the range is that of ``Normalised``, with u = max |x − μ| and one step of u / R
  /// that of ``Scaled``, with below = above that of ``Affine``.
  @Test(arguments: [ElementType.int8, .uint8])
  func rangesOfActivations(elementType: ElementType) throws {
    let activations = numbers(500, seed: 9, mean: 0.3)
    let found = statistics(activations)
    let codes = try #require(elementType.codes)
    let (lowest, highest) = (Double(codes.lowerBound), Double(codes.upperBound))
    let forms: [(any StatisticForm, unit: Double, below: Double, above: Double)] = [
      // 2^5 steps per deviation.
      (Normalised(), found.deviation, 128 / 32, 127 / 32),
      (Scaled(), found.reach, 1, 1), (Affine(), found.deviation, 2.5, 2.5),
      (Affine(), found.deviation, 1.5, 3),
    ]
    for (form, unit, below, above) in forms {
      #expect(form.unit(found) == unit)
      let parameters = form.parameters(
        elementType, mean: found.mean, unit: unit, below: below, above: above)
      #expect(throws: Never.self) { try parameters.check() }
      let step = (below + above) * unit / (highest - lowest)
      let offset = round(lowest - (found.mean - below * unit) / step)
      #expect((Double(parameters.scale) / step - 1).magnitude < 1e-6)
      #expect(Double(parameters.zeroPoint) == offset)
      let equation = activations.map {
        (min(max(round(Double($0) / step + offset), lowest), highest) - offset) * step
      }
      // Numbers halfway between two codes may go to either.
      let inner = activations.indices.filter {
        let place = Double(activations[$0]) / step
        return (place - place.rounded(.down) - 0.5).magnitude > 1e-3
      }
      #expect(inner.count > 450)
      let rounded = rounded(activations, RoundingGrid(parameters))
      expectEqual(inner.map { rounded[$0] }, inner.map { equation[$0] }, unit: parameters.scale)
      if form is Normalised { #expect((step * 32 / unit - 1).magnitude < 1e-12) }
    }
  }

  @Test(arguments: [Float(-30), -2, 0, 0.4, 50])
  func zeroIsANumberOfEveryGrid(mean: Float) {
    let weights = numbers(100, seed: 6, mean: mean)
    let found = statistics(weights)
    for form in [Normalised(), Scaled(), Affine()] as [any StatisticForm] {
      for width: Float? in [nil, 1, 7, 127] {
        let grid = form.grid(scale: 0.25, mean: found.mean, width: width, most: 63)
        #expect(grid.code(0, inverse: 4) == 0)
        #expect(grid.lowest >= -127 && grid.highest <= 127)
      }
    }
  }

  // MARK: Learned forms

  /// Rounded numbers and sums over them.
  private func sums(_ numbers: [Float], _ gradients: [Float], _ grid: RoundingGrid) -> (
    rounded: [Float], passed: [Bool], sums: RoundingSums
  ) {
    var rounded = numbers.map { grid.scale * grid.code($0, inverse: 1 / grid.scale) }
    let codes = rounded
    var (numbers, gradients) = (numbers, gradients)
    var passed = [Bool](repeating: false, count: numbers.count)
    let sums = numbers.withUnsafeMutableBufferPointer { numbers in
      rounded.withUnsafeMutableBufferPointer { rounded in
        gradients.withUnsafeMutableBufferPointer { gradients in
          passed.withUnsafeMutableBufferPointer { passed in
            let passed = passed
            return RoundingSums(
              0..<numbers.count, of: grid, numbers.baseAddress!, rounded: rounded.baseAddress!,
              gradients: gradients.baseAddress!
            ) { first, gradients in
              for index in first..<min(first + 16, passed.count) {
                passed[index] = gradients[index - first] != 0
              }
            }
          }
        }
      }
    }
    return (codes, passed, sums)
  }

  private static let parameters = [
    QuantizationParameters(.uint8, scale: 0.01, zeroPoint: 0),
    QuantizationParameters(.uint8, scale: 0.01, zeroPoint: 100),
    QuantizationParameters(.int8, scale: 0.01, zeroPoint: -20),
  ]

  @Test(arguments: parameters)
  func gradientsOfActivationsAreTheEquations(parameters: QuantizationParameters) {
    let numbers = numbers(2000, seed: 7).map { 2 * $0 }
    let gradients = self.numbers(2000, seed: 8)
    let grid = RoundingGrid(parameters)
    let (_, passed, sums) = sums(numbers, gradients, grid)
    let codes = parameters.elementType.codes!
    let (scale, zero) = (Double(parameters.scale), Double(parameters.zeroPoint))
    let (lowest, highest) = (Double(codes.lowerBound), Double(codes.upperBound))
    var (learnedStep, learnedOffset, clipped) = (0.0, (scale: 0.0, offset: 0.0), 0.0)
    for (index, number) in numbers.map(Double.init).enumerated() {
      let (steps, gradient) = (number / scale + zero, Double(gradients[index]))
      let code = min(max(round(steps), lowest), highest)
      let isInside = steps >= lowest - 0.5 && steps <= highest + 0.5
      #expect(passed[index] == isInside)
      // x̂ = (code − z) · s; with β = −z · s, x̂ = code · s + β.
      learnedStep += gradient * (isInside ? code - steps : code - zero)
      learnedOffset.scale += gradient * (isInside ? code - steps : code)
      learnedOffset.offset += gradient * (isInside ? 0 : 1)
      clipped += gradient * (isInside ? 0 : code - zero)
    }
    #expect(sums.count == 2000 && sums.beyond == passed.count { !$0 } && sums.beyond > 20)
    func expectEqual(_ found: Double, _ expected: Double) {
      #expect((found - expected).magnitude < 1e-3 * max(expected.magnitude, 1))
    }
    expectEqual(LearnedStep.scaleGradient(sums, grid), learnedStep)
    expectEqual(ClippedActivation.scaleGradient(sums, grid), clipped)
    expectEqual(LearnedOffset.gradients(sums, parameters).scale, learnedOffset.scale)
    expectEqual(LearnedOffset.gradients(sums, parameters).offset, learnedOffset.offset)
  }

  /// Where everything is beyond the range, rounding is a straight line in s and β, and the gradients
  /// are its slopes.
  @Test func gradientsBeyondTheRangeAreDifferences() {
    let (numbers, gradients): ([Float], [Float]) = ([9, -9, 8, -7], [0.5, 1, -2, 0.25])
    func loss(_ scale: Double, _ offset: Double) -> Double {
      zip(numbers, gradients).reduce(0) {
        $0 + Double($1.1) * (($1.0 > 0 ? 127 : -128) * scale + offset)
      }
    }
    let parameters = QuantizationParameters(.int8, scale: 0.01, zeroPoint: 5)
    let sums = sums(numbers, gradients, RoundingGrid(parameters)).sums
    let found = LearnedOffset.gradients(sums, parameters)
    #expect((found.scale - (loss(1.01, 0) - loss(0.01, 0))).magnitude < 1e-9)
    #expect((found.offset - (loss(0, 1) - loss(0, 0))).magnitude < 1e-9)
    // The bound α = highest · s of a range from 0: its slope is the sum above.
    let unsigned = QuantizationParameters(.uint8, scale: 0.01, zeroPoint: 0)
    let clipped = self.sums([9, 0.5, 8], [0.5, 1, -2], RoundingGrid(unsigned)).sums
    #expect(ClippedActivation.scaleGradient(clipped, RoundingGrid(unsigned)) / 255 == -1.5)
  }

  @Test func offsetsBecomeWholeZeroPoints() {
    func zeroPoint(_ offset: Float) -> Int32 {
      LearnedOffset.zeroPoint(offset: offset, scale: 0.5, codes: -128...127)
    }
    #expect(zeroPoint(0) == 0 && zeroPoint(-5) == 10 && zeroPoint(5.2) == -10)
    #expect(zeroPoint(1e9) == -128 && zeroPoint(-.infinity) == 127)
  }
}
